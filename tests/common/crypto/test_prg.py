"""Masks are AES-256-CTR words, and what is added can be subtracted."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from common.crypto import prg
from common.crypto.ring import RingVector

KEYS = [bytes([i]) * 32 for i in range(4)]
LENGTHS = [0, 1, 3, 32 * 1024, 32 * 1024 + 1, 100_003]


def words(key: bytes, length: int) -> RingVector:
    encryptor = Cipher(algorithms.AES256(key), modes.CTR(bytes(15) + b"\2")).encryptor()
    return np.frombuffer(encryptor.update(bytes(4 * length)), "<u4").astype(np.uint32)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("bits", [16, 21, 32])
def test_keystreams_are_added_and_subtracted_modulo_the_ring(length: int, bits: int) -> None:
    vector = np.arange(length, dtype=np.uint32) & np.uint32(2**bits - 1)
    expected = vector + words(KEYS[0], length) + words(KEYS[1], length) - words(KEYS[2], length)
    prg.apply(vector, bits, KEYS[:2], KEYS[2:3])
    assert np.array_equal(vector, expected & np.uint32(2**bits - 1))


def test_the_first_words_are_those_of_the_published_cipher() -> None:
    # Zeros encrypted by AES-256-GCM under the zero key and nonce (McGrew and Viega, case 14).
    vector = np.zeros(2, np.uint32)
    prg.apply(vector, 32, [bytes(32)], [])
    assert vector.astype("<u4").tobytes().hex() == "cea7403d4d606b6e"


@pytest.mark.parametrize("bits", [16, 27])
def test_only_the_same_keys_cancel(bits: int) -> None:
    vector = np.full(50_000, 5, np.uint32)
    prg.apply(vector, bits, KEYS[:3], KEYS[3:])
    prg.apply(vector, bits, KEYS[3:], KEYS[:2])
    assert (vector != 5).mean() > 0.99
    prg.apply(vector, bits, [], KEYS[2:3])
    assert (vector == 5).all()
