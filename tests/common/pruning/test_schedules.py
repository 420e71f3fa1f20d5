import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.pruning.schedules import SCHEDULES, cubic, sparsity_due

SHARES = st.floats(0, 1)


def test_cubic_is_fast_at_first() -> None:
    assert [cubic(progress) for progress in (0.0, 0.5, 1.0)] == [0, 0.875, 1]
    assert cubic(0.1) > 0.1


def test_schedules_are_found_by_name() -> None:
    assert SCHEDULES.require("cubic") is cubic
    with pytest.raises(ValueError, match=r"unknown pruning schedule 'now'; known: .*cubic"):
        SCHEDULES.require("now")


def test_pruning_begins_after_start_and_is_complete_at_end() -> None:
    due = [sparsity_due(cubic, 0.8, 0.2, 0.6, share) for share in (0, 0.2, 0.4, 0.6, 1)]
    assert due == pytest.approx([0, 0, 0.7, 0.8, 0.8])


@given(SHARES, SHARES, SHARES, st.tuples(SHARES, SHARES))
def test_due_sparsity_never_falls_nor_passes_the_final_one(
    final: float, first: float, second: float, finished: tuple[float, float]
) -> None:
    start, end = sorted((first, second))
    early, late = (sparsity_due(cubic, final, start, end, share) for share in sorted(finished))
    assert 0 <= early <= late <= final
    assert sparsity_due(cubic, final, start, end, 1.0) == final


def test_a_cut_in_one_step_leaves_nothing_before_it() -> None:
    due = [sparsity_due(cubic, 0.9, 0.5, 0.5, share) for share in (0.49, 0.5)]
    assert due == [0, 0.9]
