"""Granularity: what is kept or pruned as one, from single weights to whole neurons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.pruning.masks import Mask
from common.registry import Registry

if TYPE_CHECKING:
    from common.layout import Layout

Indices = NDArray[np.int64]

NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """What a model is pruned by.

    ``owners`` [k, size] names up to k units a weight is part of (`NOBODY` for none): it survives
    as long as all of them. ``group`` [n] is each unit's layer, or its block where ``blocks`` is
    true, ``shapes`` [g, 2] the layers' (outputs, inputs). ``fixed`` weights are never pruned and
    count as kept.
    """

    owners: Indices
    group: Indices
    shapes: Indices
    fixed: int = 0
    blocks: bool = False

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.group)

    @property
    def groups(self) -> int:
        """Number of layers, or of blocks."""
        return int(self.group.max()) + 1 if self.blocks else len(self.shapes)

    def alive(self, mask: Mask) -> Mask:
        """Return which units [n] have a weight left in a mask [size]."""
        dead = np.ones(self.count + 1, np.bool_)
        for owners in self.owners:
            dead[owners[mask]] = False
        # A weight whose other owner is gone is no sign of life of this one, nor of its death.
        return ~dead[:-1]

    def mask(self, alive: Mask) -> Mask:
        """Return the mask [size] that units [n] leave."""
        with_nobody = np.append(alive, True)
        return np.asarray(with_nobody[self.owners].all(axis=0))

    def kept(self, sparsity: float) -> int:
        """Return how many units are left at a sparsity; below 0 when fixed weights are too many."""
        if self.blocks:
            return int(self.quotas(sparsity).sum())
        return round((self.count + self.fixed) * (1 - sparsity)) - self.fixed

    def quotas(self, sparsity: float) -> Indices:
        """Return how many units each group keeps at a sparsity, where it is a block."""
        sizes = np.bincount(self.group)
        # A hair less, or 4 * (1 - .75) would be more than 1.
        quotas: Indices = np.ceil(sizes * (1 - sparsity) - 1e-9).astype(np.int64)
        return quotas


Granularity = Callable[["Layout", Mask, int], Units]
"""From layout, protected weights [size] and the length of a block to the units."""

GRANULARITIES: Registry[Granularity] = Registry("pruning granularity")


@GRANULARITIES.register("weight")
def single_weights(layout: Layout, protected: Mask, block: int) -> Units:
    """Prune single weights; sparsity is the share of all weights (Han et al. 2015)."""
    owners, layers = np.full((1, layout.size), NOBODY), np.empty(layout.size, np.int64)
    for index, entry in enumerate(layout.entries):
        layers[entry.span] = index
    free = np.flatnonzero(~protected)
    owners[0, free] = np.arange(free.size)
    shapes = np.array([_matrix(entry.shape) for entry in layout.entries])
    return Units(owners, layers[free], shapes, fixed=int(protected.sum()))


@GRANULARITIES.register("neuron")
def neurons(layout: Layout, protected: Mask, block: int) -> Units:
    """Prune hidden neurons with all weights in and out; sparsity is the share of neurons.

    Li et al. 2017, section 3.1, for filters. The bias goes with its neuron.
    """
    owners = np.full((2, layout.size), NOBODY)
    shapes, group, first = [], [], 0
    entries = {entry.name: entry for entry in layout.entries}
    for index, name in enumerate(f"hidden.{i}" for i in range(len(entries))):
        if f"{name}.weight" not in entries:
            break
        weight, bias = entries[f"{name}.weight"], entries[f"{name}.bias"]
        following = entries.get(f"hidden.{index + 1}.weight", entries["output.weight"])
        outputs, inputs = weight.shape
        numbers = np.arange(first, first + outputs)
        owners[0, weight.span] = np.repeat(numbers, inputs)
        owners[0, bias.span] = numbers
        owners[1, following.span] = np.tile(numbers, following.shape[0])
        shapes.append(weight.shape)
        group += [index] * outputs
        first += outputs
    return Units(owners, np.array(group, np.int64), np.array(shapes).reshape(-1, 2))


@GRANULARITIES.register("block")
def blocks(layout: Layout, protected: Mask, block: int) -> Units:
    """Keep at most N of each M = ``block`` weights in a row (Mishra et al. 2021, section 2).

    Sparsity 1 - N/M is that of each block; a shorter block at a row's end is rounded up.
    """
    units = single_weights(layout, protected, block)
    places = np.concatenate([_blocks_of(entry.shape, block) for entry in layout.entries])
    layer = np.concatenate(
        [np.full(np.prod(entry.shape), index) for index, entry in enumerate(layout.entries)]
    )
    free = np.flatnonzero(~protected)
    _, group = np.unique(np.stack([layer, places])[:, free], axis=1, return_inverse=True)
    return Units(units.owners, group.reshape(-1), units.shapes, units.fixed, blocks=True)


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0], shape[1] if len(shape) > 1 else 1)


def _blocks_of(shape: tuple[int, ...], block: int) -> Indices:
    """Return each weight's block within its tensor, row by row."""
    rows, columns = _matrix(shape) if len(shape) > 1 else (1, shape[0])
    in_row = np.arange(columns) // block
    per_row = ceil(columns / block)
    return (np.arange(rows)[:, None] * per_row + in_row).reshape(-1)
