from collections.abc import Iterator
from functools import partial
from math import exp, sqrt

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from common.entropy import SeededEntropy, Stream
from common.privacy import discrete
from common.privacy.discrete import CELLS, MAX_SIGMA, MIXED, TABLE_SIGMA, ZERO, discrete_gaussian
from tests.common.privacy.battery import Draws, complaints, probabilities

SIZE = 400_000
SIGMAS = pytest.mark.parametrize("sigma", [0.7, 3.0, 40.0, 511.5, 700.0, 2.0**16, MAX_SIGMA])


def stream(label: str) -> Stream:
    return SeededEntropy(0, "discrete").stream(label)


def draw(sigma: float, size: int = SIZE, label: str = "draw") -> Draws:
    return discrete_gaussian(sigma, size, stream(f"{label}/{sigma}"))


@SIGMAS
def test_battery_accepts_the_sampler(sigma: float) -> None:
    assert complaints(draw(sigma), sigma) == set()


@SIGMAS
@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_battery_rejects_sigma_two_per_cent_off(sigma: float, factor: float) -> None:
    assert "variance" in complaints(draw(factor * 0.98 * sigma), 0.98 * sigma)


@SIGMAS
def test_battery_rejects_a_truncated_tail(sigma: float) -> None:
    values = draw(sigma)
    cut = values[np.abs(values) <= 3.45 * sigma]
    assert "tail" in complaints(cut, sigma)


@SIGMAS
def test_battery_rejects_a_repeated_stream(sigma: float) -> None:
    half = draw(sigma, SIZE // 2)
    assert "repetition" in complaints(np.concatenate([half, half]), sigma)


def test_battery_rejects_a_rounded_gaussian_of_small_sigma() -> None:
    random = np.random.default_rng(0)
    values = np.rint(random.normal(0, 0.7, SIZE)).astype(np.int64)
    assert complaints(values, 0.7)


def chances(sigma: float) -> dict[int, float]:
    """Return what a table does with every threshold, summed by integer."""
    table = discrete._table(sigma, 0)
    slot = CELLS * 2**80 // MIXED
    whole = np.bincount(table.integers[:-MIXED] + ZERO, minlength=CELLS).tolist()
    total = {cell - ZERO: slots * slot for cell, slots in enumerate(whole)}
    cells = zip(table.upper.tolist(), table.lower.tolist(), table.aliases.tolist(), strict=True)
    for cell, (upper, lower, alias) in enumerate(cells):
        limit = (upper << 64) + lower
        total[cell - ZERO] += limit
        total[alias] += 2**80 - limit
    return {value: part / (2**16 * slot) for value, part in total.items()}


@pytest.mark.parametrize("sigma", [0.7, 40.0, 511.9, TABLE_SIGMA])
def test_table_holds_the_exact_chances(sigma: float) -> None:
    found = chances(sigma)
    assert sum(found.values()) == pytest.approx(1, abs=1e-14)
    exact = probabilities(sigma, ZERO)
    np.testing.assert_allclose([found[x] for x in range(-ZERO, ZERO + 1)], exact, atol=1e-16)
    assert found[0] / found[1] == pytest.approx(exp(1 / (2 * sigma**2)), rel=1e-12)
    wrong = probabilities(1.001 * sigma, ZERO)
    assert not np.allclose([found[x] for x in range(-ZERO, ZERO + 1)], wrong, atol=1e-16)


@pytest.mark.parametrize("sigma", [513.0, 700.0, 2.0**16, MAX_SIGMA])
def test_sum_of_two_tables_keeps_its_smoothness(sigma: float) -> None:
    before = discrete._table.cache_info().misses
    discrete_gaussian(sigma, 1, stream("one"))
    factor = next(k for k in range(1, 300) if sigma / sqrt(k**2 + 1) <= TABLE_SIGMA)
    discrete._table(sigma, factor)
    assert discrete._table.cache_info().misses - before <= 1
    of_table = sigma / sqrt(factor**2 + 1)
    assert of_table <= TABLE_SIGMA
    # exp(-2 pi^2 tau^2) below 1e-33.
    assert of_table**2 / sigma >= 2


def scripted(*parts: bytes) -> Stream:
    rest: Iterator[bytes] = iter(parts)

    def take(size: int) -> bytes:
        part = next(rest)
        assert len(part) == size
        return part

    return take


@pytest.mark.parametrize("below", [True, False])
def test_a_tied_threshold_is_decided_by_its_lower_bits(below: bool) -> None:
    table = discrete._table(3.0, 0)
    cell = ZERO + 7
    lower = int(table.lower[cell]) - below
    tie = int(table.upper[cell]).to_bytes(2, "little") + cell.to_bytes(2, "little")
    mixed = scripted(b"\xff\xff", tie, lower.to_bytes(8, "little"))
    assert discrete_gaussian(3.0, 1, mixed)[0] == (7 if below else table.aliases[cell])


def test_only_the_last_slots_take_a_threshold() -> None:
    last = 2**16 - MIXED - 1
    found = discrete_gaussian(3.0, 1, scripted(last.to_bytes(2, "little"), b""))
    assert found[0] == discrete._table(3.0, 0).integers[last]
    with pytest.raises(StopIteration):
        discrete_gaussian(3.0, 1, scripted((last + 1).to_bytes(2, "little")))


def test_mixed_slots_favour_no_sign() -> None:
    whole = discrete._table(40.0, 0).integers[:-MIXED].astype(int)
    assert abs((whole > 0).sum() - (whole < 0).sum()) < 10


def test_draws_follow_their_stream() -> None:
    draws = partial(discrete_gaussian, 2.0**16, 100)
    np.testing.assert_array_equal(draws(stream("a")), draws(stream("a")))
    assert not np.array_equal(draws(stream("a")), draws(stream("b")))
    same = stream("a")
    assert not np.array_equal(draws(same), draws(same))


@pytest.mark.parametrize("sigma", [0.0, -1.0, MAX_SIGMA + 1, float("nan")])
def test_impossible_sigma_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        discrete_gaussian(sigma, 1, stream("x"))


@pytest.mark.parametrize("sigma", [3.0, 20.0])
def test_opendp_draws_alike(sigma: float) -> None:
    prelude = pytest.importorskip("opendp.prelude", reason="opendp is not installed")
    prelude.enable_features("contrib")
    space = prelude.vector_domain(prelude.atom_domain(T="i64")), prelude.l2_distance(T="i64")
    theirs = np.array(prelude.m.make_gaussian(*space, scale=sigma)([0] * 50_000))
    assert complaints(theirs, sigma) == set()
    ours = draw(sigma, 50_000, "opendp")
    reach = round(3 * sigma)
    pair = [
        np.bincount(np.clip(v + reach, 0, 2 * reach), minlength=2 * reach + 1)
        for v in (ours, theirs)
    ]
    assert chi2_contingency(pair).pvalue > 1e-5
    pair[0] = np.bincount(
        np.clip(draw(1.05 * sigma, 50_000) + reach, 0, 2 * reach), minlength=2 * reach + 1
    )
    assert chi2_contingency(pair).pvalue < 1e-5
