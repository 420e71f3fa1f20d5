from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.layout import layout_of
from common.plan import ModelPlan
from common.pruning.evidence import Vector
from common.pruning.penalties import PENALTIES, Proximal, group_lasso, l1, l2

LAYOUT = layout_of(ModelPlan(hidden=(3,)), 4)
SEEDS = st.integers(0, 2**32 - 1)


def moved(name: str, flat: Vector, threshold: float) -> Vector:
    result = flat.copy()
    step = np.full(flat.size, threshold, np.float32)
    Proximal(PENALTIES.require(name), step, LAYOUT)(result)
    return result


def test_soft_threshold_takes_the_same_from_each_and_stops_at_zero() -> None:
    flat = np.array([-3, -0.5, 0, 0.5, 3], np.float32)
    l1(flat, np.array([1, 1, 1, 0, 1], np.float32), LAYOUT)
    assert flat.tolist() == [-2, 0, 0, 0.5, 2]


def test_shrinkage_is_in_proportion() -> None:
    flat = np.array([-3, 0, 3], np.float32)
    l2(flat, np.array([0.5, 0.5, 0], np.float32), LAYOUT)
    assert flat.tolist() == [-2, 0, 3]


def test_a_neurons_inputs_shrink_together_and_vanish_together() -> None:
    flat = np.zeros(LAYOUT.size, np.float32)
    rows = flat[:12].reshape(3, 4)
    rows[0], rows[1] = [2, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]
    flat[12:] = 7
    group_lasso(flat, np.full(flat.size, 0.5, np.float32), LAYOUT)
    assert rows.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert (flat[12:] == 7).all()


@given(SEEDS, st.floats(1e-4, 0.5))
def test_each_is_the_minimum_it_claims(seed: int, threshold: float) -> None:
    """No small step away from the result has a lower penalised distance."""
    draw = np.random.default_rng(seed)
    flat = draw.normal(size=LAYOUT.size).astype(np.float32)
    penalties = {
        "l1": lambda w: threshold * np.abs(w).sum(),
        "l2": lambda w: threshold / 2 * (w**2).sum(),
        "group_lasso": lambda w: 2 * threshold * np.linalg.norm(w[:12].reshape(3, 4), axis=1).sum(),
    }
    for name, penalty in penalties.items():
        best = moved(name, flat, threshold).astype(np.float64)

        def cost(weights: NDArray[np.float64], penalty: Any = penalty) -> float:
            return float(((weights - flat) ** 2).sum() / 2 + penalty(weights))

        for _ in range(10):
            assert cost(best) <= cost(best + draw.normal(0, 1e-2, best.size)) + 1e-5


@pytest.mark.parametrize("name", PENALTIES.names)
def test_nothing_leaves_zero_nor_what_is_protected(name: str) -> None:
    draw = np.random.default_rng(0)
    flat = draw.normal(size=LAYOUT.size).astype(np.float32)
    flat[::2] = 0
    assert not moved(name, flat, 0.1)[::2].any()
    assert (moved(name, flat, 0.0) == flat).all()


def test_penalties_are_found_by_name() -> None:
    with pytest.raises(ValueError, match="unknown pruning penalty 'l0'; known: "):
        PENALTIES.require("l0")
