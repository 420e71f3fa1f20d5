"""Schedules: the sparsity that is due at a point of the run."""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import TYPE_CHECKING

from common.registry import Registry

if TYPE_CHECKING:
    from common.plan import Plan

Schedule = Callable[[float, float], float]
"""Progress from ``start`` (0, excluded) to ``end`` (1) and the final sparsity -> the one due."""

SCHEDULES: Registry[Schedule] = Registry("pruning schedule")

LEVELS = 5
"""Cuts of the iterative schedule."""


@SCHEDULES.register("cubic")
def cubic(progress: float, final: float) -> float:
    """Fast at first, gentle at the end (Zhu and Gupta 2017, equation 1)."""
    return final * (1 - (1 - progress) ** 3)


@SCHEDULES.register("linear")
def linear(progress: float, final: float) -> float:
    """Evenly."""
    return final * progress


@SCHEDULES.register("one_shot")
def one_shot(progress: float, final: float) -> float:
    """All at once at the start (Lee et al. 2019, SNIP, prune so; here once trained a while)."""
    return final


@SCHEDULES.register("iterative")
def iterative(progress: float, final: float) -> float:
    """In `LEVELS` cuts that each take the same share of what is left (Frankle and Carbin 2019).

    With ``pruning.rewind`` the survivors of each cut go back to their weights at the start.
    """
    return 1 - float((1 - final) ** (floor(progress * LEVELS + 1e-9) / LEVELS))


def sparsity_due(
    schedule: Schedule, final: float, start: float, end: float, finished: float
) -> float:
    """Sparsity due once a share ``finished`` of the run's rounds is done.

    Nothing is due before ``start``; all of ``final`` from ``end`` on.
    """
    if finished >= end:
        return final
    if finished <= start:
        return 0.0
    return schedule((finished - start) / (end - start), final)


def sparsity_after(plan: Plan, finished: int) -> float:
    """Return the sparsity due once ``finished`` rounds are done; a search has none: 0."""
    pruning = plan.pruning
    if pruning.sparsity == "auto":
        return 0.0
    schedule = SCHEDULES.require(pruning.schedule)
    share = finished / plan.training.rounds
    return sparsity_due(schedule, pruning.sparsity, pruning.start, pruning.end, share)


def prunes_after(plan: Plan, round_number: int) -> bool:
    """Tell whether more is due once this round is done than before it."""
    return sparsity_after(plan, round_number + 1) > sparsity_after(plan, round_number)
