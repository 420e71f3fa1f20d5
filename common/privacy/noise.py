"""Integer grids: a real vector is rounded to levels, and discrete Gaussian noise is added there.

Both the sum and its noise are integers, so no floating-point result shows what was added to what
(Mironov 2012). A grid is built backwards from the noise multiplier that the accountant asked for:
its step is the smallest whose sensitivity, with all that rounding may add, the noise covers.
"""

from dataclasses import dataclass
from math import isfinite, log, sqrt

import numpy as np
from numpy.typing import NDArray

from common.entropy import Stream
from common.errors import BudgetError
from common.privacy.discrete import VARIATION, discrete_gaussian

Levels = NDArray[np.int64]

STEP_SIGMA = 2.0**16
"""Levels a standard deviation where only the institution sees the grid: as fine as one likes."""

FLOAT_SLACK = 1e-3
"""What float32 sums may add to a record's effect, as a share of the clipping norm."""

ROUNDING_FAILURE = 2.0**-60
"""Chance that the rounding of one release moves two neighbours further apart than charged."""

_BLOCK = 16 * 1024  # values at a time: their random bytes stay in the cache


@dataclass(frozen=True, slots=True)
class Grid:
    """Levels of ``step`` each, and noise of ``sigma`` levels on every one that is released.

    The noise of one party need not be the noise of the sum: ``sigma`` is this party's share.
    """

    step: float
    sigma: float

    @property
    def noise_sd(self) -> float:
        """Standard deviation of the noise in the units of the values."""
        return self.step * self.sigma

    def levels(self, values: NDArray[np.floating], stream: Stream) -> Levels:
        """Return ``values`` [n] in levels, rounded by one random offset each: unbiased."""
        return self._rounded(values, stream).astype(np.int64)

    def release(self, values: NDArray[np.floating], stream: Stream) -> Levels:
        """Return ``values`` [n] in levels with noise; none where sigma is 0."""
        return self._noised(values, stream).astype(np.int64)

    def perturb(self, values: NDArray[np.float32], stream: Stream) -> None:
        """Replace ``values`` [n] by what is released of them, in their own units."""
        for start in range(0, len(values), _BLOCK):
            block = values[start : start + _BLOCK]
            np.multiply(self._noised(block, stream), self.step, out=block, casting="same_kind")

    # Whole numbers below 2^53 are exact in float64, and one type saves passes over the values.

    def _rounded(self, values: NDArray[np.floating], stream: Stream) -> NDArray[np.float64]:
        offsets = np.frombuffer(stream(4 * len(values)), "<u4") * 2.0**-32
        offsets += np.divide(values, self.step, dtype=np.float64)
        if not isfinite(offsets.sum()):
            raise ValueError("values to be released are not finite: no noise hides that")
        return np.floor(offsets, out=offsets)

    def _noised(self, values: NDArray[np.floating], stream: Stream) -> NDArray[np.float64]:
        levels = self._rounded(values, stream)
        if self.sigma > 0:
            levels += discrete_gaussian(self.sigma, len(values), stream)
        return levels


def grid_of(
    noise_multiplier: float, max_grad_norm: float, size: int, sigma: float = STEP_SIGMA
) -> Grid:
    """Return the grid on which ``sigma`` levels are ``noise_multiplier`` times the sensitivity.

    ``size`` is the number of values a unit may move, by ``max_grad_norm`` in all (L2). Rounded
    with random offsets, S levels become at most sqrt(S^2 + d/4 + l (S + sqrt(d)/2)), l = sqrt(2
    log(1 / `ROUNDING_FAILURE`)), but for that chance (Kairouz et al. 2021, randomized rounding:
    the difference of two neighbours is rounded at random), and always at most S + sqrt(d). A
    discrete
    Gaussian is the rounding of a continuous one of variance sigma^2 - 1/12, which is what the
    accountant prices, up to what `require_reserve` charges.

    Raises `BudgetError` when the noise is too small for any grid.
    """
    most = sqrt(sigma**2 - 1 / 12) / noise_multiplier
    tail, root = sqrt(2 * log(1 / ROUNDING_FAILURE)), sqrt(size)
    square = most**2 - root**2 / 4 - tail * root / 2 + tail**2 / 4
    clip = max(most - root, sqrt(max(0.0, square)) - tail / 2)
    if clip < 1:
        raise BudgetError(
            f"noise of {sigma:.3g} levels is too coarse for {size} weights at noise multiplier"
            f" {noise_multiplier:.3g}: raise aggregation.ring_bits or privacy.epsilon"
        )
    return Grid(max_grad_norm * (1 + FLOAT_SLACK) / clip, sigma)


def require_reserve(reserve: float, releases: int, size: int, sigma: float) -> None:
    """Refuse noise that over all ``releases`` of ``size`` values may fail by ``reserve`` or more.

    A draw is off by the table's `VARIATION`, and by 1 / (2000 sigma^4) the discrete Gaussian is
    not the rounded continuous one (total variation, computed for sigma from 2 to 32).

    Raises `BudgetError`.
    """
    draws = VARIATION + 1 / (2000 * sigma**4)
    failure = releases * (size * draws + ROUNDING_FAILURE)
    if failure >= reserve:
        raise BudgetError(
            f"noise of {sigma:.3g} levels may fail with chance {failure:.2g} over {releases}"
            f" releases, not below {reserve:.2g}: raise privacy.delta or aggregation.ring_bits"
        )


def poisson_sample(size: int, rate: float, stream: Stream) -> NDArray[np.intp]:
    """Return the indices, ascending, of a sample that holds each of ``size`` by itself at ``rate``.

    The rate is rounded down to 32 bits: a record is never sampled more often than priced.
    """
    draws = np.frombuffer(stream(4 * size), "<u4")
    return np.flatnonzero(draws < np.uint64(rate * 2**32))
