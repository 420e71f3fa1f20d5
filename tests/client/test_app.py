"""The app as the server meets it: every failure is a refusal that tells its reason alone."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.common.serde import message_to_proto

from client.app import build_app
from client.data import Splits
from client.memory import Memory
from client.policy import (
    CohortChangedError,
    EpochReplayedError,
    MaskRefusedError,
    ModelChangedError,
    RingChangedError,
    RoundOutsidePlanError,
    RoundReplayedError,
    RunChangedError,
    SegmentsChangedError,
    ThresholdChangedError,
)
from client.stages import Institution
from common import messages as wire
from common.crypto import refusals
from common.errors import BudgetError, DataError, ProtocolError
from common.pruning.masks import Mask, pack_mask
from common.versions import PROTOCOL_VERSION
from server.exchange import TRIPS
from simulations.grid import InProcessGrid
from tests.common.trail.logs import trail_at
from tests.support import (
    describe,
    mask_keeping,
    request_of,
    small_institution,
    small_plan,
    start_of,
)

NODE = 7
PLAN = small_plan(aggregation={"kind": "plain"})
MODEL = start_of(PLAN, round_number=3, epoch=4)
GOOD = describe(PLAN, MODEL)


def first(count: int) -> Mask:
    """Return the mask that keeps so many weights."""
    return mask_keeping(PLAN, count)


def send(grid: InProcessGrid, request: wire.WireMessage) -> Message:
    message = Message(request.to_record(), NODE, TRIPS[type(request)])
    (reply,) = grid.send_and_receive([message])
    return reply


def app_of(institution: Institution | Callable[[], Institution]) -> InProcessGrid:
    find = institution if callable(institution) else lambda: institution
    return InProcessGrid(build_app(lambda context: find()), [NODE])


@pytest.fixture
def grid() -> InProcessGrid:
    """Return an institution that has seen round 2 with half of the weights pruned."""
    plain = app_of(small_institution(PLAN))
    model = replace(start_of(PLAN, 2, 3), mask=first(40))
    reply = send(plain, request_of(model, describe(PLAN, model)))
    assert wire.kind_of(reply.content) == wire.UpdateReply.kind
    return plain


def request_with(**change: Any) -> wire.UpdateRequest:
    weights = MODEL.weights.copy()
    weights[0] = change.pop("first", weights[0])
    kept = change.pop("kept", 40)
    model = replace(MODEL, weights=weights, mask=first(kept))
    descriptor = replace(describe(PLAN, model), **change.pop("descriptor", {}))
    return replace(request_of(model, descriptor), **change)


def test_an_honest_request_is_answered(grid: InProcessGrid) -> None:
    assert wire.UpdateReply.from_record(send(grid, request_with()).content).vector


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"descriptor": {"run": "other"}}, RunChangedError.reason),
    ({"descriptor": {"plan_hash": "00"}}, RunChangedError.reason),
    ({"descriptor": {"roster_hash": "00"}}, refusals.OtherRosterError.reason),
    ({"descriptor": {"round": 1}}, RoundReplayedError.reason),
    ({"descriptor": {"round": 99}}, RoundOutsidePlanError.reason),
    ({"descriptor": {"round": 2}}, SegmentsChangedError.reason),
    ({"descriptor": {"cohort": ("birch", "cedar", "elm")}}, refusals.CohortWithoutMeError.reason),
    ({"descriptor": {"cohort": ("ash", "birch", "oak")}}, CohortChangedError.reason),
    ({"descriptor": {"threshold": 4}}, ThresholdChangedError.reason),
    ({"descriptor": {"ring_bits": 30}}, RingChangedError.reason),
    ({"descriptor": {"segments": ()}}, SegmentsChangedError.reason),
    ({"descriptor": {"model_hash": "00"}}, ModelChangedError.reason),
    ({"descriptor": {"mask_hash": "00"}}, ModelChangedError.reason),
    ({"kept": 41}, MaskRefusedError.reason),
    ({"kept": 20}, MaskRefusedError.reason),
    ({"mask": pack_mask(first(39))}, SegmentsChangedError.reason),
    ({"mask": b"?"}, ProtocolError.reason),
    ({"first": np.nan}, ProtocolError.reason),
    ({"model": b"?"}, ModelChangedError.reason),
    ({"descriptor_text": "?"}, ProtocolError.reason),
]


@pytest.mark.parametrize(("change", "reason"), REFUSALS)
def test_refusal_tells_its_reason_alone(
    grid: InProcessGrid,
    change: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = change.get("descriptor_text")
    request = replace(request_with(), descriptor=text) if text else request_with(**dict(change))
    reply = send(grid, request)
    assert dict(reply.content[wire.RECORD]) == {
        "version": PROTOCOL_VERSION,
        "kind": "refused",
        "reason": reason,
    }
    # The institution's own log has the detail, which is more than the reason.
    (detail,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert detail.partition(": ")[2].encode() not in message_to_proto(reply).SerializeToString()
    # A refusal changes nothing: the honest request is still answered.
    assert wire.UpdateReply.from_record(send(grid, request_with()).content).vector


def test_a_past_epoch_and_stages_out_of_order_are_refused() -> None:
    plan = small_plan()
    grid = app_of(small_institution(plan))
    first = wire.AdvertiseRequest("run", 0, 1)
    assert wire.AdvertiseReply.from_record(send(grid, first).content).advert

    def reason(request: wire.WireMessage) -> str:
        return wire.Refusal.from_record(send(grid, request).content).reason

    model = start_of(plan)
    assert reason(first) == EpochReplayedError.reason
    assert reason(wire.AdvertiseRequest("other", 0, 2)) == RunChangedError.reason
    digest = describe(plan, model).digest()
    assert (
        reason(wire.UnmaskRequest(digest, list(plan.names), [], []))
        == refusals.OutOfOrderError.reason
    )
    assert reason(wire.SignRequest(digest, list(plan.names))) == refusals.OutOfOrderError.reason
    early = request_of(model, describe(plan, model))
    assert reason(early) == refusals.MissingShareError.reason
    second = wire.AdvertiseRequest("run", 0, 2)
    assert wire.AdvertiseReply.from_record(send(grid, second).content).advert


@pytest.mark.parametrize(
    "error",
    [
        ValueError("row 17: salary 1234"),
        KeyError("salary 1234"),
        DataError("salary 1234"),
        BudgetError("salary 1234"),
    ],
)
def test_no_exception_text_reaches_the_server(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def rows() -> Splits:
        raise error

    caplog.set_level(logging.INFO)
    grid = app_of(replace(small_institution(PLAN), rows=rows))
    for request in (wire.JoinRequest("run"), request_with()):
        reply = send(grid, request)
        assert wire.Refusal.from_record(reply.content).reason == "failed"
        assert not reply.has_error()
        assert b"1234" not in message_to_proto(reply).SerializeToString()
    # Our own errors hold no record and help whoever runs the institution; others might.
    assert ("1234" in caplog.text) == isinstance(error, DataError | BudgetError)
    assert type(error).__name__ in caplog.text or "1234" in caplog.text


def test_an_institution_that_cannot_be_opened_is_a_refusal() -> None:
    def missing() -> Institution:
        raise FileNotFoundError("/home/ash/client.toml")

    reply = send(app_of(missing), wire.JoinRequest("run"))
    assert wire.Refusal.from_record(reply.content).reason == "failed"
    assert b"/home" not in message_to_proto(reply).SerializeToString()


@pytest.mark.parametrize("trip", sorted(TRIPS.values()))
def test_malformed_messages_are_refused_on_every_trip(trip: str) -> None:
    grid = app_of(small_institution(PLAN))
    for content in (RecordDict(), wire.UpdateReply(b"", b"", b"", b"").to_record()):
        (reply,) = grid.send_and_receive([Message(content, NODE, trip)])
        assert wire.Refusal.from_record(reply.content).reason == ProtocolError.reason


def test_memory_lives_in_the_nodes_context() -> None:
    seen: list[Memory] = []

    def remember(context: Any) -> Institution:
        seen.append(Memory.load(context.state))
        return institution

    institution = small_institution(PLAN)
    grid = InProcessGrid(build_app(remember), [NODE, 8])
    model = start_of(PLAN)
    send(grid, request_of(model, describe(PLAN, model)))
    send(grid, wire.JoinRequest("run"))
    (other,) = grid.send_and_receive(
        [Message(wire.JoinRequest("run").to_record(), 8, "query.join")]
    )
    assert wire.JoinReply.from_record(other.content).name == "ash"
    assert [memory.run for memory in seen] == ["", "run", ""]


def test_a_server_that_is_refused_over_and_over_does_not_fill_the_log(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    grid = app_of(replace(small_institution(PLAN), trail=trail))
    for _ in range(20):
        send(grid, wire.JoinRequest("run", ["ash"], [b"no advert"]))
    lines = [path.read_bytes().count(b"\n") for path in trail.folder.glob("*.jsonl")]
    assert sum(lines) == 2, "the log's first line and one refusal"
