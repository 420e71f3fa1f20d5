"""Masks: AES-256-CTR keystreams added to a ring vector in place.

A key masks one vector ever (it is derived from fresh secrets and the round descriptor), so
nothing but the key varies: the counter block starts at 2, big-endian. That is the counter mode
inside GCM with a zero nonce, and it is taken from there, its tag unused, because OpenSSL runs
GCM on wide vector units and bare CTR not: twice as fast where there are any.

Keystream words are 32 bits little-endian whatever the ring: 2^b divides 2^32, so sums wrap in
uint32 and are cut to b bits once at the end.
"""

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from common.crypto.ring import RingVector

# 32 Ki words: keystream, zeros and the vector's block stay in the second-level cache together.
_WORDS = 32 * 1024
_ZEROS = memoryview(bytes(4 * _WORDS))


def apply(
    vector: RingVector,
    bits: int,
    added: Sequence[bytes],
    subtracted: Sequence[bytes],
    source: RingVector | None = None,
) -> None:
    """Add and subtract the keystreams of 32-byte keys to ``(n,)`` elements of Z_2^bits, in place.

    The first elements are taken from ``source`` where there is one, block by block: copied
    beforehand, the vector would cross the memory once more.

    Source: Bonawitz et al. 2017, section 3.1 and figure 4, round 2.
    """
    target = bytearray(4 * _WORDS)
    keystream = np.frombuffer(target, "<u4")
    steps: list[tuple[CipherContext, np.ufunc]] = [(_encryptor(key), np.add) for key in added]
    steps += [(_encryptor(key), np.subtract) for key in subtracted]
    top = np.uint32((1 << bits) - 1)
    for start in range(0, len(vector), _WORDS):
        block = vector[start : start + _WORDS]
        if source is not None:
            part = source[start : start + _WORDS]
            block[: len(part)] = part
        zeros = _ZEROS[: 4 * len(block)]
        for encryptor, operation in steps:
            encryptor.update_into(zeros, target)
            operation(block, keystream[: len(block)], out=block)
        block &= top


def _encryptor(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES256(key), modes.GCM(bytes(12))).encryptor()
