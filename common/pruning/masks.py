"""Global masks: which weights survive, one bit a weight, the same for every institution."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from common.errors import AggregationError, PlanError, ProtocolError

Mask = NDArray[np.bool_]


def prune(scores: NDArray[np.float32], mask: Mask, protected: Mask, sparsity: float) -> Mask:
    """Return the mask [d] that leaves exactly ``round(d * (1 - sparsity))`` weights.

    The lowest scores among the survivors of ``mask`` go, across all layers; ``protected``
    weights stay whatever their score. Nothing pruned comes back, so masks are nested; a
    sparsity the mask has already passed changes nothing.
    """
    if not np.isfinite(scores).all():
        raise AggregationError(
            "a pruning score is not finite, the model has diverged: lower training.learning_rate"
        )
    surplus = int(mask.sum()) - round(mask.size * (1 - sparsity))
    if surplus <= 0:
        return mask.copy()
    candidates = np.flatnonzero(mask & ~protected)
    if surplus > candidates.size:
        raise PlanError(
            f"sparsity {sparsity:g} would prune protected weights: at most"
            f" {1 - protected.sum() / mask.size:.4g} is possible here; lower pruning.sparsity"
        )
    # Stable sort: every party that recomputes the mask must break ties alike.
    order = np.argsort(scores[candidates], kind="stable")
    pruned = mask.copy()
    pruned[candidates[order[:surplus]]] = False
    return pruned


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
