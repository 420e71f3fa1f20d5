"""Adverts and reveals have one strict form; sessions differ in every field."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.crypto.refusals import OtherSessionError
from common.crypto.session import (
    Advert,
    Reveal,
    Session,
    deal_digest,
    seed_hash,
    share_context,
    share_points,
)
from common.descriptor import RoundDescriptor
from common.errors import ProtocolError

DESCRIPTOR = RoundDescriptor(
    run="r",
    plan_hash="aa",
    roster_hash="bb",
    round=3,
    epoch=5,
    cohort=("a", "b"),
    threshold=2,
    ring_bits=20,
    model_hash="cc",
    mask_hash="dd",
    segments=(),
)
SESSION = Session.of(DESCRIPTOR)
OTHERS: list[dict[str, object]] = [
    {"run": "s"},
    {"plan_hash": "ab"},
    {"roster_hash": "ba"},
    {"round": 4},
    {"epoch": 6},
]

keys = st.binary(min_size=32, max_size=32)
adverts = st.builds(
    Advert,
    session_tag=st.binary(min_size=8, max_size=8),
    mask_public=keys,
    seal_public=keys,
    seed_hash=keys,
)
reveals = st.lists(st.tuples(st.booleans(), st.binary(min_size=33, max_size=33)), max_size=20).map(
    lambda rows: Reveal(survived=tuple(r[0] for r in rows), shares=tuple(r[1] for r in rows))
)


@pytest.mark.parametrize("change", OTHERS, ids=lambda change: next(iter(change)))
def test_a_descriptor_of_another_session_is_refused_by_field(change: dict[str, object]) -> None:
    SESSION.require(DESCRIPTOR)
    with pytest.raises(OtherSessionError, match=f"the descriptor's {next(iter(change))} is"):
        SESSION.require(replace(DESCRIPTOR, **change))  # type: ignore[arg-type]


def test_every_field_enters_every_hash() -> None:
    sessions = [SESSION, *(SESSION.model_copy(update=change) for change in OTHERS)]
    assert len({session.tag for session in sessions}) == 6
    assert len({deal_digest(session, ["a", "b"], 2) for session in sessions}) == 6
    assert len({seed_hash(bytes(32), session, "a") for session in sessions}) == 6
    assert seed_hash(bytes(32), SESSION, "a") != seed_hash(bytes(32), SESSION, "b")
    deals = [(["a", "b"], 2), (["a", "b"], 1), (["a", "b", "c"], 2), (["ab"], 2)]
    assert len({deal_digest(SESSION, names, threshold) for names, threshold in deals}) == 4


def test_a_share_context_tells_direction_and_advert() -> None:
    one, two = (
        Advert(session_tag=bytes(8), mask_public=bytes(32), seal_public=key, seed_hash=bytes(32))
        for key in (bytes(32), b"\1" * 32)
    )
    contexts = {
        share_context(deal, sender, advert, receiver)
        for deal in (bytes(32), b"\1" * 32)
        for advert in (one, two)
        for sender, receiver in (("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"))
    }
    assert len(contexts) == 16


def test_points_follow_the_sorted_names() -> None:
    assert share_points({"c", "a", "b"}) == {"a": 1, "b": 2, "c": 3}


@given(adverts)
def test_an_advert_takes_105_bytes_and_round_trips(advert: Advert) -> None:
    data = advert.to_bytes()
    assert len(data) == 105
    assert Advert.from_bytes(data) == advert
    for bad in (data[:-1], data + b"\0", b"", b"\2" + data[1:]):
        with pytest.raises(ProtocolError, match="is not version 1"):
            Advert.from_bytes(bad)


@given(reveals)
def test_a_reveal_takes_33_bytes_a_member_and_round_trips(reveal: Reveal) -> None:
    data = reveal.to_bytes()
    members = len(reveal.shares)
    assert len(data) == 3 + (members + 7) // 8 + 33 * members
    assert Reveal.from_bytes(data) == reveal
    for bad in (data[:-1], data + b"\0", b"", b"\2" + data[1:]):
        with pytest.raises(ProtocolError, match="is not version 1"):
            Reveal.from_bytes(bad)


def test_padding_in_a_reveal_is_refused() -> None:
    data = bytearray(Reveal(survived=(True,), shares=(bytes(33),)).to_bytes())
    data[3] |= 0x80
    with pytest.raises(ProtocolError, match="padding"):
        Reveal.from_bytes(bytes(data))


def test_a_reveal_holds_exactly_one_share_a_member_and_hides_it() -> None:
    with pytest.raises(ValidationError, match="one share for each"):
        Reveal(survived=(True,), shares=(bytes(33), bytes(33)))
    assert "shares" not in repr(Reveal(survived=(True,), shares=(b"secret" + bytes(27),)))
