"""Metrics from summed counts alone: all that the server ever learns about quality.

Sums carry the noise that protects the records. Its scale is public, so every metric comes with
the standard deviation that the noise alone gives it.
"""

from dataclasses import astuple, dataclass, replace
from math import nan

import numpy as np
from numpy.typing import NDArray

from common.histograms import LOGIT_RANGE

Counts = NDArray[np.float64]

REPLICAS = 200
"""Draws of the parametric bootstrap: they give a standard deviation within 5 %."""

CONFIDENCE = 2.0
"""Standard deviations of the noise that it may explain."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Quality over all institutions' records; NaN when a class is absent.

    ``calibration`` is the expected calibration error: the mean distance of a bin's score from
    its share of positives. ``ks`` is the largest distance between the classes' distributions.
    """

    roc_auc: float
    pr_auc: float
    ks: float
    brier: float
    calibration: float
    positives: float
    negatives: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What noised counts tell: each metric, and its standard deviation from the noise alone."""

    value: Metrics
    sd: Metrics


EMPTY = Metrics(nan, nan, nan, nan, nan, 0.0, 0.0)
CERTAIN = Metrics(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def metrics(counts: Counts) -> Metrics:
    """Return the metrics of a histogram segment [2 * bins] (negatives first, then positives).

    ROC-AUC is the Mann-Whitney statistic with ties in a bin counted half; PR-AUC is average
    precision with a bin's records taken as tied (Boyd et al. 2013, section 3). A bin's score
    is that of its middle.
    """
    negative, positive = counts.reshape(2, -1)
    negatives, positives = float(negative.sum()), float(positive.sum())
    if min(negatives, positives) <= 0:
        return replace(EMPTY, positives=positives, negatives=negatives)
    below = np.cumsum(negative) - negative
    roc_auc = positive @ (below + negative / 2) / (positives * negatives)
    hits, alarms = np.cumsum(positive[::-1]), np.cumsum(negative[::-1])
    seen = hits + alarms
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    pr_auc = precision @ positive[::-1] / positives
    ks = np.abs(hits / positives - alarms / negatives).max()
    score, total = bin_scores(len(negative)), negatives + positives
    brier = (positive @ (1 - score) ** 2 + negative @ score**2) / total
    calibration = np.abs(positive - score * (positive + negative)).sum() / total
    return Metrics(
        roc_auc=float(roc_auc),
        pr_auc=float(pr_auc),
        ks=float(ks),
        brier=float(brier),
        calibration=float(calibration),
        positives=positives,
        negatives=negatives,
    )


def estimate(counts: Counts, noise: float) -> Estimate:
    """Return the metrics of counts [2 * bins] that carry noise of standard deviation ``noise``.

    The standard deviation is a parametric bootstrap's: the same noise again, on the counts as
    they are thought to be (Efron and Tibshirani 1993, section 6.5).
    """
    if noise == 0:
        return Estimate(metrics(counts), CERTAIN)
    likely = denoised(counts)
    # Repeats public noise on published numbers: it protects nobody, and must be repeatable.
    draws = np.random.default_rng(0).normal(0.0, noise, (REPLICAS, len(counts)))
    replicas = np.array([astuple(metrics(denoised(likely + draw))) for draw in draws])
    complete = replicas[~np.isnan(replicas).any(axis=1)]
    sd = complete.std(axis=0) if len(complete) > 1 else np.full(replicas.shape[1], np.nan)
    return Estimate(metrics(likely), Metrics(*map(float, sd)))


def denoised(counts: Counts) -> Counts:
    """Return counts [2 * bins] that could be counts: none negative, more bad where scores rise.

    Post-processing, so it costs no privacy. Each class is projected on its simplex (Duchi et
    al. 2008); then the share of positives is made monotone in the score. On uci_default at
    epsilon 1 it takes the error of ROC-AUC from .015 to .013, from .099 to .053 for six
    evaluations of a twelfth as many records.
    """
    negative, positive = map(_on_simplex, counts.reshape(2, -1))
    total = negative + positive
    some = total > 0
    share = np.zeros_like(total)
    share[some] = _monotone(positive[some] / total[some], total[some])
    return np.concatenate([total * (1 - share), total * share])


def _on_simplex(counts: Counts) -> Counts:
    """Return the nearest non-negative counts with the same sum; zeros for one below zero."""
    whole = counts.sum()
    if whole <= 0:
        return np.zeros_like(counts)
    ordered = np.sort(counts)[::-1]
    excess = (np.cumsum(ordered) - whole) / np.arange(1, len(counts) + 1)
    surplus: float = excess[np.flatnonzero(ordered > excess)[-1]]
    return np.maximum(counts - surplus, 0.0)


def _monotone(values: Counts, weights: Counts) -> Counts:
    """Return the weighted least-squares fit that never falls: pool adjacent violators."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, mass, size = float(value), float(weight), 1
        while blocks and blocks[-1][0] >= mean:
            before, other, more = blocks.pop()
            mean = (mean * mass + before * other) / (mass + other)
            mass, size = mass + other, size + more
        blocks.append((mean, mass, size))
    return np.repeat([mean for mean, *_ in blocks], [size for *_, size in blocks])


def bin_scores(bins: int) -> Counts:
    """Return the score in the middle of each bin."""
    middles = (np.arange(bins) + 0.5) / bins * 2 - 1
    return 1 / (1 + np.exp(-LOGIT_RANGE * middles))
