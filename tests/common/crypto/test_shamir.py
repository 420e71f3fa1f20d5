"""Any threshold of shares rebuilds the secret; fewer, or other ones, do not."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.crypto.shamir import PRIME, combine, split, weights
from common.entropy import SeededEntropy
from common.errors import ProtocolError, TooFewSurvivorsError

SECRET = bytes(range(32))


def is_prime(number: int) -> bool:
    """Miller-Rabin with the first 30 odd bases: ample for a number nobody chose to fool it."""
    shift = ((number - 1) & (1 - number)).bit_length() - 1
    for base in range(3, 63, 2):
        x = pow(base, number - 1 >> shift, number)
        orbit = [x := x * x % number if i else x for i in range(shift)]
        if orbit[0] != 1 and number - 1 not in orbit:
            return False
    return True


def test_the_field_is_the_first_prime_above_all_secrets() -> None:
    assert is_prime(PRIME)
    assert not any(is_prime(number) for number in range(2**256 + 1, PRIME, 2))


@given(st.data(), st.binary(min_size=32, max_size=32), st.integers(1, 40))
def test_any_threshold_of_shares_rebuilds(data: st.DataObject, secret: bytes, n: int) -> None:
    threshold = data.draw(st.integers(1, n))
    points = data.draw(st.lists(st.integers(1, 1000), min_size=n, max_size=n, unique=True))
    shares = dict(zip(points, split(secret, threshold, points, os.urandom), strict=True))
    chosen = data.draw(st.permutations(points))[: data.draw(st.integers(threshold, n))]
    assert combine(weights(chosen, threshold), [shares[x] for x in chosen]) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_the_outermost_secrets_survive(secret: bytes) -> None:
    shares = split(secret, 3, [1, 2, 3], os.urandom)
    assert combine(weights([1, 2, 3], 3), shares) == secret


def rebuilt(points: list[int], shares: list[bytes]) -> bytes | None:
    try:
        return combine(weights(points, len(points)), shares)
    except ProtocolError:
        return None


def test_fewer_altered_or_swapped_shares_rebuild_something_else() -> None:
    points = [1, 2, 3, 4]
    shares = split(SECRET, 4, points, SeededEntropy(1).stream("split"))
    assert rebuilt(points, shares) == SECRET
    assert rebuilt(points[:3], shares[:3]) != SECRET
    assert rebuilt(points, [shares[1], shares[0], *shares[2:]]) != SECRET
    assert rebuilt(points, [shares[0][:-1] + bytes([shares[0][-1] ^ 1]), *shares[1:]]) != SECRET


def test_shares_of_one_secret_differ_by_entropy_alone() -> None:
    first = split(SECRET, 2, [1, 2], SeededEntropy(1).stream("split"))
    assert first == split(SECRET, 2, [1, 2], SeededEntropy(1).stream("split"))
    assert first[0] != split(SECRET, 2, [1, 2], SeededEntropy(2).stream("split"))[0]


@pytest.mark.parametrize("threshold", [0, -1, 4])
def test_a_threshold_out_of_range_is_refused(threshold: int) -> None:
    with pytest.raises(ProtocolError, match=f"threshold {threshold} is outside 1 to 3"):
        split(SECRET, threshold, [1, 2, 3], os.urandom)


@pytest.mark.parametrize("points", [[0, 1, 2], [1, 1, 2], [1, 2, PRIME], [1, 2, -1]])
def test_zero_repeated_and_foreign_points_are_refused(points: list[int]) -> None:
    with pytest.raises(ProtocolError, match="distinct and above zero"):
        split(SECRET, 2, points, os.urandom)
    with pytest.raises(ProtocolError, match="distinct and above zero"):
        weights(points, 2)


@pytest.mark.parametrize("secret", [bytes(31), bytes(33), b""])
def test_a_secret_of_another_size_is_refused(secret: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot be shared"):
        split(secret, 1, [1], os.urandom)


def test_too_few_shares_are_refused() -> None:
    with pytest.raises(TooFewSurvivorsError, match="2 shares are below the threshold of 3"):
        weights([1, 2], 3)
    with pytest.raises(ProtocolError, match="do not match"):
        combine(weights([1, 2], 2), [bytes(33)])


@pytest.mark.parametrize("share", [PRIME.to_bytes(33, "big"), b"\xff" * 33, bytes(32)])
def test_a_share_outside_the_field_is_refused(share: bytes) -> None:
    with pytest.raises(ProtocolError, match="not an element of the field"):
        combine(weights([1], 1), [share])


def test_a_result_that_is_no_secret_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no 32-byte secret"):
        combine(weights([1], 1), [(PRIME - 1).to_bytes(33, "big")])
