"""Selection: from scores to the next mask, exactly as sparse as is due."""

import numpy as np
from numpy.typing import NDArray

from common.errors import AggregationError, PlanError
from common.pruning.allocation import Allocation, quotas
from common.pruning.granularity import Units
from common.pruning.masks import Mask

Scores = NDArray[np.floating]


def prune(
    scores: Scores, mask: Mask, units: Units, sparsity: float, allocation: Allocation
) -> Mask:
    """Return the mask [size] after the lowest-scored living units have gone.

    ``scores`` [size] are of weights; a unit's is the mean over its surviving ones. Nothing
    pruned comes back, so masks are nested; a sparsity the mask has already passed changes
    nothing.

    Raises:
        AggregationError: a score is not finite.
        PlanError: the sparsity is beyond what the plan lets be pruned.
    """
    if not np.isfinite(scores).all():
        raise AggregationError(
            "a pruning score is not finite, the model has diverged: lower training.learning_rate"
        )
    require_possible(units, sparsity)
    alive = units.alive(mask)
    if alive.sum() <= units.kept(sparsity):
        return mask.copy()
    worth = unit_scores(scores, mask, units)
    return mask & units.mask(_best(worth, alive, units, sparsity, allocation))


def require_possible(units: Units, sparsity: float) -> None:
    """Raise `PlanError` when so much could be pruned only with weights that never are."""
    if units.kept(sparsity) < 0:
        most = 1 - units.fixed / (units.count + units.fixed)
        raise PlanError(
            f"sparsity {sparsity:g} would prune protected weights: at most {most:.4g} is possible"
            " here; lower pruning.sparsity"
        )


def exchange(mask: Mask, scores: Scores, units: Units, count: int, ranks: Scores) -> Mask:
    """Return the mask [size] in which ``count`` living units made room for as many pruned ones.

    The worst by score go, and the highest of ``ranks`` [n] come back (Mocanu et al. 2018, SET,
    "Methods"; by chance, for nothing is known of a pruned weight's gradient).
    """
    alive = units.alive(mask)
    living, gone = np.flatnonzero(alive), np.flatnonzero(~alive)
    count = min(count, gone.size, living.size)
    worth = unit_scores(scores, mask, units)
    alive[living[np.argsort(worth[living], kind="stable")[:count]]] = False
    alive[gone[np.argsort(-ranks[gone], kind="stable")[:count]]] = True
    return units.mask(alive)


def unit_scores(scores: Scores, mask: Mask, units: Units) -> Scores:
    """Return the mean score [n] of each unit's surviving weights; 0 for one without any."""
    total, number = np.zeros(units.count), np.zeros(units.count)
    for owners in units.owners:
        counted = mask & (owners >= 0)
        total += np.bincount(owners[counted], scores[counted], units.count)
        number += np.bincount(owners[counted], minlength=units.count)
    return np.divide(total, number, out=total, where=number > 0)


def _best(
    worth: Scores, alive: Mask, units: Units, sparsity: float, allocation: Allocation
) -> Mask:
    """Return which units [n] are kept: the best of each group's quota."""
    living = np.bincount(units.group[alive], minlength=units.groups)
    if units.blocks:
        group, quota = units.group, np.minimum(units.quotas(sparsity), living)
    elif (densities := allocation(units.shapes)) is None:
        # Layers of several weights a unit differ in scale, which must not decide between them.
        worth = worth if len(units.owners) == 1 else worth / _scale(worth, alive, units)
        group, quota = np.zeros_like(units.group), np.array([units.kept(sparsity)])
    else:
        sizes = np.bincount(units.group, minlength=units.groups)
        group, quota = units.group, quotas(units.kept(sparsity), densities * sizes, living)
    candidates = np.flatnonzero(alive)
    # Stable, and the last of a group are kept: every party must break ties alike.
    order = candidates[np.lexsort((worth[candidates], group[candidates]))]
    in_group = np.bincount(group[candidates], minlength=len(quota))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(in_group) - in_group, in_group)
    kept = np.zeros_like(alive)
    kept[order[rank >= np.repeat(in_group - quota, in_group)]] = True
    return kept


def _scale(worth: Scores, alive: Mask, units: Units) -> Scores:
    """Return the mean absolute score of each unit's layer [n] (Molchanov et al. 2017, eq. 12)."""
    layers = len(units.shapes)
    total = np.bincount(units.group[alive], np.abs(worth[alive]), layers)
    mean = total / np.maximum(np.bincount(units.group[alive], minlength=layers), 1)
    return np.where(mean > 0, mean, 1.0)[units.group]
