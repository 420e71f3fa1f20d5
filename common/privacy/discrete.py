"""The discrete Gaussian on the integers, drawn from a CSPRNG.

Its weight at x is exp(-x^2 / 2 sigma^2) (Canonne, Kamath and Steinke 2020). A small one is drawn
from a table of 2^16 slots (Marsaglia 1963): most hold an integer, so that two random bytes are a
draw; the last `MIXED` lead to what is left of each integer's chance beside whole slots, drawn by
the alias method (Walker 1977; Vose 1991): one of `CELLS` cells and an 80-bit threshold. A large one
is the sum of two small ones, k A + B, whose weights are off by a factor of 1 +- 4 exp(-2 pi^2
tau^2) at most, tau = sigma_A sigma_B / sigma (Peikert 2010, convolution of discrete Gaussians):
nothing beside the table, because `MAX_SIGMA` keeps tau at 2 or more.
"""

from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from common.entropy import Stream

CELLS = 2**14
"""Cells of a table: the integers from -(CELLS / 2 - 1) to CELLS / 2."""

ZERO = CELLS // 2 - 1
"""The cell of the integer 0."""

MIXED = 2**11
"""Slots without an integer of their own; up to `TABLE_SIGMA`, fewer than 1,750 are left over."""

TABLE_SIGMA = 512.0
"""Largest sigma a table holds: its ends lie 16 deviations out (chance 1e-57)."""

MAX_SIGMA = 125_000.0
"""Largest sigma drawn: beyond it, tau of the two tables would fall below 2."""

VARIATION = 2.0**-78
"""Bound of the total variation from an exact draw: 2^-80 for each table, and the rest."""

_DIRECT = 2**16 - MIXED
_LOWER_BITS = 64
_CAPACITY = 2 ** (16 + _LOWER_BITS)  # of a cell
_SLOT = CELLS * _CAPACITY // MIXED


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The integer of each slot; the limit of each cell, in two parts, and its alias.

    A threshold that falls short of its cell's limit draws the cell's own integer, else the alias.
    Limits have 80 bits: few thresholds need the ``lower`` 64 to be told from the ``upper`` 16.
    """

    integers: NDArray[np.int16]
    upper: NDArray[np.uint16]
    lower: NDArray[np.uint64]
    aliases: NDArray[np.int16]

    def draw(self, count: int, stream: Stream) -> NDArray[np.int16]:
        """Return ``count`` integers [count]."""
        slots = np.frombuffer(stream(2 * count), "<u2")
        values = self.integers.take(slots)
        mixed = np.flatnonzero(slots >= _DIRECT)
        values[mixed] = self._alias(mixed.size, stream)
        return values

    def _alias(self, count: int, stream: Stream) -> NDArray[np.int16]:
        thresholds, cells = np.frombuffer(stream(4 * count), "<u2").reshape(2, count)
        cells = cells & np.uint16(CELLS - 1)
        limits = self.upper[cells]
        short = thresholds < limits
        ties = np.flatnonzero(thresholds == limits)
        if ties.size:
            rest = np.frombuffer(stream(8 * ties.size), "<u8")
            short[ties] = rest < self.lower[cells[ties]]
        return np.where(short, cells.astype(np.int16) - ZERO, self.aliases[cells])


def discrete_gaussian(sigma: float, count: int, stream: Stream) -> NDArray[np.int32]:
    """Return ``count`` independent draws [count] of the discrete Gaussian of ``sigma``.

    Raises `ValueError` when ``sigma`` is not in (0, MAX_SIGMA].
    """
    if not 0 < sigma <= MAX_SIGMA:
        raise ValueError(f"sigma {sigma} of a discrete Gaussian is outside (0, {MAX_SIGMA:g}]")
    # sigma^2 = (k^2 + 1) times the table's variance.
    factor = ceil(sqrt(max(0.0, (sigma / TABLE_SIGMA) ** 2 - 1)))
    table = _table(sigma, factor)
    if not factor:
        return table.draw(count, stream).astype(np.int32)
    coarse, fine = table.draw(2 * count, stream).reshape(2, count)
    values = coarse.astype(np.int32)
    values *= factor
    values += fine
    return values


@lru_cache(maxsize=16)
def _table(sigma: float, factor: int) -> _Table:
    """Return the table of variance sigma^2 / (factor^2 + 1)."""
    parts = _parts(Decimal(sigma) ** 2 / (factor**2 + 1))
    whole = np.repeat(np.arange(CELLS), [part // _SLOT for part in parts])
    # Those too many are left out evenly: mixed slots then favour no sign.
    direct = whole[np.arange(_DIRECT) * whole.size // _DIRECT]
    for cell, slots in enumerate(np.bincount(direct, minlength=CELLS).tolist()):
        parts[cell] -= slots * _SLOT
    upper, lower = np.zeros(CELLS, np.uint16), np.zeros(CELLS, np.uint64)
    aliases = np.arange(CELLS)
    short = [cell for cell, part in enumerate(parts) if part < _CAPACITY]
    full = [cell for cell, part in enumerate(parts) if part > _CAPACITY]
    while short:
        cell, giver = short.pop(), full[-1]
        upper[cell], lower[cell] = divmod(parts[cell], 2**_LOWER_BITS)
        aliases[cell] = giver
        parts[giver] -= _CAPACITY - parts[cell]
        if parts[giver] <= _CAPACITY:
            full.pop()
        if parts[giver] < _CAPACITY:
            short.append(giver)
    integers = np.pad(direct, (0, MIXED)) - ZERO
    return _Table(integers.astype(np.int16), upper, lower, (aliases - ZERO).astype(np.int16))


def _parts(variance: Decimal) -> list[int]:
    """Return the chance of each cell in units of 2^-99, to the unit; they sum to 2^99."""
    with localcontext(prec=60):
        # The ratio of neighbours shrinks by exp(-1 / variance) a step.
        ratio, shrink = (-1 / (2 * variance)).exp(), (-1 / variance).exp()
        weights = [Decimal(1)]
        for _ in range(CELLS // 2):
            weights.append(weights[-1] * ratio)
            ratio *= shrink
        both = weights[-2:0:-1] + weights
        unit = 2**16 * _SLOT / sum(both)
        parts = [int(weight * unit) for weight in both]
    parts[ZERO] += 2**16 * _SLOT - sum(parts)
    return parts
