"""The discrete Gaussian on the integers, drawn from a CSPRNG.

Its weight at x is exp(-x^2 / 2 sigma^2) (Canonne, Kamath and Steinke 2020). A small one is drawn
by the alias method (Walker 1977; Vose 1991): a table of `CELLS` cells, a cell and an 80-bit
threshold a draw. A large one is the sum of two small ones, k A + B, whose weights are off by a
factor of 1 +- 4 exp(-2 pi^2 tau^2) at most, tau = sigma_A sigma_B / sigma (Peikert 2010,
convolution of discrete Gaussians): nothing beside the table, because `MAX_SIGMA` keeps tau at 2
or more.
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

TABLE_SIGMA = 512.0
"""Largest sigma a table holds: its ends lie 16 deviations out (chance 1e-57)."""

MAX_SIGMA = 125_000.0
"""Largest sigma drawn: beyond it, tau of the two tables would fall below 2."""

VARIATION = 2.0**-78
"""Bound of the total variation from an exact draw: 2^-80 for each table, and the rest."""

_LOWER_BITS = 64
_CAPACITY = 2 ** (16 + _LOWER_BITS)  # of a cell


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Where a threshold falls short of a cell's limit, the cell; else its alias.

    Limits have 80 bits. ``packed`` holds the upper 16 and the alias, two little-endian words a
    cell; few thresholds need the ``lower`` 64.
    """

    packed: NDArray[np.uint32]
    lower: NDArray[np.uint64]

    def draw(self, count: int, stream: Stream) -> NDArray[np.uint16]:
        """Return ``count`` cells [count]."""
        thresholds, cells = np.frombuffer(stream(4 * count), "<u2").reshape(2, count)
        cells = cells & np.uint16(CELLS - 1)
        limits, aliases = self.packed.take(cells).view("<u2").reshape(count, 2).T
        short = thresholds < limits
        ties = np.flatnonzero(thresholds == limits)
        if ties.size:
            rest = np.frombuffer(stream(8 * ties.size), "<u8")
            short[ties] = rest < self.lower[cells[ties]]
        return np.where(short, cells, aliases)


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
        return table.draw(count, stream).astype(np.int32) - ZERO
    coarse, fine = table.draw(2 * count, stream).reshape(2, count)
    values = coarse.astype(np.int32)
    values *= factor
    values += fine
    values -= (factor + 1) * ZERO
    return values


@lru_cache(maxsize=16)
def _table(sigma: float, factor: int) -> _Table:
    """Return the table of variance sigma^2 / (factor^2 + 1)."""
    parts = _parts(Decimal(sigma) ** 2 / (factor**2 + 1))
    packed, lower = np.zeros((CELLS, 2), "<u2"), np.zeros(CELLS, np.uint64)
    packed[:, 1] = np.arange(CELLS)
    short = [cell for cell, part in enumerate(parts) if part < _CAPACITY]
    full = [cell for cell, part in enumerate(parts) if part > _CAPACITY]
    while short:
        cell, giver = short.pop(), full[-1]
        upper, lower[cell] = divmod(parts[cell], 2**_LOWER_BITS)
        packed[cell] = upper, giver
        parts[giver] -= _CAPACITY - parts[cell]
        if parts[giver] <= _CAPACITY:
            full.pop()
        if parts[giver] < _CAPACITY:
            short.append(giver)
    return _Table(packed.view(np.uint32)[:, 0], lower)


def _parts(variance: Decimal) -> list[int]:
    """Return the chance of each cell in units of 2^-94, to the unit; they sum to 2^94."""
    with localcontext(prec=60):
        # The ratio of neighbours shrinks by exp(-1 / variance) a step.
        ratio, shrink = (-1 / (2 * variance)).exp(), (-1 / variance).exp()
        weights = [Decimal(1)]
        for _ in range(CELLS // 2):
            weights.append(weights[-1] * ratio)
            ratio *= shrink
        both = weights[-2:0:-1] + weights
        unit = CELLS * _CAPACITY / sum(both)
        parts = [int(weight * unit) for weight in both]
    parts[ZERO] += CELLS * _CAPACITY - sum(parts)
    return parts
