from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.pruning.schedules import (
    LEVELS,
    SCHEDULES,
    cubic,
    iterative,
    linear,
    one_shot,
    prunes_after,
    sparsity_after,
    sparsity_due,
)
from tests.support import small_plan

SHARES = st.floats(0, 1)


def test_cubic_is_fast_at_first() -> None:
    assert [cubic(progress, 0.8) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0, 0.7, 0.8])
    assert cubic(0.1, 0.8) > linear(0.1, 0.8) == pytest.approx(0.08)


def test_one_shot_takes_all_at_once() -> None:
    assert [one_shot(progress, 0.8) for progress in (0.01, 1.0)] == [0.8, 0.8]
    assert sparsity_due(one_shot, 0.8, 0.2, 0.6, 0.2) == 0


def test_each_cut_of_the_iterative_schedule_takes_the_same_share_of_the_rest() -> None:
    kept = [1 - iterative(level / LEVELS, 0.9) for level in range(LEVELS + 1)]
    ratios = [later / earlier for earlier, later in pairwise(kept)]
    assert ratios == pytest.approx([0.1 ** (1 / LEVELS)] * LEVELS)
    assert iterative(0.99 / LEVELS, 0.9) == 0
    assert iterative(0.6, 0.9) == iterative(0.79, 0.9)


def test_schedules_are_found_by_name() -> None:
    assert SCHEDULES.require("cubic") is cubic
    with pytest.raises(ValueError, match=r"unknown pruning schedule 'now'; known: .*cubic"):
        SCHEDULES.require("now")


def test_pruning_begins_after_start_and_is_complete_at_end() -> None:
    due = [sparsity_due(cubic, 0.8, 0.2, 0.6, share) for share in (0, 0.2, 0.4, 0.6, 1)]
    assert due == pytest.approx([0, 0, 0.7, 0.8, 0.8])


@given(st.sampled_from(SCHEDULES.names), SHARES, SHARES, SHARES, st.tuples(SHARES, SHARES))
def test_due_sparsity_never_falls_nor_passes_the_final_one(
    name: str, final: float, first: float, second: float, finished: tuple[float, float]
) -> None:
    start, end = sorted((first, second))
    schedule = SCHEDULES.require(name)
    early, late = (sparsity_due(schedule, final, start, end, share) for share in sorted(finished))
    assert 0 <= early <= late + 1e-12 <= final + 2e-12
    assert sparsity_due(schedule, final, start, end, 1.0) == final


def test_a_cut_in_one_step_leaves_nothing_before_it() -> None:
    due = [sparsity_due(cubic, 0.9, 0.5, 0.5, share) for share in (0.49, 0.5)]
    assert due == [0, 0.9]


def test_rounds_that_end_in_a_cut_are_known_beforehand() -> None:
    plan = small_plan()
    due = [sparsity_after(plan, finished) for finished in range(plan.training.rounds + 1)]
    cuts = [later > earlier for earlier, later in pairwise(due)]
    assert [prunes_after(plan, round_number) for round_number in range(len(cuts))] == cuts
    assert 0 < sum(cuts) < len(cuts)
