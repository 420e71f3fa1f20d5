import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.histograms import LOGIT_RANGE, histogram

LOGITS = st.lists(st.floats(-20, 20, width=32), max_size=30)


def count(logits: list[float], labels: list[int], bins: int) -> list[float]:
    counts = histogram(np.array(logits, np.float32), np.array(labels, np.float32), bins)
    return [float(number) for number in counts]


def test_negatives_come_first_and_bins_are_equal_in_the_logit() -> None:
    logits = [-5.9, -0.1, 0.1, 5.9, -5.9, 5.9]
    assert count(logits, [0, 0, 0, 0, 1, 1], 4) == [1, 1, 1, 1, 1, 0, 0, 1]
    assert count(logits, [1, 1, 1, 1, 0, 0], 4) == [1, 0, 0, 1, 1, 1, 1, 1]


def test_logits_beyond_the_range_share_the_outermost_bins() -> None:
    edge = LOGIT_RANGE
    assert count([-100, -edge, edge, 100], [0, 0, 0, 0], 6) == [2, 0, 0, 0, 0, 2, *[0] * 6]
    assert count([-edge + 2.1, edge - 2.1], [0, 0], 6) == [0, 1, 0, 0, 1, 0, *[0] * 6]


def test_no_records_give_no_counts() -> None:
    assert count([], [], 3) == [0] * 6


@given(LOGITS, st.data(), st.integers(2, 40))
def test_adding_a_record_changes_one_count_by_one(
    logits: list[float], data: st.DataObject, bins: int
) -> None:
    labels = data.draw(st.lists(st.integers(0, 1), min_size=len(logits), max_size=len(logits)))
    extra, label = data.draw(st.floats(-20, 20, width=32)), data.draw(st.integers(0, 1))
    before = np.array(count(logits, labels, bins))
    after = np.array(count([*logits, extra], [*labels, label], bins))
    assert sorted(after - before) == [0] * (2 * bins - 1) + [1]
    assert after[bins:].sum() == sum(labels) + label


def test_score_that_is_not_a_number_is_not_counted_as_one() -> None:
    with pytest.raises((ValueError, RuntimeWarning)):
        count([float("nan")], [0], 4)
