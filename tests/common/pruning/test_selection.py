import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import AggregationError, PlanError
from common.pruning.allocation import by_layer, everywhere
from common.pruning.granularity import NOBODY, Units
from common.pruning.masks import Mask
from common.pruning.selection import exchange, prune, unit_scores

SIZES = st.integers(1, 200)
SEEDS = st.integers(0, 2**32 - 1)


def weights_of(protected: Mask) -> Units:
    """Return single weights of one layer, those ``protected`` apart."""
    owners = np.full((1, protected.size), NOBODY)
    free = np.flatnonzero(~protected)
    owners[0, free] = np.arange(free.size)
    shapes = np.array([[1, protected.size]])
    return Units(owners, np.zeros(free.size, np.int64), shapes, int(protected.sum()))


def cut(scores: list[float] | NDArray[np.floating], protected: Mask, sparsity: float) -> list[int]:
    mask = np.ones(protected.size, np.bool_)
    units = weights_of(protected)
    return list(prune(np.asarray(scores, np.float32), mask, units, sparsity, everywhere))


@given(SIZES, SEEDS, st.lists(st.floats(0, 0.7), min_size=1, max_size=6))
def test_sparsity_is_exact_and_masks_are_nested(
    size: int, seed: int, sparsities: list[float]
) -> None:
    draw = np.random.default_rng(seed)
    protected = draw.uniform(size=size) < 0.2
    protected[int(size * 0.25) :] = False
    units, mask = weights_of(protected), np.ones(size, np.bool_)
    for sparsity in sparsities:
        # Few distinct scores, so that ties are the rule.
        scores = draw.integers(0, 5, size).astype(np.float32)
        following = prune(scores, mask, units, sparsity, everywhere)
        assert following.sum() == min(mask.sum(), round(size * (1 - sparsity)))
        assert not (following & ~mask).any()
        assert following[protected].all()
        gone, kept = mask & ~following, following & ~protected
        if gone.any() and kept.any():
            assert scores[gone].max() <= scores[kept].min()
        mask = following


def test_ties_fall_to_the_first_weights() -> None:
    nothing = np.zeros(6, np.bool_)
    assert cut([1, 1, 2, 1, 1, 0], nothing, 0.5) == [0, 0, 1, 1, 1, 0]
    assert cut([0, 1, 1, 2, 1, 1], nothing, 0.5) == [0, 0, 0, 1, 1, 1]


def test_protected_weights_survive_the_lowest_scores() -> None:
    protected = np.array([True, False, False, False])
    assert cut([0, 1, 2, 3], protected, 0.5) == [1, 0, 0, 1]
    assert cut([0, 1, 2, 3], np.zeros(4, np.bool_), 0.5) == [0, 0, 1, 1]


def test_a_sparsity_already_passed_changes_nothing_and_shares_nothing() -> None:
    mask = np.array([True, False, False, False])
    units = weights_of(np.zeros(4, np.bool_))
    following = prune(np.ones(4, np.float32), mask, units, 0.5, everywhere)
    assert following.tolist() == mask.tolist()
    assert not np.shares_memory(following, mask)


def test_pruning_protected_weights_is_refused_with_what_is_possible() -> None:
    protected = np.arange(10) < 4
    assert cut(np.ones(10), protected, 0.6) == protected.tolist()
    with pytest.raises(PlanError, match=r"sparsity 0\.7 .* at most 0\.6 "):
        cut(np.ones(10), protected, 0.7)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(AggregationError, match="not finite"):
        cut([1, value], np.zeros(2, np.bool_), 0.0)


# Two neurons of two weights each: the last weight feeds the second from the first.
PAIR = Units(
    np.array([[0, 0, 1, 1], [NOBODY, NOBODY, NOBODY, 0]]),
    np.array([0, 1]),
    np.array([[1, 2], [1, 2]]),
)


def test_a_weight_between_two_units_counts_for_both_and_goes_with_either() -> None:
    mask = np.ones(4, np.bool_)
    scores = np.array([1, 1, 3, 7], np.float32)
    assert unit_scores(scores, mask, PAIR).tolist() == [3, 5]
    assert PAIR.mask(np.array([False, True])).tolist() == [0, 0, 1, 0]
    assert PAIR.mask(np.array([True, False])).tolist() == [1, 1, 0, 0]
    without = np.array([True, True, True, False])
    assert unit_scores(scores, without, PAIR).tolist() == [1, 3]
    assert PAIR.alive(PAIR.mask(np.array([False, True]))).tolist() == [0, 1]


def test_layers_of_units_compete_by_their_own_scale() -> None:
    owners = np.arange(8)[None].repeat(2, 0)
    owners[1] = NOBODY
    units = Units(owners, np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([[4, 1], [4, 1]]))
    # The second layer is a thousand times the first, but its first unit matters least in it.
    scores = np.array([1, 2, 3, 4, 1, 4000, 4000, 4000], np.float32)
    mask = np.ones(8, np.bool_)
    kept = prune(scores, mask, units, 0.25, everywhere)
    assert kept.tolist() == [0, 1, 1, 1, 0, 1, 1, 1]
    alike = prune(scores, mask, units, 0.5, by_layer)
    assert alike.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


@given(SEEDS, st.integers(0, 30), st.floats(0, 0.9))
def test_an_exchange_keeps_the_number_and_takes_the_worst(
    seed: int, count: int, sparsity: float
) -> None:
    draw = np.random.default_rng(seed)
    units = weights_of(np.arange(40) < 3)
    scores, ranks = draw.uniform(size=40), draw.uniform(size=37)
    mask = prune(scores, np.ones(40, np.bool_), units, sparsity, everywhere)
    following = exchange(mask, scores, units, count, ranks)
    moved = min(count, (~mask).sum(), mask[3:].sum())
    assert following.sum() == mask.sum()
    assert following[:3].all()
    back, gone = following & ~mask, mask & ~following
    assert back.sum() == gone.sum() == moved
    if moved and (following & mask)[3:].any():
        assert scores[gone].max() <= scores[3:][(following & mask)[3:]].min()
