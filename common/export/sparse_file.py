r"""The sparse file: a compacted model as one bit a weight and the values that are not zero.

    fedprune/sparse/1\n | length of the header (4 bytes, big endian) | header (canonical JSON) |
    for each tensor in `shapes_of` order: bitmask (most significant bit first, zero padded),
    then the values under its set bits (float32, little endian)

Lossless, and canonical: a model and its metadata have one file, and the reader takes no other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import ModelError, ProtocolError
from common.pruning.compaction import Array, CompactModel, assembled, shapes_of
from common.pruning.masks import pack_mask, unpack_mask

SPARSE = "model.sparse"
"""Its name in the directory of a run."""

FAMILY, VERSION = b"fedprune/sparse/", b"1\n"
MAGIC = FAMILY + VERSION
VALUE = np.dtype("<f4")


class _Header(BaseModel):
    """The rest of the file follows from it; ``sizes`` are the neurons of the hidden layers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    activation: Literal["relu", "tanh"]
    linear: bool
    metadata: dict[str, str]
    sizes: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(max_length=1000)]
    width: Annotated[int, Field(ge=1, le=2**20)]

    def to_bytes(self) -> bytes:
        fields: dict[str, Any] = self.model_dump()
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class SparseFile:
    """What a sparse file holds."""

    model: CompactModel
    metadata: dict[str, str]


def sparse_bytes(model: CompactModel, metadata: Mapping[str, str]) -> bytes:
    """Return the sparse file of a model whose values are finite."""
    header = _Header(
        activation=model.activation,
        linear=model.linear is not None,
        metadata=dict(metadata),
        sizes=list(model.sizes),
        width=model.width,
    ).to_bytes()
    parts = [MAGIC, len(header).to_bytes(4, "big"), header]
    for tensor in model.tensors.values():
        flat = tensor.ravel()
        present = _bits(flat) != 0
        parts += [pack_mask(present), flat[present].astype(VALUE).tobytes()]
    return b"".join(parts)


def read_sparse(data: bytes) -> SparseFile:
    """Invert `sparse_bytes`, bit for bit; raise `ModelError` for anything it does not write."""
    reader = _Reader(data)
    if not data.startswith(FAMILY):
        raise ModelError("this is no sparse model file: name the model.sparse of a run")
    if reader.take(len(MAGIC)) != MAGIC:
        raise ModelError("the sparse file has another version than 1: use a newer fedprune")
    text = reader.take(int.from_bytes(reader.take(4), "big"))
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise ModelError("the sparse file's header does not describe a model") from error
    if header.to_bytes() != text:
        raise ModelError("the sparse file's header is not in canonical form: it was altered")
    tensors: dict[str, Array] = {}
    for name, shape in shapes_of(header.width, tuple(header.sizes), linear=header.linear).items():
        tensors[name] = reader.tensor(name, prod(shape)).reshape(shape)
    reader.finish()
    return SparseFile(assembled(header.width, header.activation, tensors), header.metadata)


class _Reader:
    """Walks through the file; asks for no more than is there before it makes room for it."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise ModelError(
                f"the sparse file ends at byte {len(self._data)} but needs {end}: it was cut off"
            )
        part, self._at = bytes(self._data[self._at : end]), end
        return part

    def tensor(self, name: str, size: int) -> Array:
        try:
            present = unpack_mask(self.take(-(-size // 8)), size)
        except ProtocolError as error:
            raise ModelError(f"the sparse file's {name}: {error}") from error
        values = np.frombuffer(self.take(4 * int(present.sum())), VALUE).astype(np.float32)
        if not np.isfinite(values).all():
            raise ModelError(f"the sparse file's {name} holds a value that is not finite")
        if not _bits(values).all():
            raise ModelError(f"the sparse file's {name} spells out a zero: it was altered")
        tensor = np.zeros(size, np.float32)
        tensor[present] = values
        return tensor

    def finish(self) -> None:
        if self._at < len(self._data):
            raise ModelError(
                f"the sparse file has {len(self._data) - self._at} bytes after its last tensor"
            )


def _bits(values: Array) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return the bits of each value: -0.0 has some, so it is kept as it is."""
    return np.ascontiguousarray(values).view(np.uint32)
