"""Score histograms by class: the counts from which every metric is computed."""

import numpy as np
from numpy.typing import NDArray

LOGIT_RANGE = 5.0
"""Logits beyond +-5 (scores below .0067 or above .9933) share the outermost bins.

A wider range leaves bins empty, and noise falls on empty bins as on full ones.
"""


def histogram(
    logits: NDArray[np.float32], labels: NDArray[np.float32], bins: int
) -> NDArray[np.float64]:
    """Return the counts [2 * bins] of records by score bin: negatives first, then positives.

    ``logits`` and ``labels`` (0 or 1) are [n]. Bins are equal in the logit, because default
    probabilities crowd near their base rate. Adding a record changes one count by one.
    """
    position = (logits.astype(np.float64) / LOGIT_RANGE + 1) / 2 * bins
    index = np.clip(position, 0, bins - 1).astype(np.int64) + bins * (labels > 0)
    return np.bincount(index, minlength=2 * bins).astype(np.float64)
