"""What every registered pruning schedule must do, and schedules that the suite must reject."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from common.pruning.schedules import SCHEDULES, Schedule

GRID = [index / 200 for index in range(201)]


def due(schedule: Schedule) -> list[float]:
    return [schedule(progress, 0.8) for progress in GRID]


def check_ends(schedule: Schedule) -> None:
    assert schedule(1.0, 0.8) == pytest.approx(0.8)
    assert schedule(1.0, 0.0) == 0


def check_range(schedule: Schedule) -> None:
    assert all(0 <= schedule(progress, 0.8) <= 0.8 + 1e-12 for progress in GRID)


def check_monotone(schedule: Schedule) -> None:
    assert all(early <= late for early, late in pairwise(due(schedule)))


def check_determinism(schedule: Schedule) -> None:
    assert due(schedule) == due(schedule)


Check = Callable[[Schedule], None]
CHECKS = (check_ends, check_range, check_monotone, check_determinism)


@pytest.mark.parametrize("name", SCHEDULES.names)
@pytest.mark.parametrize("check", CHECKS)
def test_registered_schedule(name: str, check: Check) -> None:
    check(SCHEDULES.require(name))


STATE = [0.0]


def restless(progress: float, final: float) -> float:
    STATE[0] += 1e-6
    return progress + STATE[0]


@pytest.mark.parametrize(
    ("schedule", "check"),
    [
        (lambda progress, final: 0.5 * progress, check_ends),
        (lambda progress, final: final / 2 + progress, check_ends),
        (lambda progress, final: 2 * progress, check_range),
        (lambda progress, final: progress - 0.01, check_range),
        (lambda progress, final: 4 * progress * (1 - progress), check_monotone),
        (restless, check_determinism),
    ],
)
def test_wrong_schedule_is_rejected(schedule: Schedule, check: Check) -> None:
    with pytest.raises(AssertionError):
        check(schedule)
