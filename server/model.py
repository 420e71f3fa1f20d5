"""The server's state between rounds."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.crypto.session import Offer
from common.pruning.evidence import Traces
from common.pruning.masks import Mask
from server.evaluation import Estimate


@dataclass(frozen=True)
class Good:
    """A model that held its quality: weights and mask [size], sparsity, the best seen so far."""

    weights: NDArray[np.float32]
    mask: Mask
    sparsity: float
    reference: Estimate


@dataclass(frozen=True)
class Watch:
    """What the guard knows: the last good model, and bounds of sparsity from what fell.

    No mask passes ``limit``; a search goes to ``target`` next and stays below ``failed``.
    """

    good: Good | None = None
    limit: float = 1.0
    failed: float = 1.0
    target: float = 0.0


@dataclass(frozen=True)
class GlobalModel:
    """Flat weights and mask [size], next round, last epoch, and what pruning remembers.

    ``holders`` maps each institution to the hash of the mask it is known to hold, ``offers`` to
    the keys it sent ahead. ``culprits`` spoiled an opening and are asked no more. ``moments``
    [2, size] are the optimiser's after so many ``updates``; None before the first.
    """

    weights: NDArray[np.float32]
    mask: Mask
    traces: Traces
    watch: Watch = Watch()
    round: int = 0
    epoch: int = 0
    holders: dict[str, str] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)
    culprits: frozenset[str] = frozenset()
    moments: NDArray[np.float64] | None = None
    updates: int = 0

    @property
    def kept(self) -> int:
        """Number of surviving weights."""
        return int(self.mask.sum())
