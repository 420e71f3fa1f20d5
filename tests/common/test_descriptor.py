import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.descriptor import RoundDescriptor, Segment
from common.errors import ProtocolError

GOOD = RoundDescriptor(
    run="run",
    plan_hash="aa",
    roster_hash="bb",
    round=3,
    epoch=5,
    cohort=("ash", "birch", "elm"),
    threshold=3,
    ring_bits=24,
    model_hash="cc",
    mask_hash="dd",
    segments=(Segment("update", 40, 1000.5, 2.0), Segment("validation", 20, 1.0, 200.0)),
)
TEXT = GOOD.to_json()


def test_canonical_form_is_read_back() -> None:
    assert RoundDescriptor.from_json(TEXT) == GOOD
    assert RoundDescriptor.from_json(TEXT).digest() == GOOD.digest()
    assert GOOD.length == 60


@pytest.mark.parametrize(
    "change",
    [
        {"run": "other"},
        {"plan_hash": "ab"},
        {"roster_hash": "ba"},
        {"round": 4},
        {"epoch": 6},
        {"cohort": ("ash", "birch")},
        {"threshold": 2},
        {"ring_bits": 25},
        {"model_hash": "cd"},
        {"mask_hash": "dc"},
        {"segments": GOOD.segments[:1]},
        {"segments": GOOD.segments[::-1]},
        {"segments": (replace(GOOD.segments[0], scale=1000.25), GOOD.segments[1])},
        {"segments": (replace(GOOD.segments[0], bound=2.5), GOOD.segments[1])},
    ],
)
def test_digest_binds_every_field(change: dict[str, Any]) -> None:
    changed = replace(GOOD, **change)
    assert changed.digest() != GOOD.digest()
    assert RoundDescriptor.from_json(changed.to_json()) == changed


@settings(max_examples=300)
@given(st.integers(0, len(TEXT) - 1), st.sampled_from(["", " ", "0", "1", '"', "{", "e9", "a\\"]))
def test_mutated_text_is_refused_or_says_something_else(position: int, inserted: str) -> None:
    for width in (0, 1):
        mutated = TEXT[:position] + inserted + TEXT[position + width :]
        if mutated == TEXT:
            continue
        try:
            descriptor = RoundDescriptor.from_json(mutated)
        except ProtocolError:
            continue
        assert descriptor != GOOD
        assert descriptor.to_json() == mutated


@pytest.mark.parametrize(
    "change",
    [
        {"round": "3"},
        {"round": 3.0},
        {"round": True},
        {"epoch": None},
        {"run": 1},
        {"cohort": "ash"},
        {"cohort": [1, 2, 3]},
        {"segments": {}},
        {"segments": [{"name": "update", "length": 1, "scale": 1.0}]},
        {"segments": [{"name": "update", "length": 1, "scale": 1.0, "bound": 1.0, "more": 1}]},
        {"segments": [{"name": "update", "length": 1, "scale": 1, "bound": 1.0}]},
        {"segments": [{"name": "update", "length": 1, "scale": float("inf"), "bound": 1.0}]},
        {"segments": [{"name": "update", "length": 1, "scale": 1e300, "bound": 1e300}]},
        {"segments": [{"name": "update", "length": 1, "scale": float("nan"), "bound": 1.0}]},
        {"more": 1},
    ],
)
def test_ill_typed_fields_are_refused(change: dict[str, Any]) -> None:
    fields = json.loads(TEXT) | change
    with pytest.raises(ProtocolError):
        RoundDescriptor.from_json(json.dumps(fields, sort_keys=True, separators=(",", ":")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "[" * 10_000,
        json.dumps(asdict(GOOD), sort_keys=True),
        json.dumps(asdict(GOOD), separators=(",", ":")),
        TEXT + "\n",
        TEXT.replace('"epoch":5', '"epoch":5,"epoch":5'),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match=r"cannot be read|canonical"):
        RoundDescriptor.from_json(text)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"cohort": ("birch", "ash")}, "not sorted"),
        ({"cohort": ("ash", "ash")}, "twice"),
        ({"ring_bits": 15}, "15 bits"),
        ({"ring_bits": 33}, "33 bits"),
        ({"segments": (GOOD.segments[0], GOOD.segments[0])}, "occurs twice"),
        ({"segments": (Segment("update", -1, 1.0, 1.0),)}, "no positive"),
        ({"segments": (Segment("update", 1, 0.0, 1.0),)}, "no positive"),
        ({"segments": (Segment("update", 1, 1.0, -1.0),)}, "no positive"),
        ({"segments": (Segment("update", 1, 2.0**23, 1.0),)}, "raise aggregation.ring_bits"),
    ],
)
def test_contradiction_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ProtocolError, match=problem):
        replace(GOOD, **change)


def test_the_whole_ring_may_be_used_but_not_more() -> None:
    most = (2**23 - 1) // 3 - 1
    fits = replace(GOOD, segments=(Segment("update", 1, float(most), 1.0),))
    assert 3 * fits.segments[0].limit < 2**23
    with pytest.raises(ProtocolError, match="overflows"):
        replace(GOOD, segments=(Segment("update", 1, most + 1.0, 1.0),))
