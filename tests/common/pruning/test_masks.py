import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import AggregationError, PlanError, ProtocolError
from common.pruning.masks import mask_hash, pack_mask, prune, unpack_mask

SIZES = st.integers(1, 200)
SEEDS = st.integers(0, 2**32 - 1)


@given(SIZES, SEEDS, st.lists(st.floats(0, 0.7), min_size=1, max_size=6))
def test_sparsity_is_exact_and_masks_are_nested(
    size: int, seed: int, sparsities: list[float]
) -> None:
    draw = np.random.default_rng(seed)
    protected = draw.uniform(size=size) < 0.2
    protected[int(size * 0.25) :] = False
    mask = np.ones(size, np.bool_)
    for sparsity in sparsities:
        # Few distinct scores, so that ties are the rule.
        scores = draw.integers(0, 5, size).astype(np.float32)
        following = prune(scores, mask, protected, sparsity)
        assert following.sum() == min(mask.sum(), round(size * (1 - sparsity)))
        assert not (following & ~mask).any()
        assert following[protected].all()
        cut, kept = mask & ~following, following & ~protected
        if cut.any() and kept.any():
            assert scores[cut].max() <= scores[kept].min()
        mask = following


def test_ties_fall_to_the_first_weights() -> None:
    everything, nothing = np.ones(6, np.bool_), np.zeros(6, np.bool_)
    scores = np.array([1, 1, 2, 1, 1, 0], np.float32)
    assert prune(scores, everything, nothing, 0.5).tolist() == [0, 0, 1, 1, 1, 0]
    assert prune(scores[::-1], everything, nothing, 0.5).tolist() == [0, 0, 0, 1, 1, 1]


def test_protected_weights_survive_the_lowest_scores() -> None:
    everything, scores = np.ones(4, np.bool_), np.array([0, 1, 2, 3], np.float32)
    protected = np.array([True, False, False, False])
    assert prune(scores, everything, protected, 0.5).tolist() == [1, 0, 0, 1]
    assert prune(scores, everything, ~everything, 0.5).tolist() == [0, 0, 1, 1]


def test_a_sparsity_already_passed_changes_nothing_and_shares_nothing() -> None:
    mask = np.array([True, False, False, False])
    following = prune(np.ones(4, np.float32), mask, np.zeros(4, np.bool_), 0.5)
    assert following.tolist() == mask.tolist()
    assert not np.shares_memory(following, mask)


def test_pruning_protected_weights_is_refused_with_what_is_possible() -> None:
    scores, mask = np.ones(10, np.float32), np.ones(10, np.bool_)
    protected = np.arange(10) < 4
    assert prune(scores, mask, protected, 0.6).tolist() == protected.tolist()
    with pytest.raises(PlanError, match=r"sparsity 0\.7 .* at most 0\.6 "):
        prune(scores, mask, protected, 0.7)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    scores = np.array([1, value], np.float32)
    with pytest.raises(AggregationError, match="not finite"):
        prune(scores, np.ones(2, np.bool_), np.zeros(2, np.bool_), 0.0)


@given(SIZES, SEEDS)
def test_packing_is_one_bit_a_weight_and_is_undone(size: int, seed: int) -> None:
    mask = np.random.default_rng(seed).uniform(size=size) < 0.5
    packed = pack_mask(mask)
    assert len(packed) == -(-size // 8)
    assert unpack_mask(packed, size).tolist() == mask.tolist()


def test_first_weight_is_the_highest_bit() -> None:
    assert pack_mask(np.array([True, *[False] * 8])) == b"\x80\x00"


def test_packing_of_another_length_is_refused() -> None:
    packed = pack_mask(np.ones(9, np.bool_))
    for length in (8, 17):
        with pytest.raises(ProtocolError, match=f"2 bytes does not hold {length}"):
            unpack_mask(packed, length)


def test_set_padding_is_refused() -> None:
    with pytest.raises(ProtocolError, match="beyond its last weight"):
        unpack_mask(b"\xff\xff", 9)
    assert unpack_mask(b"\xff\x80", 9).all()


def test_hash_tells_masks_and_lengths_apart() -> None:
    mask = np.array([True, False, True])
    assert mask_hash(mask) == mask_hash(mask.copy())
    others = (~mask, mask[:2], np.append(mask, False))
    assert len({mask_hash(other) for other in (mask, *others)}) == 4
