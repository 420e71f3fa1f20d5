"""A battery that says whether values can be draws of the discrete Gaussian of a given sigma."""

from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare, ks_1samp, norm

Draws = NDArray[np.integer]

SIGNIFICANCE = 1e-5
"""Chance that a test of the battery fails a true sampler."""

TAIL = 3.5
"""Standard deviations from which the number of far values is counted (5e-4 of all)."""


def probabilities(sigma: float, reach: int) -> NDArray[np.float64]:
    """Return the exact chances of the integers -reach to reach, all others' added to the ends."""
    most = max(reach, round(12 * sigma) + 1)
    weights = np.exp(-(np.arange(-most, most + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    folded = np.zeros(2 * reach + 1)
    np.add.at(folded, np.clip(np.arange(-most, most + 1) + reach, 0, 2 * reach), weights)
    return folded


def far_share(sigma: float) -> float:
    """Return the chance of a draw beyond `TAIL` standard deviations."""
    if sigma > 50:
        return float(2 * norm.sf(TAIL))
    reach = int(TAIL * sigma) + 1
    return float(probabilities(sigma, reach)[[0, -1]].sum())


def _beyond(value: float, sd: float) -> bool:
    return bool(abs(value) > norm.isf(SIGNIFICANCE / 2) * sd)


def complaints(values: Draws, sigma: float) -> set[str]:
    """Return the names of the tests that ``values`` [n] fail."""
    size, standard = len(values), values / sigma
    failed = set()
    if _beyond(standard.mean(), 1 / sqrt(size)):
        failed.add("mean")
    if _beyond((standard**2).mean() - 1, sqrt(2 / size)):
        failed.add("variance")
    far, share = int((np.abs(standard) > TAIL).sum()), far_share(sigma)
    if _beyond(far - size * share, sqrt(size * share)):
        failed.add("tail")
    if _frequencies(values, sigma) < SIGNIFICANCE:
        failed.add("frequencies")
    half = size // 2
    for lag in (1, 2, half):  # The stream may begin again half way.
        if _beyond((standard[:-lag] * standard[lag:]).mean(), 1 / sqrt(size - lag)):
            failed.add("repetition")
    return failed


def _frequencies(values: Draws, sigma: float) -> float:
    """Return the p-value of the frequencies of integers, or of the whole shape if many."""
    if sigma > 50:
        return float(ks_1samp(values[:50_000] + 0.0, norm(scale=sigma).cdf).pvalue)
    reach = round(3.5 * sigma)
    counts = np.bincount(np.clip(values + reach, 0, 2 * reach), minlength=2 * reach + 1)
    return float(chisquare(counts, probabilities(sigma, reach) * len(values)).pvalue)
