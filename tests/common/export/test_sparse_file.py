import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ModelError
from common.export.sparse_file import MAGIC, read_sparse, sparse_bytes
from common.layout import layout_of
from common.plan import ModelPlan
from common.pruning.allocation import ALLOCATIONS
from common.pruning.compaction import CompactModel, compact, unpruned
from common.pruning.granularity import single_weights
from common.pruning.selection import prune
from tests.common.export.exports import METADATA, MODELS, WIDTH, pruned

MODEL = MODELS["wide and deep"]
DATA = sparse_bytes(MODEL, METADATA)
LENGTH = int.from_bytes(DATA[len(MAGIC) : len(MAGIC) + 4], "big")
BODY = len(MAGIC) + 4 + LENGTH


def with_header(change: dict[str, Any] | bytes) -> bytes:
    """Return the file with other fields in its header, or another header."""
    header = DATA[len(MAGIC) + 4 : BODY]
    if isinstance(change, dict):
        fields = json.loads(header) | change
        change = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    return MAGIC + len(change).to_bytes(4, "big") + change + DATA[BODY:]


@pytest.mark.parametrize("name", MODELS)
def test_reading_gives_the_model_back_bit_for_bit(name: str) -> None:
    model = MODELS[name]
    found = read_sparse(sparse_bytes(model, METADATA))
    assert found.metadata == METADATA
    assert (found.model.width, found.model.activation) == (WIDTH, model.activation)
    assert (found.model.sizes, list(found.model.tensors)) == (model.sizes, list(model.tensors))
    for tensor_name, tensor in model.tensors.items():
        again = found.model.tensors[tensor_name]
        assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
        assert again.tobytes() == tensor.tobytes()


def test_a_negative_zero_stays_one() -> None:
    model = replace(MODEL, bias=np.array([-0.0], np.float32))
    again = read_sparse(sparse_bytes(model, {})).model.bias
    assert again.tobytes() == model.bias.tobytes() != np.zeros(1, np.float32).tobytes()


def test_one_model_has_one_file() -> None:
    assert sparse_bytes(MODEL, dict(reversed(METADATA.items()))) == DATA


def test_file_at_90_percent_is_seven_times_smaller() -> None:
    model = ModelPlan(kind="mlp", hidden=(512, 256, 128))
    layout = layout_of(model, 64)
    weights = np.random.default_rng(0).normal(0, 0.1, layout.size).astype(np.float32)
    whole = np.ones(layout.size, np.bool_)
    units = single_weights(layout, layout.protected(biases=False), 0)
    mask = prune(np.abs(weights), whole, units, 0.9, ALLOCATIONS.require("global"))

    def ratio(model: CompactModel) -> float:
        return 4 * layout.size / len(sparse_bytes(model, METADATA))

    # At worst every neuron stays; here most of the last layer is read by nobody and goes.
    assert 7 < ratio(unpruned(model, 64, np.where(mask, weights, np.float32(0)))) < 8
    assert ratio(compact(model, 64, weights, mask)) > 10
    # Negative control: what is not pruned gains nothing.
    assert 0.9 < ratio(compact(model, 64, weights, whole)) < 1


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no sparse model file"),
        (b"PK" + DATA, "no sparse model file"),
        (DATA[: len(MAGIC) - 1], "cut off"),
        (DATA.replace(b"/1\n", b"/2\n", 1), "another version than 1"),
        (DATA[: len(MAGIC) + 2], "cut off"),
        (DATA[: BODY - 1], "cut off"),
        (DATA[:BODY], "cut off"),
        (DATA[:-1], f"ends at byte {len(DATA) - 1} but needs {len(DATA)}"),
        (DATA + b"\0", "1 bytes after its last tensor"),
        (with_header(b"[]"), "does not describe a model"),
        (with_header(b"\xff"), "does not describe a model"),
        (with_header({"activation": "gelu"}), "does not describe a model"),
        (with_header({"colour": "red"}), "does not describe a model"),
        (with_header({"linear": 1}), "does not describe a model"),
        (with_header({"sizes": [9, 0]}), "does not describe a model"),
        (with_header({"width": -WIDTH}), "does not describe a model"),
        (with_header({"width": 2**20, "sizes": [4096]}), "cut off"),
        (with_header(b" " + DATA[len(MAGIC) + 4 : BODY]), "not in canonical form"),
    ],
)
def test_what_was_never_written_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        read_sparse(data)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (np.nan, "bias holds a value that is not finite"),
        (np.inf, "bias holds a value that is not finite"),
        (0.0, "bias spells out a zero"),
    ],
)
def test_a_value_no_writer_leaves_is_refused(value: float, complaint: str) -> None:
    assert DATA[-5] == 0x80  # The bias is the last tensor: one bit, one value.
    with pytest.raises(ModelError, match=complaint):
        read_sparse(DATA[:-4] + struct.pack("<f", value))


def test_padding_bits_are_refused() -> None:
    with pytest.raises(ModelError, match=r"bias: mask has bits set beyond its last weight"):
        read_sparse(DATA[:-5] + b"\xc0" + DATA[-4:])


@given(st.data())
def test_a_changed_byte_is_refused_or_changes_the_model(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(DATA) - 1))
    altered = bytearray(DATA)
    altered[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = read_sparse(bytes(altered))
    except ModelError:
        return
    # Nothing in the file is idle: what is read is written as it was read.
    assert sparse_bytes(found.model, found.metadata) == altered


def test_every_cut_is_refused() -> None:
    small = sparse_bytes(pruned("mlp", 3), {})
    read_sparse(small)
    for end in range(len(small)):
        with pytest.raises(ModelError):
            read_sparse(small[:end])
