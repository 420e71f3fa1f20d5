"""What the server makes of a noisy gradient: SGD with momentum, or Adam.

Post-processing of the noised sum: it costs no privacy.
"""

import numpy as np
from numpy.typing import NDArray

from common.plan import OptimiserPlan

Vector = NDArray[np.float64]

EPSILON = 1e-8
"""Added to Adam's root second moment; far below any noise."""


def direction(
    gradient: Vector, moments: Vector, optimiser: OptimiserPlan, updates: int
) -> tuple[Vector, Vector]:
    """Return where to go against, and the new moments.

    ``gradient`` is [n], ``moments`` [2, n]: first and second, zero at first. ``updates`` counts
    the steps so far, this one included: both moments are corrected for their start at zero
    (Kingma and Ba 2015, algorithm 1). Averaging, not summing, momentum keeps the rate's meaning.
    """
    decays = np.array([[optimiser.momentum], [optimiser.second]])
    moments = decays * moments + (1 - decays) * np.stack([gradient, gradient**2])
    first, second = moments / (1 - decays**updates)
    if optimiser.kind == "sgd":
        return first, moments
    return first / (np.sqrt(second) + EPSILON), moments
