"""Scores: how much each weight is worth keeping, from aggregates alone; the lowest go first."""

from collections.abc import Callable

import numpy as np

from common.pruning.evidence import Evidence, Vector
from common.registry import Registry

Score = Callable[[Evidence], Vector]
"""From what is known to one finite number a weight, float32 [size]."""

SCORES: Registry[Score] = Registry("pruning score")

MEAN_MAGNITUDE = "mean_magnitude"
"""The one score that needs a second vector from the institutions."""


@SCORES.register("magnitude")
def magnitude(evidence: Evidence) -> Vector:
    """Magnitude of the aggregated weights (Han et al. 2015, section 3)."""
    return np.abs(evidence.weights)


@SCORES.register(MEAN_MAGNITUDE)
def mean_magnitude(evidence: Evidence) -> Vector:
    """Mean of the magnitudes of the institutions' own weights.

    It keeps a weight that institutions pull in opposite directions, whose mean is small (each
    votes with its own magnitude, as in Jiang et al. 2022, PruneFL, section 3). Until any were
    sent, which takes a round that is not lost, it is the magnitude of the mean.
    """
    sent = evidence.traces.magnitudes
    return magnitude(evidence) if sent is None else sent.copy()


@SCORES.register("displacement")
def displacement(evidence: Evidence) -> Vector:
    """Distance from the initial value (Zhou et al. 2019, section 2: "movement" from w_i to w_f)."""
    return np.abs(np.subtract(evidence.weights, evidence.traces.initial))


@SCORES.register("gradient")
def gradient(evidence: Evidence) -> Vector:
    """Magnitude of the pseudo-gradient's moving average (Evci et al. 2020, section 3, on it)."""
    return np.abs(evidence.traces.velocity)


@SCORES.register("movement")
def movement(evidence: Evidence) -> Vector:
    """How far the descent has moved a weight away from zero (Sanh et al. 2020, equation 3).

    Negative where it was moved towards zero.
    """
    return evidence.traces.movement.copy()


@SCORES.register("taylor")
def taylor(evidence: Evidence) -> Vector:
    """First-order change of the loss without the weight: |w g| (Molchanov et al. 2017, eq. 7)."""
    return np.abs(np.multiply(evidence.weights, evidence.traces.velocity))


@SCORES.register("random")
def random(evidence: Evidence) -> Vector:
    """Chance, the same in every round: the control that each other score must beat."""
    generator = np.random.default_rng(int.from_bytes(evidence.key, "big"))
    return generator.random(evidence.weights.size, np.float32)
