"""When the server cuts: the plan's schedule or search, held or taken back by the guard."""

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite, sqrt

import numpy as np

from common.errors import AggregationError
from common.plan import Plan
from common.pruning.allocation import ALLOCATIONS
from common.pruning.evidence import Evidence
from common.pruning.rules import deepest, key_of, units_of
from common.pruning.schedules import sparsity_after
from common.pruning.scores import SCORES
from common.pruning.selection import exchange, prune
from common.segments import evaluation_rounds
from server.evaluation import Estimate
from server.guard import Verdict, guard, shortfall
from server.model import GlobalModel, Good, Watch

TINY = 1e-9
"""Stands for the length of a window of no length."""


def cut(model: GlobalModel, plan: Plan, sparsity: float, finished: int) -> GlobalModel:
    """Return the model after pruning to ``sparsity``, once ``finished`` rounds are done.

    Raises `AggregationError` when the model has diverged.
    """
    pruning, units = plan.pruning, units_of(plan)
    evidence = Evidence(model.weights, model.traces, key_of(plan, "pruning"))
    scores = SCORES.require(pruning.score)(evidence)
    allocation = ALLOCATIONS.require(pruning.allocation)
    if not np.isfinite(model.weights).all():
        raise AggregationError(
            "a weight is not finite, the model has diverged: lower training.learning_rate"
        )
    mask = prune(scores, model.mask, units, sparsity, allocation)
    if (mask == model.mask).all():
        return model
    weights = model.weights
    if pruning.regrowth:
        left = max(0.0, pruning.end - finished / plan.training.rounds)
        share = pruning.regrowth * left / max(pruning.end - pruning.start, left, TINY)
        chance = np.random.default_rng(int.from_bytes(key_of(plan, f"regrowth/{finished}"), "big"))
        count = round(share * units.alive(mask).sum())
        mask = exchange(mask, scores, units, count, chance.random(units.count))
    if pruning.rewind:
        model = replace(model, moments=None, updates=0)
        weights = model.traces.anchor
    # What regrows starts from zero, where it was kept since it went, if it went before.
    return replace(model, weights=weights * (mask & model.mask), mask=mask)


def sparsity_due(model: GlobalModel, plan: Plan, finished: int) -> float:
    """Return the sparsity to cut to once ``finished`` rounds are done."""
    if plan.pruning.sparsity == "auto":
        return model.watch.target
    return min(sparsity_after(plan, finished), model.watch.limit)


def watched(
    received: GlobalModel,
    model: GlobalModel,
    plan: Plan,
    seen: Estimate,
    groups: Mapping[str, Estimate],
) -> tuple[GlobalModel, Verdict | None]:
    """Let the guard judge the ``received`` model by what was ``seen`` of it, and of each group.

    ``model`` is the same one step later; it goes on, or gives way to the last good one. Before
    there is one, a pruned model is held against the floor alone, and can only be held.
    """
    watch, sparsity, verdict = received.watch, pruned_share(received, plan), None
    if not (isfinite(seen.value.roc_auc) and isfinite(seen.sd.roc_auc)):
        # Noise left a class empty: that tells neither of quality nor of a fall.
        held = watch.good.sparsity if watch.good is not None else 0.0
        return replace(model, watch=replace(watch, target=held)), None
    good = watch.good
    worst_group = shortfall(groups, plan.pruning.floor)
    if sparsity > 0 and (good is not None or worst_group is not None):
        reference = seen if good is None else good.reference
        verdict = guard(reference, seen, plan.pruning.tolerance, worst_group)
    if verdict is None or not verdict.fell:
        best = seen if good is None or sparsity == 0 else _better(good.reference, seen)
        watch = replace(watch, good=Good(received.weights, received.mask, sparsity, best))
    elif plan.pruning.guard == "hold" or good is None:
        watch = replace(watch, limit=sparsity)
    else:
        watch = replace(watch, limit=good.sparsity, failed=min(watch.failed, sparsity))
        model = replace(model, weights=good.weights, mask=good.mask, moments=None, updates=0)
    if plan.pruning.sparsity == "auto":
        watch = _searched(watch, plan, received.round)
    return replace(model, watch=watch), verdict


def _better(one: Estimate, other: Estimate) -> Estimate:
    return max(one, other, key=lambda estimate: estimate.value.roc_auc)


def _searched(watch: Watch, plan: Plan, round_number: int) -> Watch:
    """Set the next sparsity to try: midway, by density, between what held and what fell.

    The last evaluation has nothing after it that could mend a fall, so none is tried before it.
    """
    held = watch.good.sparsity if watch.good is not None else 0.0
    if round_number < plan.pruning.start * plan.training.rounds:
        return watch
    if round_number >= evaluation_rounds(plan)[-2]:
        return replace(watch, target=held)
    failed = min(watch.failed, deepest(plan))
    return replace(watch, target=1 - sqrt((1 - held) * (1 - failed)))


def pruned_share(model: GlobalModel, plan: Plan) -> float:
    """Return the sparsity of a mask as the plan counts it: of weights, neurons or blocks."""
    units = units_of(plan)
    alive = int(units.alive(model.mask).sum())
    fixed = 0 if units.blocks else units.fixed
    return 1 - (alive + fixed) / (units.count + fixed)
