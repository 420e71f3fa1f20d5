import logging
from types import SimpleNamespace
from typing import cast

import httpx
import pytest
from flwr.proto.control_pb2 import RegisterNodeRequest, UnregisterNodeRequest
from flwr.supercore.control.control_http_client import ControlHttpClient

from server.control import ONLINE, UNREGISTERED, let_in


class SuperLink:
    """What of the Control API registers nodes."""

    def __init__(self, **nodes: str) -> None:
        self.nodes = [
            SimpleNamespace(public_key=key.encode(), node_id=number, status=status, name=key)
            for number, (key, status) in enumerate(nodes.items())
        ]
        self.done: list[object] = []

    def ListNodes(self, request: object) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(nodes_info=self.nodes)

    def UnregisterNode(self, request: UnregisterNodeRequest) -> None:  # noqa: N802
        self.done.append(request.node_id)

    def RegisterNode(self, request: RegisterNodeRequest) -> None:  # noqa: N802
        if request.public_key in {node.public_key for node in self.nodes}:
            asked = httpx.Request("POST", "https://127.0.0.1/v1/control/register-node")
            refused = httpx.Response(412, request=asked)
            raise httpx.HTTPStatusError("412", request=asked, response=refused)
        self.done.append(request.name)


def test_nodes_are_made_the_members_whoever_registered_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    superlink = SuperLink(ash=ONLINE, stranger=ONLINE, former=UNREGISTERED)
    let_in(cast(ControlHttpClient, superlink), {b"ash": "ash", b"birch": "birch"})
    assert superlink.done == [1, "birch"], "shut out first, then let in"
    assert "node 1 is no member's and was shut out" in caplog.text


def test_a_node_that_was_shut_out_keeps_nobody_else_out(caplog: pytest.LogCaptureFixture) -> None:
    superlink = SuperLink(ash=UNREGISTERED)
    let_in(cast(ControlHttpClient, superlink), {b"ash": "ash", b"birch": "birch"})
    assert superlink.done == ["birch"]
    assert "ash may not connect: its node key was shut out before" in caplog.text
    assert "fedprune-client rotate" in caplog.text


def test_a_node_whose_key_cannot_be_read_is_not_shut_out() -> None:
    superlink = SuperLink(ash=ONLINE, birch=ONLINE)
    let_in(cast(ControlHttpClient, superlink), {}, {"ash"})
    assert superlink.done == [1]
