"""Shamir sharing of 32-byte secrets over the prime field of 2^256 + 297.

That is the smallest prime above 2^256: every 32-byte secret is a field element as it stands,
without rejection or folding, and a share costs one byte more than the secret. A field above
2^256 also means that a rebuilt value which is no 32-byte string betrays a bad share.

Source: Shamir 1979; the share at x is f(x), the secret is f(0).
"""

from collections.abc import Sequence
from typing import Final

from common.entropy import Stream
from common.errors import ProtocolError, TooFewSurvivorsError

PRIME: Final = 2**256 + 297
SECRET_SIZE: Final = 32
SHARE_SIZE: Final = 33

_DRAW = 48  # bytes a coefficient: its bias modulo the prime is below 2^-127
_GROUP = 16  # Horner steps between reductions: x is small, so reducing at each one costs double


def split(secret: bytes, threshold: int, points: Sequence[int], stream: Stream) -> list[bytes]:
    """Share a 32-byte secret to ``points``; any ``threshold`` of the 33-byte shares rebuild it.

    Raises:
        ProtocolError: the secret has another size, the threshold is outside 1 to
            len(points), or a point is zero, repeated or outside the field.
    """
    _require_points(points)
    if len(secret) != SECRET_SIZE:
        raise ProtocolError(f"a secret of {len(secret)} bytes cannot be shared: {SECRET_SIZE} can")
    if not 1 <= threshold <= len(points):
        raise ProtocolError(f"threshold {threshold} is outside 1 to {len(points)} shares")
    draws = stream(_DRAW * (threshold - 1))
    coefficients = [
        int.from_bytes(draws[start : start + _DRAW], "big") % PRIME
        for start in range(0, len(draws), _DRAW)
    ]
    coefficients.append(int.from_bytes(secret, "big"))
    groups = [coefficients[i : i + _GROUP] for i in range(0, threshold, _GROUP)]
    shares = []
    for x in points:
        value = 0
        for group in groups:
            for coefficient in group:
                value = value * x + coefficient
            value %= PRIME
        shares.append(value.to_bytes(SHARE_SIZE, "big"))
    return shares


def weights(points: Sequence[int], threshold: int) -> list[int]:
    """Return the Lagrange weights at zero of ``points``: one computation for many secrets.

    Raises:
        TooFewSurvivorsError: there are fewer points than ``threshold``.
        ProtocolError: a point is zero, repeated or outside the field.
    """
    _require_points(points)
    if len(points) < threshold:
        raise TooFewSurvivorsError(
            f"{len(points)} shares are below the threshold of {threshold}: repeat the round"
        )
    numerator = 1
    for x in points:
        numerator = numerator * x % PRIME
    found = []
    for x in points:
        denominator = x
        for other in points:
            if other != x:
                denominator = denominator * (other - x) % PRIME
        found.append(numerator * pow(denominator, -1, PRIME) % PRIME)
    return found


def combine(lagrange: Sequence[int], shares: Sequence[bytes]) -> bytes:
    """Rebuild the secret from shares in the order of the points of `weights`.

    Nothing here proves the shares right: check the result against what was advertised.

    Raises:
        ProtocolError: the shares are not as many as the weights, one is no field element,
            or the result is no 32-byte secret.
    """
    if len(shares) != len(lagrange):
        raise ProtocolError(f"{len(shares)} shares do not match {len(lagrange)} weights")
    values = [int.from_bytes(share, "big") for share in shares]
    if any(len(share) != SHARE_SIZE for share in shares) or max(values, default=0) >= PRIME:
        raise ProtocolError("a share is not an element of the field: its dealer or bearer is wrong")
    secret = sum(w * y for w, y in zip(lagrange, values, strict=True)) % PRIME
    if secret >> (8 * SECRET_SIZE):
        raise ProtocolError("the shares rebuild no 32-byte secret: at least one is wrong")
    return secret.to_bytes(SECRET_SIZE, "big")


def _require_points(points: Sequence[int]) -> None:
    if len(set(points)) != len(points) or not all(0 < x < PRIME for x in points):
        raise ProtocolError("share points must be distinct and above zero")
