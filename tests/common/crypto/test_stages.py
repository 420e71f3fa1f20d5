"""Stored stages: one strict form, nothing readable in a repr, nothing kept too long."""

import json

import pytest

from common.crypto.session import Session
from common.crypto.stages import Advertised, Bundle, Masked, Revealed, Shared, Stage
from common.errors import ProtocolError

SESSION = Session(run="r", plan_hash="aa", roster_hash="bb", round=3, epoch=5)
BUNDLE = Bundle(seed_share=b"X" * 33, key_share=b"K" * 33)
ADVERTISED = Advertised(
    me="ash", session=SESSION, mask_private=b"M" * 32, seal_private=b"S" * 32, seed=b"D" * 32
)
STAGES: list[Stage] = [
    ADVERTISED,
    Shared(
        me="ash",
        session=SESSION,
        threshold=2,
        adverts={"ash": ADVERTISED.advert},
        mask_private=ADVERTISED.mask_private,
        seal_private=ADVERTISED.seal_private,
        seed=ADVERTISED.seed,
        own=BUNDLE,
    ),
    Masked(me="ash", session=SESSION, threshold=2, held={"ash": BUNDLE, "älg": BUNDLE}),
    Revealed(me="ash", session=SESSION, survivors=("ash", "elm")),
]
each = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.stage)


@each
def test_a_stage_round_trips(stage: Stage) -> None:
    assert type(stage).from_bytes(stage.to_bytes()) == stage


@each
def test_no_secret_shows(stage: Stage) -> None:
    assert not any(run in f"{stage!r} {stage}" for run in ("MMM", "SSS", "DDD", "XXX", "KKK"))
    assert "ash" in repr(stage)


def test_a_secret_leaves_with_the_stage_that_needed_it() -> None:
    kept = [[secret * 8 in stage.to_bytes().decode() for secret in _HEX] for stage in STAGES]
    assert kept == [
        [True, True, True, False, False],
        [True, True, True, True, True],
        [False, False, False, True, True],
        [False, False, False, False, False],
    ]


_HEX = [letter.encode().hex() for letter in "MSDXK"]


@each
def test_anything_but_the_canonical_form_is_refused(stage: Stage) -> None:
    data = stage.to_bytes()
    fields = json.loads(data)
    bad = [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b" " + data,
        data[:-1],
        json.dumps(fields | {"version": 2}).encode(),
        json.dumps(fields | {"extra": 1}).encode(),
        json.dumps(fields | {"stage": "other"}).encode(),
        json.dumps(fields | {"me": ""}).encode(),
        json.dumps({key: value for key, value in fields.items() if key != "session"}).encode(),
    ]
    for text in bad:
        with pytest.raises(ProtocolError) as caught:
            type(stage).from_bytes(text)
        assert caught.value.__cause__ is None


def test_an_unreadable_stage_repeats_no_secret() -> None:
    data = ADVERTISED.to_bytes().replace(b"4d4d", b"4d", 1)
    with pytest.raises(ProtocolError) as caught:
        Advertised.from_bytes(data)
    assert "4d4d" not in str(caught.value)


def test_a_bundle_is_two_shares() -> None:
    assert Bundle.from_bytes(BUNDLE.to_bytes()) == BUNDLE
    for size in (0, 65, 67, 132):
        with pytest.raises(ProtocolError, match="is not two shares"):
            Bundle.from_bytes(bytes(size))


def test_an_advert_follows_from_the_secrets() -> None:
    assert Advertised.from_bytes(ADVERTISED.to_bytes()).advert == ADVERTISED.advert
    other = ADVERTISED.model_copy(update={"me": "elm"}).advert
    assert other.seed_hash != ADVERTISED.advert.seed_hash
