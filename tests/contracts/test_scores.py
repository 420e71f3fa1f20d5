"""What every registered pruning score must do, and scores that the suite must reject."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from common.errors import AggregationError
from common.pruning.masks import prune
from common.pruning.scores import SCORES, Score, Vector


def check_shape(score: Score) -> None:
    for size in (1, 2, 257):
        weights = np.linspace(-1, 1, size, dtype=np.float32)
        scores = score(weights)
        assert scores.shape == (size,)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()


def check_determinism(score: Score) -> None:
    weights = np.random.default_rng(0).normal(size=300).astype(np.float32)
    before = weights.copy()
    first = score(weights)
    np.testing.assert_array_equal(weights, before)
    np.testing.assert_array_equal(score(weights), first)
    assert not np.shares_memory(first, weights)


def check_ties(score: Score) -> None:
    """Weights that look alike score alike, wherever they stand and whatever their sign."""
    scores = score(np.array([3, 0.5, -0.5, 0, 0.5, -0.0, -3], np.float32))
    assert scores[1] == scores[2] == scores[4]
    assert scores[3] == scores[5]
    assert scores[0] == scores[6]


def check_divergence(score: Score) -> None:
    """A model that has diverged is seen by `prune`, not hidden from it."""
    for value in (np.nan, np.inf):
        scores = score(np.array([1, value, 2], np.float32))
        with pytest.raises(AggregationError, match="not finite"):
            prune(scores, np.ones(3, np.bool_), np.zeros(3, np.bool_), 0.5)


Check = Callable[[Score], None]
CHECKS = (check_shape, check_determinism, check_ties, check_divergence)


@pytest.mark.parametrize("name", SCORES.names)
@pytest.mark.parametrize("check", CHECKS)
def test_registered_score(name: str, check: Check) -> None:
    check(SCORES.require(name))


def doubled(weights: Vector) -> Vector:
    return np.abs(np.repeat(weights, 2))


COUNTER = itertools.count()


def restless(weights: Vector) -> Vector:
    return np.abs(weights) + np.float32(next(COUNTER))


def meddling(weights: Vector) -> Vector:
    weights *= 2
    return np.abs(weights)


def positional(weights: Vector) -> Vector:
    return np.abs(weights) + np.arange(len(weights), dtype=np.float32)


def hiding(weights: Vector) -> Vector:
    return np.nan_to_num(np.abs(weights))


@pytest.mark.parametrize(
    ("score", "check"),
    [
        (doubled, check_shape),
        (lambda weights: np.abs(weights).astype(np.float64), check_shape),
        (restless, check_determinism),
        (meddling, check_determinism),
        (lambda weights: weights, check_ties),
        (positional, check_ties),
    ],
)
def test_wrong_score_is_rejected(score: Score, check: Check) -> None:
    with pytest.raises(AssertionError):
        check(score)


def test_score_that_hides_divergence_is_rejected() -> None:
    with pytest.raises(pytest.fail.Exception):
        check_divergence(hiding)
