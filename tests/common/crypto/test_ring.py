"""Fixed point on the ring: exact sums, unbiased rounding, exact packing."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.crypto.refusals import NotFiniteError
from common.crypto.ring import (
    RealVector,
    RingVector,
    decode,
    decode_vector,
    encode,
    encode_vector,
    pack,
    packed_size,
    unpack,
)
from common.descriptor import RoundDescriptor, Segment
from common.entropy import SeededEntropy
from common.errors import AggregationError, ProtocolError

RINGS = range(16, 33)


def stream(seed: int = 0) -> Callable[[int], bytes]:
    return SeededEntropy(seed).stream("encode")


def descriptor(*segments: Segment) -> RoundDescriptor:
    return RoundDescriptor(
        run="r",
        plan_hash="aa",
        roster_hash="bb",
        round=1,
        epoch=1,
        cohort=("a", "b", "c"),
        threshold=3,
        ring_bits=20,
        model_hash="cc",
        mask_hash="dd",
        segments=segments,
    )


UPDATE = Segment("update", 3, 1000.0, 2.0)
COUNTS = Segment("counts", 2, 1.0, 500.0)


@given(
    st.integers(16, 32),
    st.lists(st.lists(st.integers(-512, 512), min_size=4, max_size=4), min_size=1, max_size=9),
)
def test_sums_of_values_on_the_grid_are_exact(bits: int, rows: list[list[int]]) -> None:
    segment = Segment("update", 4, 256.0, 2.0)
    values = np.array(rows) / segment.scale
    encoded = [encode(row, segment, bits, stream(i)) for i, row in enumerate(values)]
    summed = np.stack(encoded).sum(axis=0, dtype=np.uint32) & np.uint32(2**bits - 1)
    assert np.array_equal(decode(summed, segment, bits, len(rows)), values.sum(axis=0))


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20), st.integers(0, 100))
def test_one_value_is_off_by_less_than_a_step_and_saturates(values: list[float], seed: int) -> None:
    segment = Segment("update", len(values), 777.0, 1.5)
    decoded = decode(encode(np.array(values), segment, 16, stream(seed)), segment, 16, 1)
    assert np.abs(decoded - np.clip(values, -1.5, 1.5)).max() < 1 / 777 + 1e-12


def test_both_bounds_stay_within_the_limit() -> None:
    segment = Segment("update", 2, 3.0, 1.1)
    for seed in range(50):
        decoded = decode(encode(np.array([9.0, -9.0]), segment, 16, stream(seed)), segment, 16, 1)
        assert np.abs(decoded * segment.scale).max() <= segment.limit


def bias(values: RealVector, rounded: NDArray[np.float64]) -> float:
    """How many standard deviations the mean rounding error is from that of fair rounding."""
    fraction = values - np.floor(values)
    return float((rounded - values).sum() / np.sqrt((fraction * (1 - fraction)).sum()))


def test_stochastic_rounding_is_unbiased_and_a_biased_one_is_rejected() -> None:
    values = np.tile([0.3, -5.7, 0.95, 7.01, -0.02], 40_000)
    segment = Segment("update", len(values), 1.0, 10.0)
    fair, skewed = stream(), stream()
    rounded = decode(encode(values, segment, 16, fair), segment, 16, 1)
    assert set(np.unique(rounded - np.floor(values))) == {0.0, 1.0}
    assert abs(bias(values, rounded)) < 4

    def low(size: int) -> bytes:
        draws = np.frombuffer(skewed(size), "<u4").astype(np.float64)
        return (draws * 0.98).astype("<u4").tobytes()

    assert abs(bias(values, decode(encode(values, segment, 16, low), segment, 16, 1))) > 8
    assert abs(bias(values, np.rint(values))) > 8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_without_telling(bad: float) -> None:
    segment = Segment("update", 2, 1.0, 1.0)
    with pytest.raises(NotFiniteError) as caught:
        encode(np.array([0.0, bad]), segment, 16, stream())
    assert caught.value.reason == "refused"


def test_a_sum_beyond_the_bound_is_refused_and_one_at_the_bound_is_not() -> None:
    segment = Segment("update", 1, 100.0, 1.0)
    edge = np.array([3 * segment.limit], np.uint32)
    assert decode(edge, segment, 16, 3)[0] == 3.03
    with pytest.raises(AggregationError, match=r"'update' sums to magnitude 304, beyond 3 x 101"):
        decode(edge + np.uint32(1), segment, 16, 3)
    with pytest.raises(AggregationError, match="beyond"):
        decode(np.array([2**16 - 304], np.uint32), segment, 16, 3)


def test_a_vector_of_segments_round_trips() -> None:
    layout = descriptor(UPDATE, COUNTS)
    values = {"counts": np.array([7.0, 500.0]), "update": np.array([-2.0, 0.5, 9.0])}
    vector = encode_vector(layout, values, stream())
    assert vector.dtype == np.uint32
    decoded = decode_vector(layout, vector, 1)
    assert list(decoded) == ["update", "counts"]
    assert decoded["update"].tolist() == [-2.0, 0.5, 2.0]
    assert decoded["counts"].tolist() == [7.0, 500.0]


def test_empty_layouts_and_segments_round_trip() -> None:
    empty = descriptor(Segment("update", 0, 1.0, 1.0))
    decoded = decode_vector(empty, encode_vector(empty, {"update": np.zeros(0)}, stream()), 1)
    assert decoded["update"].shape == (0,)
    assert decode_vector(descriptor(), encode_vector(descriptor(), {}, stream()), 1) == {}


@pytest.mark.parametrize(
    "values",
    [
        {"update": np.zeros(3)},
        {"update": np.zeros(3), "counts": np.zeros(2), "loss": np.zeros(1)},
        {"update": np.zeros(4), "counts": np.zeros(2)},
        {"update": np.zeros((3, 1)), "counts": np.zeros(2)},
        {"update": np.full(3, np.nan), "counts": np.zeros(2)},
    ],
    ids=["missing", "unknown", "length", "shape", "nan"],
)
def test_values_that_do_not_fit_the_descriptor_are_refused(values: dict[str, RealVector]) -> None:
    with pytest.raises(ProtocolError):
        encode_vector(descriptor(UPDATE, COUNTS), values, stream())


@pytest.mark.parametrize(
    "summed",
    [np.zeros(4, np.uint32), np.zeros(5, np.int64), np.full(5, 2**20, np.uint32)],
    ids=["length", "type", "range"],
)
def test_a_sum_that_does_not_fit_the_descriptor_is_refused(summed: RingVector) -> None:
    with pytest.raises(ProtocolError):
        decode_vector(descriptor(UPDATE, COUNTS), summed, 3)


@pytest.mark.parametrize("count", [0, 4])
def test_an_impossible_count_is_refused(count: int) -> None:
    with pytest.raises(AggregationError, match="outside 1 to 3"):
        decode_vector(descriptor(UPDATE, COUNTS), np.zeros(5, np.uint32), count)


@pytest.mark.parametrize("bits", RINGS)
@given(data=st.data(), length=st.integers(0, 150))
@settings(max_examples=20, deadline=None)
def test_packing_is_exact_and_little_endian(bits: int, data: st.DataObject, length: int) -> None:
    top = 2**bits - 1
    ring = st.sampled_from([0, 1, top - 1, top]) | st.integers(0, top)
    values = data.draw(st.lists(ring, min_size=length, max_size=length))
    packed = pack(np.array(values, np.uint32), bits)
    whole = sum(value << (bits * place) for place, value in enumerate(values))
    assert packed == whole.to_bytes(packed_size(length, bits), "little")
    assert unpack(packed, bits, length).tolist() == values


@pytest.mark.parametrize("bits", RINGS)
def test_a_wrong_size_or_padding_is_refused(bits: int) -> None:
    packed = pack(np.full(5, 2**bits - 1, np.uint32), bits)
    for data, length in [(packed[:-1], 5), (packed + b"\0", 5), (packed, 4), (packed, 6)]:
        with pytest.raises(ProtocolError, match="do not hold"):
            unpack(data, bits, length)
    for padding in range(5 * bits % 8 or 8, 8):
        with pytest.raises(ProtocolError, match="padding"):
            unpack(packed[:-1] + bytes([packed[-1] | 1 << padding]), bits, 5)


@pytest.mark.parametrize("bits", [15, 33])
def test_another_ring_is_refused(bits: int) -> None:
    with pytest.raises(ProtocolError, match="outside 16 to 32"):
        pack(np.zeros(8, np.uint32), bits)
    with pytest.raises(ProtocolError, match="outside 16 to 32"):
        unpack(bytes(bits), bits, 8)


def test_an_element_outside_the_ring_is_not_packed() -> None:
    with pytest.raises(ProtocolError, match="outside the ring"):
        pack(np.array([2**17], np.uint32), 17)
