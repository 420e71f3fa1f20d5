"""Global masks: which weights survive, one bit a weight, the same for every institution."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from common.errors import ProtocolError

Mask = NDArray[np.bool_]


def pack_mask(mask: Mask) -> bytes:
    """Return one bit a weight, most significant first, zero padded."""
    return np.packbits(mask).tobytes()


def unpack_mask(data: bytes, length: int) -> Mask:
    """Invert `pack_mask`; refuse a wrong length or set padding bits."""
    if len(data) != -(-length // 8):
        raise ProtocolError(f"mask of {len(data)} bytes does not hold {length} weights")
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).astype(np.bool_)
    if bits[length:].any():
        raise ProtocolError("mask has bits set beyond its last weight")
    return bits[:length]


def mask_hash(mask: Mask) -> str:
    """Return the SHA-256 of the packed mask and its length, in hexadecimal."""
    return hashlib.sha256(mask.size.to_bytes(8, "big") + pack_mask(mask)).hexdigest()
