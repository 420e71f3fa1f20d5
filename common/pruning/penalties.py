"""Penalties: proximal steps that move weights towards zero, so that what is idle can be cut.

Data-independent given the weights, so after noised steps they cost no privacy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from common.pruning.evidence import Vector
from common.registry import Registry

if TYPE_CHECKING:
    from common.layout import Layout

Penalty = Callable[[Vector, Vector, "Layout"], None]
"""Moves flat weights [size] in place; the threshold [size] is 0 for protected ones."""

TINY = np.float32(1e-12)
"""Stands for the norm of a group that is zero."""

PENALTIES: Registry[Penalty] = Registry("pruning penalty")


@PENALTIES.register("none")
def none(flat: Vector, threshold: Vector, layout: Layout) -> None:
    """Leave the weights alone."""


@PENALTIES.register("l1")
def l1(flat: Vector, threshold: Vector, layout: Layout) -> None:
    """Soft threshold (Tibshirani 1996; Parikh and Boyd 2014, section 6.5.2)."""
    flat -= np.clip(flat, -threshold, threshold)


@PENALTIES.register("l2")
def l2(flat: Vector, threshold: Vector, layout: Layout) -> None:
    """Shrink in proportion (Parikh and Boyd 2014, section 6.1.1)."""
    flat /= 1 + threshold


@PENALTIES.register("group_lasso")
def group_lasso(flat: Vector, threshold: Vector, layout: Layout) -> None:
    """Soft threshold of each hidden neuron's incoming weights as one (Yuan and Lin 2006, eq. 2.3).

    A group's threshold grows by the root of its size, as theirs does.
    """
    for entry in layout.entries:
        if entry.name.startswith("hidden.") and entry.name.endswith(".weight"):
            rows = flat[entry.span].reshape(entry.shape)
            limit = threshold[entry.span].reshape(entry.shape)[:, :1] * sqrt(entry.shape[1])
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            rows *= np.maximum(1 - limit / np.maximum(norms, TINY), 0)


@dataclass(frozen=True, slots=True, eq=False)
class Proximal:
    """The proximal step of a penalty on the weights of one layout."""

    penalty: Penalty
    threshold: Vector
    layout: Layout

    def __call__(self, flat: Vector) -> None:
        """Move flat weights [size] in place; zeros stay zero."""
        self.penalty(flat, self.threshold, self.layout)
