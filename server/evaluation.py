"""Metrics from summed counts alone: all that the server ever learns about quality."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Metrics:
    """Ranking quality over all institutions' records; NaN when a class is absent."""

    roc_auc: float
    pr_auc: float
    positives: float
    negatives: float


def metrics(counts: NDArray[np.float64]) -> Metrics:
    """Return the metrics of a histogram segment [2 * bins] (negatives first, then positives).

    ROC-AUC is the Mann-Whitney statistic with ties in a bin counted half; PR-AUC is average
    precision with a bin's records taken as tied (Boyd et al. 2013, section 3).
    """
    negative, positive = counts.reshape(2, -1)
    negatives, positives = negative.sum(), positive.sum()
    if min(negatives, positives) <= 0:
        return Metrics(np.nan, np.nan, positives, negatives)
    below = np.cumsum(negative) - negative
    roc_auc = positive @ (below + negative / 2) / (positives * negatives)
    hits, alarms = np.cumsum(positive[::-1]), np.cumsum(negative[::-1])
    seen = hits + alarms
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    pr_auc = precision @ positive[::-1] / positives
    return Metrics(float(roc_auc), float(pr_auc), float(positives), float(negatives))
