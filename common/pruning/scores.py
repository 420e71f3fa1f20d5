"""Scores: how much each weight is worth keeping, from aggregates alone."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from common.registry import Registry

Vector = NDArray[np.float32]
Score = Callable[[Vector], Vector]

SCORES: Registry[Score] = Registry("pruning score")


@SCORES.register("magnitude")
def magnitude(weights: Vector) -> Vector:
    """Absolute value of the aggregated weights (Han et al. 2015, section 3)."""
    return np.abs(weights)
