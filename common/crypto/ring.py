"""Fixed point on the ring Z_2^b: real vectors in, exact sums out.

Values saturate at the segment's bound, are scaled and rounded stochastically to integers;
sums of integers are exact modulo 2^b and lift back to the centred range. `RoundDescriptor`
guarantees that an honest sum never leaves it. The plain path uses this module alone.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.crypto.keys import CHECK_SLOTS, derive
from common.crypto.refusals import NotFiniteError, RingError
from common.descriptor import RoundDescriptor, Segment
from common.entropy import Stream
from common.errors import AggregationError, ProtocolError

RingVector = NDArray[np.uint32]
RealVector = NDArray[np.float64]


def encode(values: RealVector, segment: Segment, bits: int, stream: Stream) -> RingVector:
    """Encode ``(segment.length,)`` reals as elements of Z_2^bits.

    A value v becomes floor(v * scale), plus one with the probability of the fraction that
    floor cut off (to 32 random bits), so the encoding is unbiased within the bound.

    Raises:
        ProtocolError: the length is not the segment's.
        NotFiniteError: a value is NaN or infinite.
    """
    if values.shape != (segment.length,):
        raise ProtocolError(
            f"segment {segment.name!r} has shape {values.shape}: give ({segment.length},)"
        )
    if not np.isfinite(values).all():
        raise NotFiniteError(f"segment {segment.name!r} holds values that are not finite")
    scaled = np.clip(values, -segment.bound, segment.bound) * segment.scale
    floor = np.floor(scaled)
    draws = np.frombuffer(stream(4 * segment.length), "<u4")
    floor += draws < (scaled - floor) * 2.0**32
    return (floor.astype(np.int64) & _top(bits)).astype(np.uint32)


def decode(summed: RingVector, segment: Segment, bits: int, count: int) -> RealVector:
    """Lift a sum of ``count`` encodings to reals, ``(segment.length,)``; still a sum.

    Raises:
        AggregationError: a slot is beyond what ``count`` honest institutions can reach.
    """
    half = 1 << (bits - 1)
    lifted = ((summed.astype(np.int64) + half) & _top(bits)) - half
    worst = int(np.abs(lifted).max(initial=0))
    if worst > count * segment.limit:
        raise AggregationError(
            f"segment {segment.name!r} sums to magnitude {worst}, beyond {count} x"
            f" {segment.limit}: masks did not cancel or a vector was malformed; repeat the round"
        )
    return lifted / segment.scale


def encode_vector(
    descriptor: RoundDescriptor, values: Mapping[str, RealVector], stream: Stream
) -> RingVector:
    """Encode every segment of the descriptor, in its order, into ``(descriptor.length,)``.

    Raises:
        ProtocolError: a segment is missing or unknown, has a wrong length, or see `encode`.
    """
    names = {segment.name for segment in descriptor.segments}
    if names != values.keys():
        raise ProtocolError(
            f"segments {sorted(names ^ values.keys())} are missing or unknown:"
            f" give exactly {sorted(names)}"
        )
    bits = descriptor.ring_bits
    parts = [encode(values[part.name], part, bits, stream) for part in descriptor.segments]
    return np.concatenate([np.empty(0, np.uint32), *parts])


def decode_vector(
    descriptor: RoundDescriptor, summed: RingVector, count: int
) -> dict[str, RealVector]:
    """Split and decode the sum of ``count`` institutions' vectors, by segment name.

    Raises:
        ProtocolError: ``summed`` is not a vector of this descriptor's ring.
        AggregationError: ``count`` is not a possible number of survivors, or see `decode`.
    """
    require_vector(descriptor, summed)
    if not 1 <= count <= len(descriptor.cohort):
        raise AggregationError(
            f"a sum over {count} institutions is outside 1 to {len(descriptor.cohort)}"
        )
    decoded, start = {}, 0
    for segment in descriptor.segments:
        part = summed[start : start + segment.length]
        decoded[segment.name] = decode(part, segment, descriptor.ring_bits, count)
        start += segment.length
    return decoded


def check_slots(descriptor_digest: bytes, bits: int) -> RingVector:
    """Return the constants, 128 bits or more in all, that every masked vector ends in.

    They follow from the descriptor: a sum in which all masks cancelled holds them times the
    number of survivors, and any other holds something else but for a chance of 2^-128.
    """
    size = 4 * -(-_CHECK_BITS // bits)
    words = derive(descriptor_digest, CHECK_SLOTS, bytes([bits]))[:size]
    return np.frombuffer(words, "<u4").astype(np.uint32) & np.uint32(_top(bits))


def require_vector(descriptor: RoundDescriptor, vector: RingVector) -> None:
    """Raise `ProtocolError` unless ``vector`` belongs to the descriptor's ring and length."""
    if vector.dtype != np.uint32 or vector.shape != (descriptor.length,):
        raise ProtocolError(
            f"a vector of {vector.dtype} {vector.shape} is not uint32 ({descriptor.length},)"
        )
    require_range(vector, descriptor.ring_bits)


