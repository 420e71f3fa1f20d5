"""Allocation: how much of each layer is kept, when so much is kept in all."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from common.registry import Registry

Shapes = NDArray[np.int64]
Densities = NDArray[np.float64]
Allocation = Callable[[Shapes], Densities | None]
"""From layers' (outputs, inputs) [g, 2] to their relative densities [g]; None: all compete."""

ALLOCATIONS: Registry[Allocation] = Registry("pruning allocation")


@ALLOCATIONS.register("global")
def everywhere(shapes: Shapes) -> None:
    """Let all layers compete on the score (Blalock et al. 2020, section 2.3)."""


@ALLOCATIONS.register("layer")
def by_layer(shapes: Shapes) -> Densities:
    """Keep the same share of each layer."""
    return np.ones(len(shapes))


@ALLOCATIONS.register("erk")
def erk(shapes: Shapes) -> Densities:
    """Keep small layers denser, by (outputs + inputs) / (outputs inputs) (Evci et al. 2020, 3)."""
    return np.asarray(shapes.sum(1) / shapes.prod(1), np.float64)


def quotas(keep: int, shares: Densities, alive: Shapes) -> Shapes:
    """Deal ``keep`` to groups by ``shares`` [g], to none more than its ``alive`` [g].

    What a full group cannot take goes to the others by their shares; remainders go to the
    largest fractions, the first of equal ones. The sum is exact if so many are alive.
    """
    given: Shapes = np.zeros_like(alive)
    open_ = alive > 0
    while open_.any():
        ideal = np.where(open_, shares, 0.0)
        ideal *= (keep - given[~open_].sum()) / ideal.sum()
        full = open_ & (ideal >= alive)
        if not full.any():
            given[open_] = ideal[open_].astype(np.int64)
            left = keep - int(given.sum())
            order = np.argsort(-np.where(open_, ideal - given, -1.0), kind="stable")
            given[order[:left]] += 1
            break
        given[full] = alive[full]
        open_ &= ~full
    return given
