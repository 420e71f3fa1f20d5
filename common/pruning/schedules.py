"""Schedules: the share of the final sparsity that is due at a point of the run."""

from collections.abc import Callable

from common.registry import Registry

Schedule = Callable[[float], float]
"""Progress from ``start`` (0) to ``end`` (1) -> share of the final sparsity, both in [0, 1]."""

SCHEDULES: Registry[Schedule] = Registry("pruning schedule")


@SCHEDULES.register("cubic")
def cubic(progress: float) -> float:
    """Fast at first, gentle at the end (Zhu and Gupta 2017, equation 1)."""
    return 1 - (1 - progress) ** 3


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
    return final * schedule((finished - start) / (end - start))
