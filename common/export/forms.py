"""A model in the forms in which it is kept and released: each follows from its weights and mask."""

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from common.errors import ModelError, ProtocolError
from common.export.onnx_file import ONNX, onnx_bytes
from common.export.sparse_file import SPARSE, sparse_bytes
from common.export.tensor_file import tensor_bytes
from common.facts import metadata_of
from common.layout import layout_of
from common.messages import encode_weights, model_hash
from common.plan import Plan
from common.pruning.compaction import CompactModel
from common.pruning.masks import Mask, mask_hash, pack_mask, unpack_mask

COMPACT = "compact.safetensors"
"""The compacted model in plain tensors."""

Weights = NDArray[np.float32]


def hashes_of(weights: Weights, mask: Mask) -> dict[str, str]:
    """Name a model, flat weights and mask [size], as the next round's descriptor would."""
    return {"model": model_hash(encode_weights(weights[mask])), "mask": mask_hash(mask)}


def model_bytes(weights: Weights, mask: Mask, plan: Plan) -> bytes:
    """Return a safetensors file: each named tensor, and ``mask`` (packed bits, public)."""
    tensors = layout_of(plan.model, plan.schema_.width).split(weights)
    tensors["mask"] = np.frombuffer(pack_mask(mask), np.uint8)
    return tensor_bytes(tensors, metadata_of(plan))


def read_model(data: bytes, plan: Plan) -> tuple[Weights, Mask]:
    """Invert `model_bytes`; raise `ModelError` for anything it does not write."""
    layout = layout_of(plan.model, plan.schema_.width)
    try:
        tensors = load(data)
        weights = np.concatenate([tensors[entry.name].ravel() for entry in layout.entries])
        mask = unpack_mask(tensors["mask"].tobytes(), weights.size)
        same = model_bytes(weights, mask, plan) == data
    except (SafetensorError, KeyError, ValueError, ProtocolError) as error:
        raise ModelError("the model's file does not hold the plan's network") from error
    if not same:
        raise ModelError("the model's file is not as fedprune writes it: it was altered")
    return weights, mask


def compact_forms(small: CompactModel, plan: Plan) -> dict[str, bytes]:
    """Return a compacted model's files by name: one model gives one sequence of bytes."""
    metadata = metadata_of(plan)
    return {
        ONNX: onnx_bytes(small, metadata),
        SPARSE: sparse_bytes(small, metadata),
        COMPACT: tensor_bytes(small.tensors, metadata),
    }
