import logging
from types import SimpleNamespace
from typing import cast

import pytest
from flwr.proto.control_pb2 import RegisterNodeRequest, UnregisterNodeRequest
from flwr.supercore.control.control_http_client import ControlHttpClient

from server.control import ONLINE, UNREGISTERED, let_in


class SuperLink:
    """What of the Control API registers nodes."""

    def __init__(self, **nodes: str) -> None:
        self.nodes = [
            SimpleNamespace(public_key=key.encode(), node_id=number, status=status)
            for number, (key, status) in enumerate(nodes.items())
        ]
        self.done: list[object] = []

    def ListNodes(self, request: object) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(nodes_info=self.nodes)

    def UnregisterNode(self, request: UnregisterNodeRequest) -> None:  # noqa: N802
        self.done.append(request.node_id)

    def RegisterNode(self, request: RegisterNodeRequest) -> None:  # noqa: N802
        self.done.append(request.name)


def test_nodes_are_made_the_members_whoever_registered_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    superlink = SuperLink(ash=ONLINE, stranger=ONLINE, former=UNREGISTERED)
    let_in(cast(ControlHttpClient, superlink), {b"ash": "ash", b"birch": "birch"})
    assert superlink.done == [1, "birch"], "shut out first, then let in"
    assert "node 1 is no member's and was shut out" in caplog.text
