from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.pruning.allocation import ALLOCATIONS, by_layer, erk, quotas

SHAPES = np.array([[128, 96], [64, 128], [1, 64]])


def test_densities_follow_the_layers() -> None:
    assert ALLOCATIONS.require("global")(SHAPES) is None
    assert by_layer(SHAPES) == pytest.approx([1, 1, 1])
    assert erk(SHAPES) == pytest.approx([224 / 12288, 192 / 8192, 65 / 64])


def test_allocations_are_found_by_name() -> None:
    assert {"erk", "global", "layer"} <= set(ALLOCATIONS.names)
    with pytest.raises(ValueError, match=r"unknown pruning allocation 'uniform'; known: "):
        ALLOCATIONS.require("uniform")


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0.01, 9)), min_size=1, max_size=8), st.data()
)
def test_quotas_add_up_and_overflow_nowhere(
    groups: list[tuple[int, float]], data: st.DataObject
) -> None:
    alive = np.array([number for number, _ in groups])
    shares = np.array([share for _, share in groups])
    keep = data.draw(st.integers(0, int(alive.sum())))
    given_ = quotas(keep, shares, alive)
    assert given_.sum() == keep
    assert (given_ <= alive).all()
    assert (given_ >= 0).all()
    # Among groups that are not full shares decide, but for the rounding of one.
    partial = np.flatnonzero(given_ < alive)
    for one, other in product(partial, partial):
        assert (given_[one] - 1) / shares[one] <= (given_[other] + 1) / shares[other] + 1e-9


def test_a_full_group_leaves_its_rest_to_the_others() -> None:
    assert quotas(10, np.array([8.0, 1.0, 1.0]), np.array([4, 10, 10])).tolist() == [4, 3, 3]
    assert quotas(5, np.array([1.0, 1.0]), np.array([10, 10])).tolist() == [3, 2]
    assert quotas(3, np.array([1.0, 1.0]), np.array([0, 3])).tolist() == [0, 3]
