import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ProtocolError
from common.pruning.masks import mask_hash, pack_mask, unpack_mask

SIZES = st.integers(1, 200)
SEEDS = st.integers(0, 2**32 - 1)


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
