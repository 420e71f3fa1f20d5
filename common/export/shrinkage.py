"""What shrank: the model dense, compacted and as a sparse file, counted alike."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from common.export.sparse_file import sparse_bytes
from common.export.tensor_file import tensor_bytes
from common.pruning.compaction import CompactModel


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the model.

    Attributes:
        weights: values it stores, biases included.
        neurons: hidden neurons.
        flops_per_record: a product and a sum count one each, so does an activation.
        bytes_stored: of its file.
        bytes_compressed: of that file under zlib, level 9.
    """

    weights: int
    neurons: int
    flops_per_record: int
    bytes_stored: int
    bytes_compressed: int


def flops_per_record(model: CompactModel) -> int:
    """Return the floating-point operations that dense layers of these shapes take a record."""
    layers = sum(2 * layer.weight.size + layer.bias.size for layer in model.hidden)
    linear = 0 if model.linear is None else 2 * model.linear.size
    return layers + 2 * model.output.size + linear


def shrinkage(
    dense: CompactModel, small: CompactModel, metadata: Mapping[str, str]
) -> dict[str, Form]:
    """Return each form by name: "dense", "compact", and "sparse", which unpacks to "compact".

    ``dense`` is the model before compaction: where its pruned weights are zeros, zlib finds them.
    """
    nonzero = sum(int((tensor != 0).sum()) for tensor in small.tensors.values())
    return {
        "dense": _form(dense, tensor_bytes(dense.tensors, metadata)),
        "compact": _form(small, tensor_bytes(small.tensors, metadata)),
        "sparse": _form(small, sparse_bytes(small, metadata), nonzero),
    }


def _form(model: CompactModel, file: bytes, weights: int | None = None) -> Form:
    stored = sum(tensor.size for tensor in model.tensors.values())
    return Form(
        weights=stored if weights is None else weights,
        neurons=sum(model.sizes),
        flops_per_record=flops_per_record(model),
        bytes_stored=len(file),
        bytes_compressed=len(zlib.compress(file, 9)),
    )
