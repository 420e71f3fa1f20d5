"""What a plan lets be pruned: the same for the server that cuts and the member that checks."""

import hashlib
from functools import lru_cache

import numpy as np

from common.layout import layout_of
from common.plan import ModelPlan, Plan, PruningPlan
from common.pruning.granularity import GRANULARITIES, Units
from common.pruning.masks import Mask
from common.pruning.penalties import PENALTIES, Proximal


@lru_cache(maxsize=16)
def _units(model: ModelPlan, width: int, pruning: PruningPlan) -> Units:
    layout = layout_of(model, width)
    protected = layout.protected(biases=pruning.biases, output=pruning.output)
    return GRANULARITIES.require(pruning.granularity)(layout, protected, pruning.block)


AUTO_DEEPEST = 0.99
"""The sparsity at which a search for the highest one ends."""


def units_of(plan: Plan) -> Units:
    """Return what the plan's model is pruned by."""
    return _units(plan.model, plan.schema_.width, plan.pruning)


def deepest(plan: Plan) -> float:
    """Return the sparsity that no mask may pass; a search ends where only protected is left."""
    if plan.pruning.sparsity != "auto":
        return plan.pruning.sparsity
    units = units_of(plan)
    return min(AUTO_DEEPEST, 1 - (units.fixed + 1) / (units.count + units.fixed))


def fault_of(mask: Mask, before: Mask, plan: Plan) -> str | None:
    """Return what is wrong with a mask [size] that follows ``before``; None if nothing is."""
    if plan.pruning.nested and (mask & ~before).any():
        return "mask brings pruned weights back"
    units = units_of(plan)
    alive = units.alive(mask)
    if alive.sum() < (least := units.kept(deepest(plan))):
        return f"mask keeps {alive.sum()} units, fewer than the {least} of the plan's sparsity"
    if units.blocks:
        short = units.quotas(deepest(plan)) - np.bincount(units.group, alive, units.groups)
        if short.max() > 0:
            return f"mask keeps fewer of block {short.argmax()} than the plan's sparsity leaves"
    if (units.mask(alive) != mask).any():
        return "mask prunes what the plan protects, or parts of what it prunes as one"
    return None


def key_of(plan: Plan, label: str) -> bytes:
    """Return 32 bytes for a public choice by chance, alike for all who know the plan.

    They follow from what is pruned and how: another aggregation leaves the model as it is.
    """
    what = f"{plan.name}/{plan.model.model_dump_json()}/{plan.pruning.model_dump_json()}"
    return hashlib.sha256(f"fedprune/1/{label}/{what}".encode()).digest()


def proximal_of(plan: Plan, rate: float) -> Proximal | None:
    """Return the proximal step that follows a step at a learning rate; None without a penalty."""
    pruning = plan.pruning
    if pruning.penalty == "none":
        return None
    layout = layout_of(plan.model, plan.schema_.width)
    free = ~layout.protected(biases=pruning.biases, output=pruning.output)
    threshold = (rate * pruning.strength * free).astype(np.float32)
    return Proximal(PENALTIES.require(pruning.penalty), threshold, layout)
