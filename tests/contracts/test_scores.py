"""What every registered pruning score must do, and scores that the suite must reject."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from common.pruning.evidence import Evidence, Traces, Vector
from common.pruning.scores import SCORES, Score


def evidence(size: int, seed: int = 0) -> Evidence:
    """Return what a few rounds leave, magnitudes included."""
    draw = np.random.default_rng(seed)
    vectors = (draw.normal(size=size).astype(np.float32) for _ in itertools.count())
    weights, initial, velocity, movement, anchor = itertools.islice(vectors, 5)
    traces = Traces(initial, velocity, movement, anchor, np.abs(weights) + np.float32(0.1))
    return Evidence(weights, traces, b"key")


def vectors_of(seen: Evidence) -> list[Vector]:
    traces = seen.traces
    known = [seen.weights, traces.initial, traces.velocity, traces.movement, traces.anchor]
    return known if traces.magnitudes is None else [*known, traces.magnitudes]


def check_shape(score: Score) -> None:
    for size in (1, 2, 257):
        scores = score(evidence(size))
        assert scores.shape == (size,)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()


def check_determinism(score: Score) -> None:
    seen = evidence(300)
    before = [vector.copy() for vector in vectors_of(seen)]
    first = score(seen)
    np.testing.assert_array_equal(np.array(vectors_of(seen)), np.array(before))
    np.testing.assert_array_equal(score(seen), first)
    assert not any(np.shares_memory(first, vector) for vector in vectors_of(seen))


def check_still(score: Score) -> None:
    """Before anything was learnt, or of a model of zeros, every score is still a number."""
    for weights in (np.zeros(9, np.float32), np.full(9, 0.5, np.float32)):
        scores = score(Evidence(weights, Traces.begin(weights), b"key"))
        assert scores.shape == (9,)
        assert np.isfinite(scores).all()


def check_sign(score: Score) -> None:
    """A model and its mirror image, weight by weight, are pruned alike."""
    seen = evidence(50)
    traces = seen.traces
    mirrored = Evidence(
        -seen.weights,
        Traces(-traces.initial, -traces.velocity, traces.movement, -traces.anchor,
               traces.magnitudes),
        seen.key,
    )  # fmt: skip
    np.testing.assert_array_equal(score(mirrored), score(seen))


Check = Callable[[Score], None]
CHECKS = (check_shape, check_determinism, check_still, check_sign)


@pytest.mark.parametrize("name", SCORES.names)
@pytest.mark.parametrize("check", CHECKS)
def test_registered_score(name: str, check: Check) -> None:
    check(SCORES.require(name))


COUNTER = itertools.count()


def restless(seen: Evidence) -> Vector:
    return np.abs(seen.weights) + np.float32(next(COUNTER))


def meddling(seen: Evidence) -> Vector:
    weights = seen.weights
    weights *= 2
    return np.abs(weights)


@pytest.mark.parametrize(
    ("score", "check"),
    [
        (lambda seen: np.abs(np.repeat(seen.weights, 2)), check_shape),
        (lambda seen: np.abs(seen.weights).astype(np.float64), check_shape),
        (restless, check_determinism),
        (meddling, check_determinism),
        (lambda seen: seen.traces.movement, check_determinism),
        (lambda seen: seen.weights / np.abs(seen.weights).sum(), check_still),
        (lambda seen: seen.weights.copy(), check_sign),
    ],
)
def test_wrong_score_is_rejected(score: Score, check: Check) -> None:
    with pytest.raises(AssertionError), np.errstate(invalid="ignore"):
        check(score)
