"""The stored state: one strict form, nothing readable in a repr, nothing kept too long."""

import json
from dataclasses import replace

import pytest

from common.crypto.refusals import (
    DeadAndAliveError,
    MaskedTwiceError,
    OtherDescriptorError,
    OtherSessionError,
    OutOfOrderError,
    SecondUnmaskError,
)
from common.crypto.stages import Held, Masked, Prepared, Revealed, State
from common.errors import ProtocolError
from simulations.rehearsal import Rehearsal

REHEARSAL = Rehearsal.of(3)
SESSION, DESCRIPTOR = REHEARSAL.session, REHEARSAL.descriptor()
ADVERT = REHEARSAL.offers["bank-0000"].advert
PREPARED = Prepared(session=SESSION, advert=ADVERT, mask_private=b"M" * 32, seed=b"D" * 32)
MASKED = Masked(
    session=SESSION,
    digest=bytes(32),
    cohort=("ash", "älg"),
    held={"ash": Held(seed=b"X" * 16, key=b"K" * 16)},
)
REVEALED = Revealed(session=SESSION, digest=bytes(32), survivors=("ash", "älg"))
STATES = {
    "fresh": State(),
    "prepared": State(prepared=PREPARED),
    "masked": State(prepared=PREPARED, current=MASKED),
    "revealed": State(prepared=PREPARED, current=REVEALED),
}
each = pytest.mark.parametrize("state", STATES.values(), ids=STATES)


@each
def test_a_state_round_trips(state: State) -> None:
    assert State.from_bytes(state.to_bytes()) == state
    assert State.from_bytes(b"") == State()


@each
def test_no_secret_shows(state: State) -> None:
    assert not any(run in f"{state!r} {state}" for run in ("MMM", "DDD", "XXX", "KKK"))


def test_a_secret_leaves_with_the_stage_that_needed_it() -> None:
    kept = [
        [letter.encode().hex() * 8 in state.to_bytes().decode() for letter in "MDXK"]
        for state in (*STATES.values(), State(current=REVEALED))
    ]
    assert kept == [
        [False, False, False, False],
        [True, True, False, False],
        [True, True, True, True],
        [True, True, False, False],
        [False, False, False, False],
    ]


@each
def test_anything_but_the_canonical_form_is_refused(state: State) -> None:
    data = state.to_bytes()
    fields = json.loads(data)
    bad = [
        b"[]",
        b"\xff",
        b" " + data,
        data[:-1],
        json.dumps(fields | {"version": 1}).encode(),
        json.dumps(fields | {"extra": 1}).encode(),
        json.dumps(fields | {"current": {"stage": "other"}}).encode(),
        json.dumps(fields | {"prepared": {}}).encode(),
    ]
    for text in bad:
        with pytest.raises(ProtocolError) as caught:
            State.from_bytes(text)
        assert caught.value.__cause__ is None


def test_an_unreadable_state_repeats_no_secret() -> None:
    data = STATES["prepared"].to_bytes().replace(b"4d4d", b"4d", 1)
    with pytest.raises(ProtocolError) as caught:
        State.from_bytes(data)
    assert "4d4d" not in str(caught.value)


def test_keys_serve_their_own_session_once() -> None:
    assert STATES["prepared"].prepared_for(DESCRIPTOR) == PREPARED
    with pytest.raises(OutOfOrderError):
        State().prepared_for(DESCRIPTOR)
    with pytest.raises(OtherSessionError):
        STATES["prepared"].prepared_for(replace(DESCRIPTOR, epoch=6))
    for state in (STATES["masked"], STATES["revealed"]):
        with pytest.raises(MaskedTwiceError):
            state.prepared_for(DESCRIPTOR)


def test_a_masked_vector_is_opened_once_and_for_its_own_descriptor() -> None:
    assert STATES["masked"].masked_for(bytes(32), ["ash"]) == MASKED
    with pytest.raises(OutOfOrderError):
        STATES["prepared"].masked_for(bytes(32), ["ash"])
    with pytest.raises(OtherDescriptorError):
        STATES["masked"].masked_for(b"\1" * 32, ["ash"])
    with pytest.raises(DeadAndAliveError):
        STATES["revealed"].masked_for(bytes(32), ["ash"])
    with pytest.raises(SecondUnmaskError):
        STATES["revealed"].masked_for(bytes(32), ["älg", "ash"])
