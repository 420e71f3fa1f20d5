import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client.policy import RoundOpenedError, RoundReplayedError
from common import messages as wire
from common.errors import AggregationError
from common.timings import Timings
from common.trail.events import RunEnded, WasRefused, WasRefusedAgain
from common.trail.examination import read
from common.trail.file import files_of
from server import exchange as module
from server.adverts import Adverts
from server.exchange import TRIPS, Exchange
from server.owners import Owners
from server.tables import STAGES
from simulations.grid import SERVER_NODE, Absent, InProcessGrid, nobody_leaves
from simulations.rehearsal import Rehearsal
from tests.common.trail.logs import trail_at

NAMES = ("ash", "birch", "cedar")
NODES = dict(zip((5, 6, 7), NAMES, strict=True))
PLAN_HASH = "aa"
Answer = Callable[[Message, str], Message]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(module, "JOIN_SECONDS", 0.01)


def reply(message: Message, answer: wire.WireMessage) -> Message:
    return Message(answer.to_record(), reply_to=message)


def honest(message: Message, name: str) -> Message:
    """Join under one's name; answer any other request with the name as advert."""
    if message.metadata.message_type == "query.join":
        return reply(message, wire.JoinReply(name, PLAN_HASH, len(name)))
    return reply(message, wire.AdvertiseReply(name.encode(), b""))


def serve(
    answer: Answer = honest,
    absent: Absent = nobody_leaves,
    grid_type: type[InProcessGrid] = InProcessGrid,
) -> InProcessGrid:
    app = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        return answer(message, NODES[context.node_id])

    app.query("join")(handle)
    app.query("advertise")(handle)
    return grid_type(app, NODES, absent)


def joined(grid: InProcessGrid, timeout: float = 5.0) -> Exchange:
    exchange = Exchange(grid, timeout)
    exchange.join("run", NAMES, PLAN_HASH)
    return exchange


def ask(exchange: Exchange, names: Iterable[str] = NAMES) -> dict[str, wire.AdvertiseReply]:
    requests = dict.fromkeys(names, wire.AdvertiseRequest("run", 0, 1))
    return exchange.call(requests, wire.AdvertiseReply, "0/1")


def answered(exchange: Exchange) -> list[str]:
    """Return who answered, having checked that each reply is its own institution's."""
    replies = ask(exchange)
    assert all(answer.advert == name.encode() for name, answer in replies.items())
    return sorted(replies)


def test_replies_are_known_by_name() -> None:
    exchange = joined(serve())
    assert answered(exchange) == list(NAMES)
    assert list(ask(exchange, ["birch"])) == ["birch"]
    assert ask(exchange, []) == {}


def test_members_are_asked_to_join_with_what_is_known_of_them() -> None:
    asked: list[wire.JoinRequest] = []

    def noting(message: Message, name: str) -> Message:
        if message.metadata.message_type == "query.join":
            asked.append(wire.JoinRequest.from_record(message.content))
        return honest(message, name)

    rehearsal = replace(Rehearsal.of(3), names=NAMES)
    adverts = Adverts()
    for roster in (rehearsal.roster, None):
        exchange = Exchange(serve(noting), 5.0, roster, adverts)
        exchange.join("run", NAMES, PLAN_HASH)
        adverts.keep(rehearsal.roster, rehearsal.session, rehearsal.offers)
        Exchange(serve(noting), 5.0, roster, adverts).join("run", NAMES, PLAN_HASH)
    known = adverts.of(rehearsal.roster)
    assert asked[:3] == [wire.JoinRequest("run")] * 3
    assert asked[3:6] == [wire.JoinRequest("run", list(NAMES), list(known.values()))] * 3
    assert asked[6:] == [wire.JoinRequest("run")] * 6


def only_for(name: str, wrong: Answer) -> Answer:
    def answer(message: Message, mine: str) -> Message:
        if mine == name and message.metadata.message_type != "query.join":
            return wrong(message, mine)
        return honest(message, mine)

    return answer


def crash(message: Message, name: str) -> Message:
    return Message(Error(0, "it broke"), reply_to=message)


