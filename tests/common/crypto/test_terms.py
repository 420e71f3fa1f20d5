"""Thresholds: what they withstand, and what they refuse."""

import pytest

from common.crypto.refusals import ColludersError, ThresholdError
from common.crypto.terms import Terms, default_threshold, withstood


@pytest.mark.parametrize("n", range(3, 60))
def test_the_default_withstands_a_colluder_and_no_more_than_the_bound(n: int) -> None:
    threshold = default_threshold(n)
    most = withstood(threshold, n)
    assert most >= max(1, (n - 1) // 3 - 1)
    Terms(threshold, most).require(n)
    with pytest.raises(ColludersError, match=f"{most + 1} colluders are more than the {most}"):
        Terms(threshold, most + 1).require(n)


@pytest.mark.parametrize(("threshold", "n"), [(1, 1), (1, 3), (0, 3), (2, 4), (5, 10), (4, 3)])
def test_thresholds_that_two_halves_or_nobody_could_meet_are_refused(
    threshold: int, n: int
) -> None:
    with pytest.raises(ThresholdError, match="out of range"):
        Terms(threshold, 0).require(n)


@pytest.mark.parametrize("n", range(3, 9))
def test_terms_that_no_round_could_meet_are_refused(n: int) -> None:
    Terms(n, n - 2).require(n)
    assert Terms(n, n - 1).least == n + 1
    with pytest.raises(ColludersError, match=f"{n - 1} colluders are more than the {n - 2}"):
        Terms(n, n - 1).require(n)


def test_the_fewest_survivors_hide_each_other_from_the_colluders() -> None:
    assert Terms(3, 1).least == 3
    assert Terms(3, 2).least == 4
