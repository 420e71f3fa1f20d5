"""ROC, PR and calibration curves from noised counts, and how far the noise may have bent them.

The bands are those of a parametric bootstrap, as the standard deviations of `server.evaluation`
are: the same noise again, `REPLICAS` times, on the counts as they are thought to be.
"""

from dataclasses import dataclass

import numpy as np

from server.evaluation import REPLICAS, bin_scores, denoised
from server.report.shapes import Array

WITHIN = 0.95
"""Share of the draws that a band holds."""

GRID = np.linspace(0, 1, 51)
"""Where the ROC and PR curves are read."""

LEAST_SHARE = 1e-3
"""Of all rows in a bin, below which its share of positives says nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A curve [n] and its band; equal to the curve where the counts carry no noise."""

    x: Array
    y: Array
    low: Array
    high: Array


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What a model's counts draw: hits by alarms, precision by hits, positives by score.

    ``rows`` [bins] are the denoised counts behind the calibration's points.
    """

    roc: Curve
    pr: Curve
    calibration: Curve
    rows: Array
    prevalence: float


def curves(counts: Array, noise: float) -> Curves | None:
    """Return the curves of counts [2 * bins] with noise of that deviation; None without a class."""
    likely = denoised(counts)
    if min(half.sum() for half in likely.reshape(2, -1)) <= 0:
        return None
    # Repeats public noise on published numbers: it protects nobody, and must be repeatable.
    draws = np.random.default_rng(0).normal(0.0, noise, (REPLICAS if noise else 0, likely.size))
    replicas = [denoised(likely + draw) for draw in draws]
    whole = [one for one in replicas if min(half.sum() for half in one.reshape(2, -1)) > 0]
    negative, positive = likely.reshape(2, -1)
    rows = negative + positive
    shown = rows > LEAST_SHARE * rows.sum()
    return Curves(
        roc=_curve(GRID, hits_at(likely), [hits_at(one) for one in whole]),
        pr=_curve(GRID[1:], precision_at(likely), [precision_at(one) for one in whole]),
        calibration=_curve(
            bin_scores(len(rows))[shown],
            shares(likely)[shown],
            [shares(one)[shown] for one in whole],
        ),
        rows=rows[shown],
        prevalence=float(positive.sum() / rows.sum()),
    )


def hits_at(counts: Array) -> Array:
    """Return the share of positives found at each share of false alarms in `GRID`."""
    alarms, hits = _rates(counts)
    return np.interp(GRID, alarms, hits)


def precision_at(counts: Array) -> Array:
    """Return the precision at each share of positives found in `GRID` but zero.

    Within a bin, whose rows are tied, hits and alarms grow together (Davis and Goadrich 2006,
    section 4).
    """
    negatives, positives = (half.sum() for half in counts.reshape(2, -1))
    alarms, hits = _rates(counts)
    # A bin without positives adds alarms at equal hits; the best of them is the curve's.
    found, first = np.unique(hits, return_index=True)
    false = np.interp(GRID[1:], found, alarms[first]) * negatives
    true = GRID[1:] * positives
    return np.asarray(true / (true + false))


def shares(counts: Array) -> Array:
    """Return each bin's share of positives; NaN where it is empty."""
    negative, positive = counts.reshape(2, -1)
    total = negative + positive
    return np.divide(positive, total, out=np.full_like(total, np.nan), where=total > 0)


def _rates(counts: Array) -> tuple[Array, Array]:
    """Return false alarms and hits [bins + 1] from no row flagged to all of them."""
    negative, positive = (half[::-1] for half in counts.reshape(2, -1))
    rates = [np.concatenate([[0.0], np.cumsum(half) / half.sum()]) for half in (negative, positive)]
    return rates[0], rates[1]


def _curve(x: Array, y: Array, replicas: list[Array]) -> Curve:
    if not replicas:
        return Curve(x, y, y, y)
    edges = ((1 - WITHIN) / 2, (1 + WITHIN) / 2)
    with np.errstate(invalid="ignore"):
        low, high = np.nanquantile(np.array(replicas), edges, axis=0)
    return Curve(x, y, np.fmin(low, y), np.fmax(high, y))
