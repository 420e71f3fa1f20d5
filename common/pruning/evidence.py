"""What the server knows of each weight: sums over institutions, and what followed from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

DECAY = 0.9
"""Share of the moving average that each round keeps."""


@dataclass(frozen=True, slots=True, eq=False)
class Traces:
    """What earlier rounds leave of each weight, all float32 [size].

    ``initial`` is its first value, ``velocity`` the moving average of its descent, the step that
    the aggregate asks of it (the negative pseudo-gradient: Reddi et al. 2021, section 2),
    ``movement`` the sum of descent times weight, ``anchor`` the value it rewinds to,
    ``magnitudes`` the last mean of the institutions' own, if any were sent.
    """

    initial: Vector
    velocity: Vector
    movement: Vector
    anchor: Vector
    magnitudes: Vector | None = None

    @classmethod
    def begin(cls, weights: Vector) -> Traces:
        """Return the traces before the first round."""
        still = np.zeros_like(weights)
        return cls(weights, still, still, weights)

    def after(self, weights: Vector, descent: Vector) -> Traces:
        """Return the traces after a round that began with ``weights``; ``descent`` [size]."""
        velocity = DECAY * self.velocity + (1 - DECAY) * descent
        movement = self.movement + descent * weights
        return replace(self, velocity=velocity, movement=movement)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a score may read: weights float32 [size], their past, and a key that the plan sets."""

    weights: Vector
    traces: Traces
    key: bytes
