import os
from collections.abc import Callable
from math import exp, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from common.entropy import SeededEntropy, Stream
from common.privacy.counting import discrete_gaussian, noised_counts

DRAWS = 8_000


def stream(label: str) -> Stream:
    return SeededEntropy(3, "counting").stream(label)


def drawn(sigma: float, source: Stream, number: int = DRAWS) -> NDArray[np.int64]:
    return np.array([discrete_gaussian(sigma, source) for _ in range(number)])


def misfit(draws: NDArray[np.int64], sigma: float) -> float:
    """Return chi-square over its degrees of freedom, in standard deviations of it."""
    reach = int(6 * sigma) + 2
    values = np.arange(-reach, reach + 1)
    chances = np.exp(-(values**2) / (2 * sigma**2))
    expected = chances / chances.sum() * len(draws)
    frequent = expected >= 5
    counts = np.array([(draws == value).sum() for value in values])
    rest = expected[~frequent].sum(), len(draws) - counts[frequent].sum()
    terms = (counts[frequent] - expected[frequent]) ** 2 / expected[frequent]
    total = terms.sum() + (rest[1] - rest[0]) ** 2 / max(rest[0], 1e-9)
    freedom = int(frequent.sum())
    return float((total - freedom) / sqrt(2 * freedom))


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.7])
def test_frequencies_are_the_discrete_gaussians(sigma: float) -> None:
    assert misfit(drawn(sigma, stream(f"{sigma}")), sigma) < 5


@pytest.mark.parametrize(
    "wrong",
    [
        lambda draws: draws * 2 // 2 + (draws == 0) * 1,
        lambda draws: np.clip(draws, -3, 3),
        np.abs,
    ],
    ids=["no zero", "no tail", "no sign"],
)
def test_other_frequencies_are_told_apart(
    wrong: Callable[[NDArray[np.int64]], NDArray[np.int64]],
) -> None:
    draws = drawn(2.0, stream("wrong"))
    assert misfit(draws, 2.0) < 5
    assert misfit(wrong(draws), 2.0) > 5
    assert misfit(draws, 2.2) > 5


def test_zero_is_not_twice_as_likely() -> None:
    draws = drawn(0.5, stream("zero"), 4_000)
    ratio = (draws == 0).sum() / (np.abs(draws) == 1).sum()
    assert ratio == pytest.approx(exp(2) / 2, rel=0.15)


def test_counts_saturate_before_the_noise() -> None:
    counts = np.array([0.0, 5.0, 100.0])
    assert noised_counts(counts, 50, 0.0, os.urandom).tolist() == [0, 5, 50]
    many = np.array([noised_counts(counts, 50, 2.0, stream("many")) for _ in range(3)])
    assert np.array_equal(many[0], many[1])
    source = stream("fresh")
    spread = np.array([noised_counts(counts, 50, 2.0, source) for _ in range(800)])
    assert np.allclose(spread, spread.round())
    assert np.allclose(spread.mean(axis=0), [0, 5, 50], atol=0.35)
    assert np.allclose(spread.std(axis=0), 2.0, rtol=0.12)
    assert spread.max() > 50
    assert spread.min() < 0


def test_sigma_is_never_rounded_down() -> None:
    fine = drawn(0.3001, stream("grain"), 100)
    coarse = drawn(0.301, stream("grain"), 100)
    assert np.array_equal(fine, coarse)
    assert not np.array_equal(fine, drawn(0.9, stream("grain"), 100))
