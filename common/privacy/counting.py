"""Counts under noise: how held-out records speak without any being seen."""

import numpy as np
from numpy.typing import NDArray

from common.entropy import Stream
from common.privacy.discrete import discrete_gaussian


def noised_counts(
    counts: NDArray[np.float64], most: int, sigma: float, stream: Stream
) -> NDArray[np.float64]:
    """Return whole counts [n], each at most ``most``, plus discrete Gaussian noise.

    Where a unit moves all counts that are released together, these and others with the same
    ``sigma``, by at most s (L2), the release is s^2 / (2 sigma^2)-concentrated (Canonne, Kamath and
    Steinke 2020, Theorem 4). ``sigma`` 0 adds nothing.
    """
    saturated: NDArray[np.float64] = np.minimum(counts, most)
    return saturated + discrete_gaussian(sigma, len(counts), stream) if sigma else saturated
