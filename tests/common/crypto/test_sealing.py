"""A sealed share opens under its own key, and under no other."""

import pytest

from common.crypto.refusals import ShareAlteredError
from common.crypto.sealing import SEALED_SIZE, openings, seal, unseal_key, unseal_seed

SECRET, CONTEXT = bytes(32), b"run, epoch, a to b"
SEED_SHARE, KEY_SHARE = b"s" * 33, b"k" * 33


def test_each_share_opens_under_its_own_key_only() -> None:
    keys = openings(SECRET, CONTEXT)
    sealed = seal(keys, SEED_SHARE, KEY_SHARE)
    assert len(sealed) == SEALED_SIZE == 98
    assert unseal_seed(sealed, keys.seed) == SEED_SHARE
    assert unseal_key(sealed, keys.key) == KEY_SHARE
    for unseal, wrong in ((unseal_seed, keys.key), (unseal_key, keys.seed)):
        with pytest.raises(ShareAlteredError):
            unseal(sealed, wrong)


@pytest.mark.parametrize("place", range(0, 98, 7))
def test_any_altered_byte_is_noticed(place: int) -> None:
    keys = openings(SECRET, CONTEXT)
    sealed = bytearray(seal(keys, SEED_SHARE, KEY_SHARE))
    sealed[place] ^= 1
    unseal, key = (unseal_seed, keys.seed) if place < 49 else (unseal_key, keys.key)
    with pytest.raises(ShareAlteredError):
        unseal(bytes(sealed), key)


def test_another_context_or_secret_gives_other_keys() -> None:
    keys = openings(SECRET, CONTEXT)
    assert len({*keys, *openings(SECRET, b"b to a"), *openings(b"1" * 32, CONTEXT)}) == 6


@pytest.mark.parametrize("opening", [b"", bytes(15), bytes(33)])
def test_a_key_of_another_size_is_refused(opening: bytes) -> None:
    with pytest.raises(ShareAlteredError):
        unseal_seed(bytes(98), opening)


def test_keys_do_not_show() -> None:
    assert repr(openings(SECRET, CONTEXT)) == "Openings(...)"
