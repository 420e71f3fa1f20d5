"""Adverts, offers and reveals have one strict form; sessions differ in every field."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.crypto.refusals import (
    BadSignatureError,
    OtherRosterError,
    OtherSessionError,
    RevokedPeerError,
    UnknownPeerError,
)
from common.crypto.session import (
    Advert,
    LastAdvert,
    Offer,
    Reveal,
    bitmap,
    from_bitmap,
    seed_hash,
    share_context,
    survivors_statement,
)
from common.errors import ProtocolError
from simulations.rehearsal import Rehearsal

REHEARSAL = Rehearsal.of(3)
DESCRIPTOR = REHEARSAL.descriptor()
SESSION = REHEARSAL.session
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
    root=keys,
    sequence=st.integers(0, 2**64 - 1),
    signature=st.binary(min_size=64, max_size=64),
)
reveals = st.lists(
    st.tuples(st.booleans(), st.none() | st.binary(min_size=16, max_size=16)), max_size=20
).map(lambda rows: Reveal(survived=tuple(r[0] for r in rows), openings=tuple(r[1] for r in rows)))


@pytest.mark.parametrize("change", OTHERS, ids=lambda change: next(iter(change)))
def test_a_descriptor_of_another_session_is_refused_by_field(change: dict[str, object]) -> None:
    SESSION.require(DESCRIPTOR)
    field = next(iter(change))
    refusal = OtherRosterError if field == "roster_hash" else OtherSessionError
    with pytest.raises(refusal, match=f"the descriptor's {field} is"):
        SESSION.require(replace(DESCRIPTOR, **change))  # type: ignore[arg-type]


def test_every_field_enters_every_hash() -> None:
    sessions = [SESSION, *(SESSION.model_copy(update=change) for change in OTHERS)]
    advert = REHEARSAL.offers["bank-0000"].advert
    assert len({session.tag for session in sessions}) == 6
    assert len({seed_hash(bytes(32), session, "a") for session in sessions}) == 6
    assert len({advert.statement(session.digest(), "a") for session in sessions}) == 6
    digest = SESSION.digest()
    assert advert.statement(digest, "a") != advert.statement(digest, "b")
    longer = advert.model_copy(update={"sequence": advert.sequence + 1})
    assert advert.statement(digest, "a") != longer.statement(digest, "a")
    assert seed_hash(bytes(32), SESSION, "a") != seed_hash(bytes(32), SESSION, "b")


def test_a_share_context_tells_session_threshold_direction_and_keys() -> None:
    contexts = {
        share_context(session, threshold, (sender, receiver), head + static)
        for session in (SESSION, SESSION.following())
        for threshold in (2, 3)
        for head in (bytes(96), b"\1" * 96)
        for static in (bytes(32), b"\1" * 32)
        for sender, receiver in (("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"))
    }
    assert len(contexts) == 64


def test_the_following_session_is_the_next_round_and_epoch() -> None:
    later = SESSION.following()
    assert (later.round, later.epoch) == (SESSION.round + 1, SESSION.epoch + 1)
    assert (later.run, later.plan_hash) == (SESSION.run, SESSION.plan_hash)


@given(adverts)
def test_an_advert_takes_209_bytes_and_round_trips(advert: Advert) -> None:
    data = advert.to_bytes()
    assert len(data) == 209
    assert Advert.from_bytes(data) == advert
    for bad in (data[:-1], data + b"\0", b"", b"\1" + data[1:]):
        with pytest.raises(ProtocolError, match="is not version 3"):
            Advert.from_bytes(bad)


@pytest.mark.parametrize(
    "field", ["mask_public", "seal_public", "seed_hash", "root", "signature", "session_tag"]
)
def test_an_advert_is_signed_as_a_whole(field: str) -> None:
    advert = REHEARSAL.offers["bank-0000"].advert
    advert.require(SESSION, REHEARSAL.roster, "bank-0000")
    flipped = bytes([getattr(advert, field)[0] ^ 1]) + getattr(advert, field)[1:]
    refusal = OtherSessionError if field == "session_tag" else BadSignatureError
    with pytest.raises(refusal):
        advert.model_copy(update={field: flipped}).require(SESSION, REHEARSAL.roster, "bank-0000")


def test_the_length_of_the_ledger_is_signed_too() -> None:
    advert = REHEARSAL.offers["bank-0000"].advert
    assert advert.sequence == REHEARSAL.sequence > 0
    for wrong in (0, advert.sequence - 1, advert.sequence + 1, 2**64 - 1):
        with pytest.raises(BadSignatureError):
            advert.model_copy(update={"sequence": wrong}).require(
                SESSION, REHEARSAL.roster, "bank-0000"
            )


@given(st.binary(min_size=32, max_size=32), adverts)
def test_a_last_advert_round_trips(session: bytes, advert: Advert) -> None:
    last = LastAdvert(session, advert)
    data = last.to_bytes()
    assert len(data) == 241
    assert LastAdvert.from_bytes(data) == last
    for bad in (data[:-1], data + b"\0", data[1:], data[32:], b""):
        with pytest.raises(ProtocolError, match="is not version 3"):
            LastAdvert.from_bytes(bad)


def test_an_owner_knows_its_last_advert_without_knowing_the_session() -> None:
    advert, digest = REHEARSAL.offers["bank-0000"].advert, SESSION.digest()
    LastAdvert(digest, advert).require(REHEARSAL.roster, "bank-0000")
    LastAdvert(digest, advert).require(REHEARSAL.roster.without("bank-0001"), "bank-0000")
    with pytest.raises(BadSignatureError):
        LastAdvert(digest, advert).require(REHEARSAL.roster, "bank-0001")
    with pytest.raises(BadSignatureError):
        LastAdvert(digest[:8] + bytes(24), advert).require(REHEARSAL.roster, "bank-0000")
    with pytest.raises(OtherSessionError):
        LastAdvert(SESSION.following().digest(), advert).require(REHEARSAL.roster, "bank-0000")
    with pytest.raises(RevokedPeerError):
        LastAdvert(digest, advert).require(REHEARSAL.roster.without("bank-0000"), "bank-0000")


def test_an_advert_is_signed_for_one_name_and_session() -> None:
    advert = REHEARSAL.offers["bank-0000"].advert
    with pytest.raises(BadSignatureError):
        advert.require(SESSION, REHEARSAL.roster, "bank-0001")
    with pytest.raises(UnknownPeerError):
        advert.require(SESSION, REHEARSAL.roster, "sybil")
    with pytest.raises(OtherSessionError):
        advert.require(SESSION.following(), REHEARSAL.roster, "bank-0000")


def test_an_offer_round_trips_and_another_number_of_shares_is_refused() -> None:
    offer = REHEARSAL.offers["bank-0001"]
    advert, sealed = offer.to_bytes()
    assert Offer.from_bytes(advert, sealed, 3) == offer
    for members, data in ((2, sealed), (4, sealed), (3, sealed[:-1]), (3, b"")):
        with pytest.raises(ProtocolError, match="are not"):
            Offer.from_bytes(advert, data, members)


@given(reveals)
def test_a_reveal_takes_16_bytes_a_member_and_round_trips(reveal: Reveal) -> None:
    data = reveal.to_bytes()
    members = len(reveal.openings)
    assert len(data) <= 3 + 2 * ((members + 7) // 8) + 16 * members
    assert Reveal.from_bytes(data) == reveal
    for bad in (data[:-1], data + b"\0", b"", b"\1" + data[1:]):
        with pytest.raises(ProtocolError):
            Reveal.from_bytes(bad)


@given(st.lists(st.booleans(), max_size=40))
def test_a_bitmap_round_trips_without_padding(flags: list[bool]) -> None:
    data = bitmap(flags)
    assert from_bitmap(data, len(flags)) == tuple(flags)
    with pytest.raises(ProtocolError):
        from_bitmap(data + b"\0", len(flags))
    if len(flags) % 8:
        with pytest.raises(ProtocolError):
            from_bitmap(data[:-1] + bytes([data[-1] | 0x80]), len(flags))


def test_a_reveal_holds_exactly_one_opening_a_member_and_hides_it() -> None:
    with pytest.raises(ValidationError, match="one opening for each"):
        Reveal(survived=(True,), openings=(None, None))
    assert "openings" not in repr(Reveal(survived=(True,), openings=(b"S" * 16,)))


def test_a_survivor_statement_covers_descriptor_and_set() -> None:
    statements = {
        survivors_statement(digest, names)
        for digest in (bytes(32), b"\1" * 32)
        for names in (("a", "b"), ("a",), ("a", "b", "c"), ("ab",))
    }
    assert len(statements) == 8
    assert survivors_statement(bytes(32), ("b", "a")) == survivors_statement(bytes(32), ("a", "b"))
