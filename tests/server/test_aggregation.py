"""Attempts at one round against real client apps: exact sums, whoever leaves at whichever trip."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.memory import Memory
from client.update import update
from common import messages as wire
from common.crypto import ring
from common.crypto.keys import SIGNED_REVEAL, sign
from common.crypto.session import reveal_statement
from common.errors import AggregationError, TooFewSurvivorsError
from common.plan import Plan
from common.pruning.masks import mask_hash
from server.aggregation import Attempt, Sums
from server.exchange import Exchange
from server.model import GlobalModel
from simulations.rehearsal import seeded_identity
from tests.support import (
    connect,
    describe,
    leaving,
    node_of,
    request_of,
    small_institution,
    small_plan,
    start_of,
)

SECURE = small_plan()
PLAIN = small_plan(aggregation={"kind": "plain"})
EVERYONE = SECURE.names
TRIPS = ("query.advertise", "train.update", "query.sign", "train.unmask")


def attempt(plan: Plan, exchange: Exchange, round_number: int = 2) -> tuple[tuple[str, ...], Sums]:
    return Attempt(start_of(plan, round_number), plan, "run", exchange).run()


def expected_sums(names: tuple[str, ...], round_number: int = 2) -> Sums:
    """Return the sums of these institutions' own vectors, decoded in the open."""
    model = start_of(PLAIN, round_number)
    descriptor = describe(PLAIN, model)
    total: Sums = {}
    for name in names:
        request = request_of(model, descriptor)
        _, reply = update(small_institution(PLAIN, name), Memory(), request)
        vector = ring.unpack(reply.vector, descriptor.ring_bits, descriptor.length)
        for segment, values in ring.decode_vector(descriptor, vector, 1).items():
            total[segment] = total.get(segment, np.zeros(len(values))) + values
    return total