def pack(values: RingVector, bits: int) -> bytes:
    """Pack ``(n,)`` ring elements into ceil(n * bits / 8) bytes, least significant bit first.

    Raises:
        ProtocolError: an element does not fit, or ``bits`` is outside 16 to 32.
    """
    require_range(values, bits)
    if bits % 8 == 0:
        return values.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()
    # 64 elements fill exactly `bits` words: one vectorised pass a position in the group.
    groups = -(-len(values) // _WORD)
    padded = np.zeros((groups, _WORD), np.uint64)
    padded.reshape(-1)[: len(values)] = values
    words = np.zeros((bits, groups), np.uint64)
    for position in range(_WORD):
        word, shift = divmod(position * bits, _WORD)
        element = padded[:, position]
        words[word] |= element << np.uint64(shift)
        if shift + bits > _WORD:
            words[word + 1] |= element >> np.uint64(_WORD - shift)
    return words.T.astype("<u8").tobytes()[: packed_size(len(values), bits)]


def unpack(data: bytes, bits: int, length: int) -> RingVector:
    """Invert `pack` into ``(length,)`` ring elements.

    Raises:
        ProtocolError: ``data`` is not the packing of ``length`` elements, its padding
            bits included, or ``bits`` is outside 16 to 32.
    """
    size = packed_size(length, bits)
    if len(data) != size:
        raise ProtocolError(f"{len(data)} bytes do not hold {length} x {bits} bits: send {size}")
    if bits % 8 == 0:
        words = np.zeros((length, 4), np.uint8)
        words[:, : bits // 8] = np.frombuffer(data, np.uint8).reshape(length, bits // 8)
        return words.view("<u4").reshape(length).astype(np.uint32, copy=False)
    if length and data[-1] >> ((length * bits - 1) % 8 + 1):
        raise ProtocolError("the padding bits of a packed vector are not zero")
    groups = -(-length // _WORD)
    flat = np.zeros(groups * bits * 8, np.uint8)
    flat[:size] = np.frombuffer(data, np.uint8)
    words = flat.view("<u8").reshape(groups, bits).T
    values = np.empty((groups, _WORD), np.uint32)
    for position in range(_WORD):
        word, shift = divmod(position * bits, _WORD)
        element = words[word] >> np.uint64(shift)
        if shift + bits > _WORD:
            element |= words[word + 1] << np.uint64(_WORD - shift)
        values[:, position] = element & np.uint64(_top(bits))
    return values.reshape(-1)[:length]


def packed_size(length: int, bits: int) -> int:
    """Return the bytes that `pack` makes of ``length`` elements.

    Raises:
        RingError: ``bits`` is outside 16 to 32.
    """
    if not _MIN_BITS <= bits <= _MAX_BITS:
        raise RingError(f"ring of {bits} bits is outside {_MIN_BITS} to {_MAX_BITS}")
    return -(-length * bits // 8)


_MIN_BITS, _MAX_BITS = 16, 32
_WORD = 64  # bits
_CHECK_BITS = 128


def _top(bits: int) -> int:
    return (1 << bits) - 1


def require_range(vector: RingVector, bits: int) -> None:
    """Raise `ProtocolError` unless every element is below 2^bits."""
    packed_size(len(vector), bits)
    if int(vector.max(initial=0)) > _top(bits):
        raise ProtocolError(f"an element is outside the ring of {bits} bits")
