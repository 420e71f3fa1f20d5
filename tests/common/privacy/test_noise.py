from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.entropy import SeededEntropy, Stream
from common.errors import BudgetError
from common.privacy.noise import (
    FLOAT_SLACK,
    ROUNDING_FAILURE,
    STEP_SIGMA,
    Grid,
    grid_of,
    poisson_sample,
    require_reserve,
)
from tests.common.privacy.battery import complaints


def stream(label: str = "noise") -> Stream:
    return SeededEntropy(0).stream(label)


def apart(grid: Grid, one: NDArray[np.float64], other: NDArray[np.float64], label: str) -> float:
    """Return how far two vectors are apart once both are rounded with the same offsets."""
    rounded = [grid.levels(values, stream(label)) for values in (one, other)]
    return float(np.linalg.norm((rounded[0] - rounded[1]).astype(np.float64)))


@given(
    st.floats(0.3, 20),
    st.floats(0.1, 10),
    st.integers(1, 3_000),
    st.sampled_from([200.0, 5_000.0, STEP_SIGMA]),
    st.integers(0, 2**32 - 1),
)
def test_noise_covers_what_one_record_moves(
    noise_multiplier: float, max_grad_norm: float, size: int, sigma: float, seed: int
) -> None:
    try:
        grid = grid_of(noise_multiplier, max_grad_norm, size, sigma)
    except BudgetError:
        assert sigma / noise_multiplier < 12 + 2 * sqrt(size)
        return
    random = np.random.default_rng(seed)
    effect = random.normal(size=size) * random.choice([1, 1e-3], size)
    effect *= max_grad_norm / np.linalg.norm(effect)
    base = random.normal(0, 30 * max_grad_norm, size)
    moved = apart(grid, base, base + effect, f"{seed}")
    assert sqrt(sigma**2 - 1 / 12) >= noise_multiplier * moved
    # All but what rounding may add is the records' own.
    assert grid.step * sigma >= noise_multiplier * max_grad_norm * (1 + FLOAT_SLACK)


@pytest.mark.parametrize("size", [1_000, 13_000, 50_000])
def test_a_fine_grid_adds_next_to_nothing(size: int) -> None:
    for noise_multiplier in (0.5, 2.0, 5.0):
        grid = grid_of(noise_multiplier, 1.0, size)
        assert 1 + FLOAT_SLACK < grid.noise_sd / noise_multiplier < 1.003


def test_a_grid_without_allowance_for_rounding_is_too_fine() -> None:
    # Noise of 400 levels at multiplier 2 would give a record 200 of them; rounding moves more.
    size, sigma, noise_multiplier = 10_000, 400.0, 2.0
    naive = Grid(noise_multiplier / sigma, sigma)
    effect = np.random.default_rng(0).normal(size=size)
    effect /= np.linalg.norm(effect)
    assert noise_multiplier * apart(naive, np.zeros(size), effect, "naive") > 1.01 * sigma
    grid = grid_of(noise_multiplier, 1.0, size, sigma)
    assert noise_multiplier * apart(grid, np.zeros(size), effect, "naive") <= sigma


def test_high_probability_bound_is_the_published_one() -> None:
    noise_multiplier, size, sigma = 2.0, 10_000, 4_000.0
    clip = (1 + FLOAT_SLACK) / grid_of(noise_multiplier, 1.0, size, sigma).step
    tail = sqrt(2 * np.log(1 / ROUNDING_FAILURE))
    square = clip**2 + size / 4 + tail * (clip + sqrt(size) / 2)
    assert noise_multiplier * sqrt(square) == pytest.approx(sigma)
    assert sqrt(square) < clip + sqrt(size)
    # Few weights: the certain bound is the tighter one.
    clip = (1 + FLOAT_SLACK) / grid_of(noise_multiplier, 1.0, 1, sigma).step
    assert noise_multiplier * (clip + 1) == pytest.approx(sigma)


def test_too_coarse_a_grid_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"noise of 100 levels .* 10000 weights .* raise"):
        grid_of(5.0, 1.0, 10_000, 100.0)


def test_rounding_is_unbiased() -> None:
    grid = Grid(step=0.5, sigma=1.0)
    values = np.full(200_000, 0.6)  # 1.2 levels
    levels = grid.levels(values, stream())
    assert set(levels.tolist()) == {1, 2}
    assert abs(levels.mean() - 1.2) < 4 * sqrt(0.16 / len(levels))
    whole = grid.levels(np.array([-1.0, 0.0, 1.5]), stream())
    assert whole.tolist() == [-2, 0, 3]


def test_release_is_the_levels_and_the_noise() -> None:
    grid = grid_of(2.0, 1.0, 100, 30.0)
    values = np.random.default_rng(0).normal(size=200_000)
    released = grid.release(values, stream("a"))
    noise = released - grid.levels(values, stream("a"))
    assert complaints(noise, 30.0) == set()
    assert complaints(noise, 31.0)
    assert released.dtype == np.int64


@pytest.mark.parametrize("size", [1, 1_000, 40_000])
def test_perturbed_values_lie_on_the_grid_with_its_noise(size: int) -> None:
    grid = grid_of(2.0, 1.0, size, STEP_SIGMA)
    values = np.linspace(-5, 5, size, dtype=np.float32)
    perturbed = values.copy()
    grid.perturb(perturbed, stream())
    levels = perturbed / grid.step
    np.testing.assert_allclose(levels, np.rint(levels), atol=0.05)
    assert (perturbed != values).all()
    if size > 1:
        sd = float(np.std(perturbed - values))
        assert abs(sd / grid.noise_sd - 1) < 4 / sqrt(2 * size)
        assert abs(sd / grid.noise_sd - 1.2) > 4 / sqrt(2 * size)


def test_the_reserve_covers_what_may_fail() -> None:
    require_reserve(1e-8, 300, 13_000, STEP_SIGMA)
    with pytest.raises(BudgetError, match=r"noise of 100 levels may fail .* raise privacy\.delta"):
        require_reserve(1e-8, 300, 13_000, 100.0)
    with pytest.raises(BudgetError, match="300 releases, not below 1e-20"):
        require_reserve(1e-20, 300, 13_000, STEP_SIGMA)


def test_poisson_sample_is_independent_of_its_neighbours() -> None:
    size, rate = 200_000, 0.3
    chosen = np.zeros(size)
    chosen[poisson_sample(size, rate, stream())] = 1
    deviation = sqrt(rate * (1 - rate))
    assert abs(chosen.mean() - rate) < 4 * deviation / sqrt(size)
    assert abs(chosen.mean() - 1.05 * rate) > 4 * deviation / sqrt(size)
    centred = (chosen - rate) / deviation
    assert abs((centred[1:] * centred[:-1]).mean()) < 4 / sqrt(size)


def test_poisson_sample_is_fresh_and_knows_its_ends() -> None:
    same = stream()
    assert not np.array_equal(poisson_sample(100, 0.5, same), poisson_sample(100, 0.5, same))
    np.testing.assert_array_equal(poisson_sample(50, 1.0, stream()), np.arange(50))
    assert len(poisson_sample(0, 0.5, stream())) == 0


def test_a_record_is_never_sampled_more_often_than_priced() -> None:
    rate = 1e-9
    below, at = (int(rate * 2**32) - 1, int(rate * 2**32))
    for word, expected in ((below, 1), (at, 0)):
        drawn = word.to_bytes(4, "little")
        assert len(poisson_sample(1, rate, {4: drawn}.__getitem__)) == expected
