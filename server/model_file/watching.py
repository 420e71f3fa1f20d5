"""What whoever watches a model can tell from chance, by how many rows it has.

The model's own figures are what later ones are held against. They come from counts that carry
noise, which no number of new rows takes away; so each bound has a part that stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, hypot, isfinite, sqrt

import numpy as np
from scipy.special import chdtri

from common.histograms import LOGIT_RANGE
from server.evaluation import CONFIDENCE, denoised, metrics
from server.report.files import Counted
from server.report.shapes import Array

LEAST_SHARE = 0.05
"""Of all rows in a band: below it, one is joined to the next."""

CHANCE = 0.05
"""How often chance alone may pass a bound on the stability index."""

SHIFTED, OTHER = 0.1, 0.25
"""Of the population stability index: where custom sees a shift, and another population."""

ROWS = (250, 500, 1_000, 2_500, 5_000, 10_000, 25_000)
"""Numbers of new rows that are reckoned through."""

CHANGE = 0.5
"""The change of a band's positives, or of its negatives if they are fewer, that is to be seen."""


@dataclass(frozen=True, slots=True)
class Band:
    """Scores from ``low`` to ``high``, and the rows [likely] that have them.

    ``sd`` is what the noise alone does to the share of positives, in it or of all its rows.
    """

    low: float
    high: float
    rows: float
    positives: float
    noise: float

    @property
    def share(self) -> float:
        """Share of positives."""
        return self.positives / self.rows

    @property
    def sd(self) -> float:
        """What noise of deviation ``noise`` on either class's count does to `share`."""
        return self.noise * hypot(1 - self.share, self.share) / self.rows


def bands_of(counted: Counted) -> tuple[Band, ...]:
    """Return the score's bands, each of `LEAST_SHARE` of the rows or more, from the lowest up."""
    negative, positive = denoised(counted.counts).reshape(2, -1)
    total, bins = negative + positive, len(negative)
    if min(negative.sum(), positive.sum()) <= 0:
        return ()
    edges = 1 / (1 + np.exp(-LOGIT_RANGE * (2 * np.arange(bins + 1) / bins - 1)))
    # Logits beyond the range are counted in the outermost bins.
    edges[0], edges[-1] = 0.0, 1.0
    starts, held = [0], 0.0
    for at, rows in enumerate(total):
        if held >= LEAST_SHARE * total.sum() and total[at:].sum() >= LEAST_SHARE * total.sum():
            starts.append(at)
            held = 0.0
        held += rows
    return tuple(
        Band(
            float(edges[start]),
            float(edges[end]),
            float(total[start:end].sum()),
            float(positive[start:end].sum()),
            counted.noise * sqrt(end - start),
        )
        for start, end in zip(starts, [*starts[1:], bins], strict=True)
    )


def index_bound(bands: tuple[Band, ...], rows: float) -> float:
    """Return the population stability index of so many new rows that chance passes once in 20.

    Without a shift it is near a chi-squared of (bands - 1) degrees times 1/n + 1/m (Yurdakul and
    Naranjo 2020, section 2). The reference's noise adds on average its variance over each band's
    share; spread over the degrees, that is scaled to the same quantile.
    """
    degrees = len(bands) - 1
    if not degrees:
        return 0.0
    whole = sum(band.rows for band in bands)
    noise = sum(2 * band.noise**2 / (whole * band.rows) for band in bands)
    return float(chdtri(degrees, CHANCE)) * (1 / whole + 1 / rows + noise / degrees)


def rows_for_index(bands: tuple[Band, ...], bound: float = SHIFTED) -> int | None:
    """Return the new rows whose index chance keeps under ``bound``; None if none are enough."""
    endless = index_bound(bands, float("inf"))
    if endless >= bound:
        return None
    return ceil((index_bound(bands, 1.0) - endless) / (bound - endless))


def auc_sd(roc_auc: float, positives: float, negatives: float) -> float:
    """Return the chance of rows in a ROC-AUC (Hanley and McNeil 1982, equation 1)."""
    both = roc_auc * (1 - roc_auc)
    first = roc_auc / (2 - roc_auc) - roc_auc**2
    second = 2 * roc_auc**2 / (1 + roc_auc) - roc_auc**2
    spread = both + (positives - 1) * first + (negatives - 1) * second
    return sqrt(max(0.0, spread) / (positives * negatives))


def falls(counted: Counted, noise_sd: float) -> Iterator[tuple[int, float]]:
    """Yield numbers of labelled rows, and the smallest fall of ROC-AUC that each tells.

    ``noise_sd`` is what noise alone does to the reference. Rows too few to hold both classes are
    left out.
    """
    seen = metrics(denoised(counted.counts))
    if not isfinite(seen.roc_auc):
        return
    share = seen.positives / (seen.positives + seen.negatives)
    reference = hypot(auc_sd(seen.roc_auc, seen.positives, seen.negatives), noise_sd)
    for rows in ROWS:
        positives, negatives = share * rows, (1 - share) * rows
        if min(positives, negatives) >= 2:
            yield rows, CONFIDENCE * hypot(auc_sd(seen.roc_auc, positives, negatives), reference)


def rows_for_change(band: Band) -> int | None:
    """Return the labelled rows of a band that tell a change by `CHANGE` of its rarer class.

    None where the reference itself is too uncertain for any number.
    """
    share = band.share
    own = share * (1 - share)
    sought = (CHANGE * min(share, 1 - share) / CONFIDENCE) ** 2
    left = sought - own / band.rows - band.sd**2
    return ceil(own / left) if left > 0 and own > 0 else None


def mean_score(counted: Counted, scores: Array) -> float:
    """Return the mean of the bins' middle scores over all rows."""
    rows = denoised(counted.counts).reshape(2, -1).sum(axis=0)
    return float(rows @ scores / rows.sum())
