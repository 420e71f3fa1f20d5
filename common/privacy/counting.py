"""Counts under noise: the exact discrete Gaussian of Canonne, Kamath and Steinke (2020).

Integers and rationals only, so that no rounding of a floating-point number leaks what was
counted. Slow, and fast enough for some dozens of counts a release.
"""

from fractions import Fraction
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from common.entropy import Stream

GRAIN = 1000
"""Sigma is taken up to the next multiple of 1 / GRAIN, so that it is a small fraction."""


def noised_counts(
    counts: NDArray[np.float64], most: int, sigma: float, stream: Stream
) -> NDArray[np.float64]:
    """Return whole counts [n], each at most ``most``, plus noise of parameter ``sigma``.

    A record changes one count by one, so by Theorem 4 of the source the release is
    1 / (2 sigma^2)-concentrated. ``sigma`` 0 adds nothing.
    """
    saturated: NDArray[np.float64] = np.minimum(counts, most)
    if sigma == 0:
        return saturated
    return saturated + [discrete_gaussian(sigma, stream) for _ in range(len(counts))]


def discrete_gaussian(sigma: float, stream: Stream) -> int:
    """Draw from the discrete Gaussian of parameter ``sigma``: Algorithm 3 of the source."""
    grains = -(-Fraction(sigma) * GRAIN // 1)
    square = Fraction(int(grains), GRAIN) ** 2
    scale = isqrt(int(square)) + 1
    while True:
        draw = _discrete_laplace(scale, stream)
        excess = (abs(draw) - square / scale) ** 2 / (2 * square)
        if _bernoulli_exp(excess, stream):
            return draw


def _discrete_laplace(scale: int, stream: Stream) -> int:
    """Algorithm 2 of the source, for a whole scale."""
    while True:
        low = _below(scale, stream)
        if not _bernoulli_exp(Fraction(low, scale), stream):
            continue
        high = 0
        while _bernoulli_exp(Fraction(1), stream):
            high += 1
        magnitude, negative = low + scale * high, stream(1)[0] & 1
        if magnitude or not negative:  # Zero has no sign, and must not be twice as likely.
            return -magnitude if negative else magnitude


def _bernoulli_exp(gamma: Fraction, stream: Stream) -> bool:
    """Return true with probability exp(-gamma): Algorithm 1 of the source."""
    while gamma > 1:
        if not _bernoulli_exp(Fraction(1), stream):
            return False
        gamma -= 1
    terms = 1
    while _below(gamma.denominator * terms, stream) < gamma.numerator:
        terms += 1
    return terms % 2 == 1


def _below(bound: int, stream: Stream) -> int:
    """Return a uniform integer in [0, bound), by rejection."""
    size = (bound - 1).bit_length()
    while True:
        draw = int.from_bytes(stream(-(-size // 8)), "little") & ((1 << size) - 1)
        if draw < bound:
            return draw