def assert_sums(found: Sums, expected: Sums) -> None:
    assert set(found) == set(expected) == {"update", "validation"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("plan", [SECURE, PLAIN])
def test_sum_is_that_of_all_vectors(plan: Plan) -> None:
    survivors, sums = attempt(plan, connect(plan)[0])
    assert survivors == EVERYONE
    assert_sums(sums, expected_sums(EVERYONE))
    assert not np.allclose(sums["update"], expected_sums(EVERYONE[1:])["update"])


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("name", ["ash", "elm"])
def test_one_may_leave_at_any_trip(name: str, trip: str) -> None:
    exchange, _ = connect(SECURE, leaving(SECURE, name, trip, lambda group: True))
    survivors, sums = attempt(SECURE, exchange)
    # Who leaves after its vector is counted: its mask opens without it.
    gone = () if trip in {"query.sign", "train.unmask"} else (name,)
    assert survivors == tuple(other for other in EVERYONE if other not in gone)
    assert_sums(sums, expected_sums(survivors))


@pytest.mark.parametrize(
    ("trip", "did"),
    [
        ("query.advertise", "2 institutions advertised keys, 3 are needed"),
        ("train.update", "2 institutions sent a vector, 3 are needed"),
        ("train.unmask", "2 sound reveals are below the threshold of 3"),
    ],
)
def test_two_may_not(trip: str, did: str) -> None:
    exchange, _ = connect(SECURE, leaving(SECURE, "ash cedar", trip, lambda group: True))
    with pytest.raises(TooFewSurvivorsError, match=did):
        attempt(SECURE, exchange)


def test_a_departure_costs_a_trip_and_a_signature_may_be_missing() -> None:
    gone = leaving(SECURE, "elm", "train.update", lambda group: True)
    exchange, _ = connect(SECURE, gone)
    assert attempt(SECURE, exchange)[0] == ("ash", "birch", "cedar")
    unsigned = leaving(SECURE, "ash", "query.sign", lambda group: True)
    exchange, _ = connect(SECURE, lambda message: gone(message) or unsigned(message))
    with pytest.raises(TooFewSurvivorsError, match="2 institutions signed the survivors"):
        attempt(SECURE, exchange)


def test_a_spoiled_opening_names_the_revealer_and_goes_on() -> None:
    def lie(reply: wire.WireMessage) -> wire.WireMessage:
        assert isinstance(reply, wire.UnmaskReply)
        packed = reply.reveal[:-1] + bytes([reply.reveal[-1] ^ 1])
        statement = reveal_statement(
            describe(SECURE, start_of(SECURE, 2)).digest(), EVERYONE, packed
        )
        signing = seeded_identity("cedar", 0).signing_private
        return replace(reply, reveal=packed, signature=sign(signing, SIGNED_REVEAL, statement))

    exchange, _ = connect(SECURE, wrap=lambda app: Tampered(app, "train.unmask", lie))
    made = Attempt(start_of(SECURE, 2), SECURE, "run", exchange)
    survivors, sums = made.run()
    assert survivors == EVERYONE
    assert made.culprits == {"cedar"}
    assert_sums(sums, expected_sums(survivors))


def test_plain_sums_have_the_same_threshold() -> None:
    exchange, _ = connect(PLAIN, leaving(PLAIN, "elm", "train.update", lambda group: True))
    survivors, sums = attempt(PLAIN, exchange)
    assert_sums(sums, expected_sums(survivors))
    exchange, _ = connect(PLAIN, leaving(PLAIN, "ash elm", "train.update", lambda group: True))
    with pytest.raises(TooFewSurvivorsError, match="2 institutions sent a vector"):
        attempt(PLAIN, exchange)


class Tampered(ClientApp):
    """An app whose replies to one trip are altered at one node."""

    def __init__(
        self, app: ClientApp, trip: str, alter: Callable[[wire.WireMessage], wire.WireMessage]
    ) -> None:
        super().__init__()
        self._app, self._trip, self._alter = app, trip, alter

    def __call__(self, message: Message, context: Context) -> Message:
        reply = self._app(message, context)
        facts = message.metadata
        if (facts.dst_node_id, facts.message_type) != (node_of(SECURE, "cedar"), self._trip):
            return reply
        kinds: dict[str, type[wire.WireMessage]] = {
            kind.kind: kind
            for kind in (wire.AdvertiseReply, wire.SignReply, wire.UpdateReply, wire.UnmaskReply)
        }
        honest = kinds[wire.kind_of(reply.content)].from_record(reply.content)
        return Message(self._alter(honest).to_record(), reply_to=message)


MALFORMED: list[tuple[str, Callable[..., wire.WireMessage]]] = [
    ("query.advertise", lambda reply: replace(reply, advert=reply.advert[:-1])),
    ("query.advertise", lambda reply: replace(reply, sealed=reply.sealed[:-1])),
    ("query.advertise", lambda reply: replace(reply, sealed=bytes(len(reply.sealed)))),
    ("train.update", lambda reply: replace(reply, signature=bytes(64))),
    ("train.update", lambda reply: replace(reply, vector=reply.vector[:-1])),
    ("train.update", lambda reply: replace(reply, vector=reply.vector + b"\0")),
    ("train.unmask", lambda reply: replace(reply, reveal=reply.reveal[:-1])),
    ("train.unmask", lambda reply: replace(reply, reveal=reply.reveal[:-1] + b"?")),
    ("train.unmask", lambda reply: replace(reply, signature=bytes(64))),
]


@pytest.mark.parametrize(("trip", "alter"), MALFORMED)
def test_a_malformed_reply_is_an_absence(
    trip: str, alter: Callable[..., wire.WireMessage], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    exchange, _ = connect(SECURE, wrap=lambda app: Tampered(app, trip, alter))
    made = Attempt(start_of(SECURE, 2), SECURE, "run", exchange)
    survivors, sums = made.run()
    assert not made.culprits
    left = EVERYONE if trip == "train.unmask" else ("ash", "birch", "elm")
    assert survivors == left
    assert_sums(sums, expected_sums(survivors))
    honest, _ = connect(SECURE, wrap=lambda app: Tampered(app, trip, lambda reply: reply))
    assert attempt(SECURE, honest)[0] == EVERYONE


def test_a_wrong_vector_spoils_the_counts_beyond_their_range() -> None:
    def spoil(reply: wire.WireMessage) -> wire.WireMessage:
        assert isinstance(reply, wire.UpdateReply)
        return replace(reply, vector=reply.vector[:-3] + b"\xff\xff\x3f")

    exchange, _ = connect(PLAIN, wrap=lambda app: Tampered(app, "train.update", spoil))
    with pytest.raises(AggregationError, match="segment 'validation' sums to magnitude"):
        attempt(PLAIN, exchange)


def test_the_mask_is_sent_to_those_who_do_not_hold_it() -> None:
    def tried(model: GlobalModel, absentees: str) -> tuple[Attempt, int]:
        """Return the attempt and how many bytes went down."""
        gone = leaving(PLAIN, absentees, "train.update", lambda group: group == "1/2")
        exchange, grid = connect(PLAIN, gone)
        before = grid.bytes_down
        made = Attempt(model, PLAIN, "run", exchange)
        made.run()
        return made, grid.bytes_down - before

    digest = mask_hash(start_of(PLAIN).mask)
    model = start_of(PLAIN, round_number=1, epoch=2)
    first, bytes_first = tried(model, "")
    assert first.holders == dict.fromkeys(EVERYONE, digest)
    second, bytes_second = tried(replace(model, holders=first.holders), "elm")
    packed = len(start_of(PLAIN).mask) // 8 + 1
    assert bytes_first - bytes_second >= 4 * packed
    # Whoever says nothing may have lost everything: it gets the mask with its next model.
    assert second.holders == dict.fromkeys(("ash", "birch", "cedar"), digest)
    stale = dict.fromkeys(EVERYONE, "another mask")
    assert tried(replace(model, holders=stale), "")[1] == bytes_first


def test_the_server_sees_masked_vectors_only() -> None:
    def vector_of(plan: Plan) -> bytes:
        """Return cedar's vector as the server gets it."""
        sent: list[bytes] = []

        def record(reply: wire.WireMessage) -> wire.WireMessage:
            assert isinstance(reply, wire.UpdateReply)
            sent.append(reply.vector)
            return reply

        exchange, _ = connect(plan, wrap=lambda app: Tampered(app, "train.update", record))
        attempt(plan, exchange)
        (vector,) = sent
        return vector

    masked, plain = vector_of(SECURE), vector_of(PLAIN)
    assert len(masked) == len(plain) + 18  # six check slots
    masked = masked[: len(plain)]
    alike = np.mean(np.frombuffer(masked, np.uint8) == np.frombuffer(plain, np.uint8))
    assert alike < 0.05
    # The plain one is recognisable: small counts leave its high bytes empty.
    assert np.mean(np.frombuffer(plain[-60:], np.uint8) == 0) > 0.6
    assert np.mean(np.frombuffer(masked[-60:], np.uint8) == 0) < 0.1
