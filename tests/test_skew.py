"""A server and an institution of different protocols, each reading the other's messages."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from common import __version__
from common import messages as wire
from common.errors import AggregationError
from common.versions import PROTOCOL_VERSION
from server import exchange
from server.exchange import Exchange
from tests.support import FIRST_NODE, connect, node_of, small_plan

PLAN = small_plan(aggregation={"kind": "plain", "timeout": 5.0})
MEMBER = node_of(PLAN, "birch")
OLDER, NEWER = PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "JOIN_SECONDS", 0.01)


def altered(message: Message, change: Change) -> Message:
    body: dict[str, Any] = dict(message.content[wire.RECORD])
    change(body)
    message.content = RecordDict({wire.RECORD: ConfigRecord(body)})
    return message


def through(to: Change, back: Change) -> Callable[[ClientApp], ClientApp]:
    """Change what birch reads and what is read of it."""

    def wrap(app: ClientApp) -> ClientApp:
        def between(message: Message, context: Context) -> Message:
            if context.node_id != MEMBER:
                return app(message, context)
            return altered(app(altered(message, to), context), back)

        outer = ClientApp()
        outer.query("join")(between)
        outer.query("advertise")(between)
        return outer

    return wrap


def speaking(protocol: int, release: str) -> Change:
    """Return a change to another version's message, which has fields that this one has not."""

    def change(body: dict[str, Any]) -> None:
        body |= {"version": protocol, "added": [1.5, 2.5]}
        if "release" in body:
            body["release"] = release

    return change


def unchanged(body: dict[str, Any]) -> None:
    """Leave a message as it is."""


@pytest.mark.parametrize(
    ("member", "server", "late"), [(OLDER, NEWER, "birch"), (NEWER, OLDER, "this server")]
)
def test_another_protocol_is_refused_by_name_on_both_sides(
    member: int, server: int, late: str, caplog: pytest.LogCaptureFixture
) -> None:
    # To each side the other is as far off as it is from it, so that one code can act both.
    wrap = through(speaking(server, "9.1.0"), speaking(member, "9.2.0"))
    with pytest.raises(AggregationError) as caught:
        connect(PLAN, wrap=wrap)
    assert str(caught.value) == (
        f"birch speaks protocol {member} (fedprune 9.2.0), this server protocol"
        f" {PROTOCOL_VERSION} (fedprune {__version__}): upgrade {late}"
    )
    mine = "this institution" if late == "birch" else "the server"
    assert (
        f"refused join: the server speaks protocol {server} (fedprune 9.1.0), this institution"
        f" protocol {PROTOCOL_VERSION} (fedprune {__version__}): upgrade {mine}"
    ) in caplog.messages


def test_a_member_that_gives_no_name_is_told_by_its_node() -> None:
    plan = small_plan(aggregation={"kind": "plain", "timeout": 0.3})

    def nameless(body: dict[str, Any]) -> None:
        body.clear()
        body |= {"version": 3, "kind": "refused", "reason": "protocol"}

    with pytest.raises(AggregationError) as caught:
        connect(plan, wrap=through(unchanged, nameless))
    node = f"node {FIRST_NODE + 1}"
    assert f"{node} speaks protocol 3, this server protocol {PROTOCOL_VERSION}" in str(caught.value)
    assert f"upgrade {node}; birch did not join within 0.3 s" in str(caught.value)


def test_another_release_of_the_same_protocol_takes_part(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    same = speaking(PROTOCOL_VERSION, "0.9.7")

    def release(body: dict[str, Any]) -> None:
        same(body)
        del body["added"]

    joined, _ = connect(PLAN, wrap=through(release, release))
    assert advertised(joined) == set(PLAN.names)
    assert "birch runs fedprune '0.9.7'" in caplog.text


def test_an_unknown_field_of_our_own_protocol_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan = small_plan(aggregation={"kind": "plain", "timeout": 0.3})
    more = speaking(PROTOCOL_VERSION, __version__)
    for to, back, said in (
        (more, unchanged, "refused join: message 'join' has unknown"),
        (unchanged, more, "sent a malformed reply: message 'joined' has unknown"),
    ):
        with pytest.raises(AggregationError, match=r"^birch did not join within"):
            connect(plan, wrap=through(to, back))
        assert said in caplog.text


def test_a_member_that_changes_its_protocol_under_way_is_absent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def later(body: dict[str, Any]) -> None:
        if body["kind"] not in {"join", "joined"}:
            speaking(NEWER, "9.2.0")(body)

    joined, _ = connect(PLAN, wrap=through(later, later))
    assert advertised(joined) == set(PLAN.names) - {"birch"}
    assert f"birch speaks protocol {NEWER} (fedprune 9.2.0), this server" in caplog.text


def advertised(joined: Exchange) -> set[str]:
    """Return who answers the trip after joining."""
    request = wire.AdvertiseRequest("run", 0, 1)
    return set(joined.call(dict.fromkeys(PLAN.names, request), wire.AdvertiseReply, "0/1"))