TOLD = wire.Refusal("").to_record()
WRONG: dict[str, Answer] = {
    "refusal": lambda message, name: reply(message, wire.Refusal("protocol")),
    "error": crash,
    "another kind": lambda message, name: reply(message, wire.UnmaskReply(b"", b"")),
    "empty": lambda message, name: Message(RecordDict(), reply_to=message),
    "a malformed refusal": lambda message, name: Message(
        RecordDict({wire.RECORD: TOLD[wire.RECORD], "more": TOLD[wire.RECORD]}),
        reply_to=message,
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_reply_is_an_absence(name: str, wrong: str) -> None:
    exchange = joined(serve(only_for(name, WRONG[wrong])))
    assert answered(exchange) == [other for other in NAMES if other != name]


def test_refusals_without_end_are_few_lines_of_the_log(tmp_path: Path) -> None:
    told = iter(range(10_000))

    def otherwise(message: Message, name: str) -> Message:
        refused = reply(message, wire.Refusal(f"for reason {next(told)}"))
        refused.metadata.message_type = f"query.asked{next(told)}"
        return refused

    log = trail_at(tmp_path, "federation", "server")
    exchange = Exchange(serve(only_for("ash", otherwise)), 5.0, trail=log)
    exchange.join("run", NAMES, PLAN_HASH)
    for _ in range(30):
        assert "ash" not in ask(exchange, ["ash"])
    log.append(RunEnded(run="run", outcome="finished", error=""))
    events = [line.event for line in read(files_of(log.folder)).lines]
    heard = [one for one in events if isinstance(one, WasRefused)]
    assert heard == [WasRefused(institution="ash", what="advertise", told="for reason 0")]
    again = [one for one in events if isinstance(one, WasRefusedAgain)]
    assert {(one.institution, one.what, one.told) for one in again} == {
        ("ash", "advertise", "other")
    }
    assert sum(one.times for one in again) == 29
    assert len(again) < 3


def test_a_refusal_is_logged_by_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    ask(joined(serve(only_for("ash", WRONG["refusal"]))))
    assert "ash refused: protocol" in caplog.text
    ask(joined(serve(only_for("elm", WRONG["refusal"]))))
    assert caplog.text.count("refused") == 1


@pytest.mark.parametrize("node", NODES)
def test_a_dead_nodes_error_from_the_server_is_matched_by_message(
    node: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(message: Message) -> bool:
        facts = message.metadata
        return facts.dst_node_id == node and facts.message_type == "query.advertise"

    grid = serve(absent=dead)
    senders: list[int] = []
    pull = grid.pull_messages

    def watched(identifiers: Iterable[str]) -> Iterable[Message]:
        messages = list(pull(identifiers))
        senders.extend(message.metadata.src_node_id for message in messages)
        return messages

    exchange = joined(grid)
    monkeypatch.setattr(grid, "pull_messages", watched)
    assert answered(exchange) == [name for other, name in NODES.items() if other != node]
    assert sorted(senders) == sorted({*NODES, SERVER_NODE} - {node})


class Disorderly(InProcessGrid):
    """Returns replies in reverse, together with one that answers no request of this trip."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = list(super().pull_messages(message_ids))
        stray = [Message(RecordDict(), reply_to=message) for message in found[:1]]
        for message in stray:
            message.metadata.__dict__["_reply_to_message_id"] = "another"
        return stray + found[::-1]


def test_order_and_strays_do_not_matter() -> None:
    assert answered(joined(serve(grid_type=Disorderly))) == list(NAMES)


class Deaf(InProcessGrid):
    """Loses what is pushed to the first node, with or without an identifier."""

    identifiers: tuple[str, ...] = ("lost",)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        (message,) = messages
        facts = message.metadata
        if facts.dst_node_id == 5 and facts.message_type != "query.join":
            return self.identifiers
        return super().push_messages([message])


class Full(Deaf):
    identifiers = ()


@pytest.mark.parametrize("grid_type", [Deaf, Full])
def test_silence_is_an_absence_after_the_timeout(grid_type: type[InProcessGrid]) -> None:
    exchange = joined(serve(grid_type=grid_type), timeout=0.2)
    assert answered(exchange) == ["birch", "cedar"]
    assert answered(exchange) == ["birch", "cedar"]


def test_traffic_is_what_the_grid_carried() -> None:
    grid = serve(only_for("ash", crash))
    exchange = joined(grid)
    assert (exchange.traffic.up, exchange.traffic.down) == ({}, {})
    up, down = grid.bytes_up, grid.bytes_down
    ask(exchange)
    ask(exchange, ["birch"])
    assert sum(exchange.traffic.up.values()) == grid.bytes_up - up
    # The grid also gives each message its number: tag, length and one digit.
    assert sum(exchange.traffic.down.values()) == grid.bytes_down - down - 4 * 3
    assert exchange.traffic.down["birch"] > exchange.traffic.down["ash"] > 0
    assert set(exchange.traffic.up) == set(NAMES)


def test_seconds_are_told_by_trip_and_joining_is_none() -> None:
    exchange = joined(serve())
    assert exchange.traffic.seconds == {}
    ask(exchange)
    (stage,) = exchange.traffic.seconds
    assert stage in STAGES
    assert exchange.traffic.seconds[stage] > 0


def claim(name: str, plan_hash: str = PLAN_HASH) -> Answer:
    """Let birch claim something else."""

    def answer(message: Message, mine: str) -> Message:
        if mine == "birch":
            return reply(message, wire.JoinReply(name, plan_hash, 0))
        return honest(message, mine)

    return answer


def refuse(reason: str) -> Answer:
    """Let birch refuse whatever it is asked."""

    def answer(message: Message, mine: str) -> Message:
        return reply(message, wire.Refusal(reason)) if mine == "birch" else honest(message, mine)

    return answer


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (claim("birch", "bb"), "birch approved another plan: agree on aa"),
        (claim("oak"), "birch did not join within 0.1 s: start"),
        (claim("ash"), "did not join within 0.1 s"),
        (refuse("not approved"), r"birch did not join within 0.1 s \(1 refused: not approved; "),
        (refuse("\33[2J" + "x" * 99), rf"1 refused:  \[2J{'x' * 76}; "),
        (only_for("ash", crash), None),
    ],
)
def test_all_members_must_join_under_the_plan(answer: Answer, problem: str | None) -> None:
    if problem is None:
        assert len(ask(joined(serve(answer), 0.1))) == 2
        return
    with pytest.raises(AggregationError, match=problem):
        joined(serve(answer), 0.1)


def test_who_is_waited_for_is_told_by_name_and_each_reason_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The nodes' numbers say nothing to people; cedar has never connected."""
    told: list[dict[str, str]] = []
    grid = serve(refuse("privacy budget"))
    grid.get_node_ids = lambda: [5, 6]  # type: ignore[method-assign]
    exchange = Exchange(grid, 0.3, owners=lambda: NODES, awaits=lambda all_: told.append({**all_}))
    with pytest.raises(AggregationError, match="birch, cedar did not join"):
        exchange.join("run", NAMES, PLAN_HASH)
    waited = {"birch": "privacy budget", "cedar": "not connected"}
    assert len(told) > 2
    assert told == [waited] * (len(told) - 1) + [{}]
    assert caplog.text.count("birch refused: privacy budget") == 1
    assert caplog.text.count("refused") == 1


def test_nodes_that_come_late_are_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    calls: list[int] = []

    def late(message: Message) -> bool:
        calls.append(message.metadata.dst_node_id)
        return message.metadata.dst_node_id == 6 and calls.count(6) < 3

    assert answered(joined(serve(absent=late))) == list(NAMES)
    assert calls.count(6) >= 3
    assert "is gone" in caplog.text


def test_every_request_has_its_own_trip() -> None:
    assert len(set(TRIPS.values())) == len(TRIPS) == 7
    assert all(trip.split(".")[0] in {"query", "train"} for trip in TRIPS.values())


class Scattered(InProcessGrid):
    """Knows of one more connected node each time it is asked, once the members have joined."""

    looks = -1

    def get_node_ids(self) -> Iterable[int]:
        self.looks += 1
        return list(NODES)[: self.looks] if self.looks else list(NODES)


def test_the_connected_are_waited_for_until_there_are_enough() -> None:
    grid = serve(grid_type=Scattered)
    exchange = joined(grid)
    assert isinstance(grid, Scattered)
    exchange.await_connected(2)
    assert grid.looks == 2
    exchange.await_connected(2)
    assert grid.looks == 3


def test_the_connected_are_waited_for_no_longer_than_a_trip() -> None:
    exchange = joined(serve(), timeout=0.1)
    exchange.await_connected(len(NAMES) + 1)
    assert answered(exchange) == list(NAMES)


@pytest.mark.parametrize("reason", sorted(module.OVER))
def test_who_says_that_a_round_is_over_is_noted(reason: str) -> None:
    told = {"ash": reason, "birch": "privacy budget"}

    def refusing(message: Message, name: str) -> Message:
        if message.metadata.message_type == "query.join" or name not in told:
            return honest(message, name)
        return reply(message, wire.Refusal(told[name]))

    exchange = joined(serve(refusing))
    assert exchange.finished == set()
    assert answered(exchange) == ["cedar"]
    assert exchange.finished == {"ash"}


def test_what_says_that_a_round_is_over_is_what_institutions_say() -> None:
    assert {RoundOpenedError.reason, RoundReplayedError.reason} == module.OVER


def test_a_trip_is_timed_and_its_bytes_counted() -> None:
    timings = Timings()
    exchange = Exchange(serve(), 5.0, timings=timings)
    exchange.join("run", NAMES, PLAN_HASH)
    assert sum(timings.tally.stages["join"].counts) == 1
    exchange.call({"ash": wire.AdvertiseRequest("run", 0, 1)}, wire.AdvertiseReply, "0/1")
    assert sum(timings.tally.stages["advertise"].counts) == 1
    traffic = exchange.traffic
    assert timings.tally.sent > traffic.down["ash"] > 0
    assert timings.tally.received > traffic.up["ash"] > 0
    exchange.call({}, wire.AdvertiseReply, "0/1")
    assert timings.tally.stages.keys() == {"join", "advertise"}


def meet(
    *says: str, owners: Owners | None = None
) -> tuple[dict[str, wire.OfferReply], list[str], Exchange]:
    """Meet nodes that give these names, in the order of their numbers."""
    app = ClientApp()
    given = dict(zip(NODES, says, strict=True))

    @app.query("offer")
    def offer(message: Message, context: Context) -> Message:
        return reply(message, wire.OfferReply(given[context.node_id], []))

    exchange = Exchange(InProcessGrid(app, NODES), 5.0, owners=owners)
    return (*exchange.meet(wire.OfferRequest(b"", []), NAMES, "run"), exchange)


def test_whoever_is_met_is_known_by_name() -> None:
    found, refused, exchange = meet("cedar", "ash", "birch")
    assert (sorted(found), refused) == ([*NAMES], [])
    with pytest.raises(KeyError):
        exchange.call({"oak": wire.OfferRequest(b"", [])}, wire.OfferReply, "run")


@pytest.mark.parametrize("says", [("ash", "ash", "cedar"), ("ash", "cedar", "ash")])
def test_a_name_that_two_nodes_give_is_neithers(says: tuple[str, ...]) -> None:
    found, refused, exchange = meet(*says)
    assert [*found] == ["cedar"]
    assert refused == ["two nodes say they are ash: shut the wrong one out"]
    with pytest.raises(KeyError):
        exchange.call({"ash": wire.OfferRequest(b"", [])}, wire.OfferReply, "run")


def test_a_node_answers_in_no_name_but_its_owners() -> None:
    owners = lambda: NODES  # noqa: E731
    found, refused, exchange = meet("birch", "birch", "cedar", owners=owners)
    assert (sorted(found), refused) == (
        ["birch", "cedar"],
        ["the node of ash says it is birch: left out"],
    )
    # Nor while the other is away: what nobody's key answers is not even asked.
    found, refused, exchange = meet("cedar", "oak", "cedar", owners=lambda: {5: "ash"})
    assert (found, refused) == ({}, ["the node of ash says it is cedar: left out"])
    with pytest.raises(KeyError):
        exchange.call({"cedar": wire.OfferRequest(b"", [])}, wire.OfferReply, "run")


def test_a_node_joins_in_no_name_but_its_owners(caplog: pytest.LogCaptureFixture) -> None:
    late = iter([{6: "birch"}])
    exchange = Exchange(serve(claim("cedar")), 0.3, owners=lambda: next(late, NODES))
    # It is asked before the one whose name it takes, and gains nothing by it.
    with pytest.raises(AggregationError, match=r"^birch did not join within 0.3 s"):
        exchange.join("run", NAMES, PLAN_HASH)
    assert "the node of birch says it is cedar: left out" in caplog.text
    exchange = Exchange(serve(), 5.0, owners=lambda: NODES)
    exchange.join("run", NAMES, PLAN_HASH)
    assert answered(exchange) == [*NAMES]


def test_a_strangers_name_is_left_out() -> None:
    found, refused, _ = meet("ash", "oak", "oak")
    assert ([*found], refused) == (["ash"], [])
