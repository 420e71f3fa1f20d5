"""Groups, pools and their floor in runs of real institutions."""

from dataclasses import replace
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import pytest

from common.plan import Plan
from common.segments import COUNTS, TEST, VALIDATION, count_names, counting_noise
from server.evaluation import CERTAIN, EMPTY, Estimate
from server.groups import apart, looked_at, worst
from server.model import GlobalModel
from server.rounds import RoundReport, run_rounds
from simulations.grid import Absent, nobody_leaves
from tests.support import NORTH, SOUTH, connect, grouped_plan, leaving, small_splits, start_of

PLAIN = {"kind": "plain"}
Rounds = list[tuple[GlobalModel, RoundReport]]


def rounds_of(plan: Plan, absent: Absent = nobody_leaves) -> Rounds:
    exchange, _ = connect(plan, absent)
    return list(run_rounds(start_of(plan), plan, "run", exchange))


def seen(roc_auc: float, sd: float = 0.0) -> Estimate:
    return Estimate(replace(EMPTY, roc_auc=roc_auc), replace(CERTAIN, roc_auc=sd))


@pytest.fixture(scope="module")
def finished() -> Rounds:
    """Return a masked run whose counts are exact."""
    return rounds_of(grouped_plan())


def test_counts_add_up_over_groups_and_over_pools(finished: Rounds) -> None:
    plan = grouped_plan()
    for _, report in finished:
        for part in COUNTS:
            if part not in report.counts:
                assert not [name for name in report.counts if name.startswith(part)]
                continue
            names = count_names(plan, part)
            assert set(names) <= report.counts.keys()
            whole = report.counts[part]
            for kind in ("sex", "age", "pool:"):
                total = sum(report.counts[name] for name in names[1:] if kind in name)
                np.testing.assert_array_equal(total, whole)
    last = finished[-1][1]
    women = sum(
        (small_splits(index, 200).test.protected["sex"] == "f").sum()
        for index in range(len(plan.names))
    )
    assert last.counts[f"{TEST}/sex=f"].sum() == women
    assert last.counts[f"{TEST}/pool:north"].sum() == 3 * 40
    assert set(apart(last.estimates, TEST)) == {
        name.removeprefix(f"{TEST}/") for name in count_names(plan, TEST)[1:]
    }


def test_masked_and_plain_sums_are_the_same(finished: Rounds) -> None:
    noised = {"noise": "gaussian", "epsilon": 1.0}
    masked = rounds_of(grouped_plan(evaluation=noised))[-1][1]
    plain = rounds_of(grouped_plan(evaluation=noised, aggregation=PLAIN))[-1][1]
    assert masked.counts.keys() == plain.counts.keys() == finished[-1][1].counts.keys()
    for name, counts in masked.counts.items():
        np.testing.assert_array_equal(counts, plain.counts[name])
    assert masked.noise == plain.noise
    own = counting_noise(grouped_plan(evaluation=noised), TEST)
    assert masked.noise[f"{TEST}/sex=f"] == pytest.approx(own * sqrt(6))
    assert masked.noise[f"{TEST}/pool:north"] == pytest.approx(own * sqrt(3))


@pytest.mark.parametrize("kind", ["secure", "plain"])
def test_a_pool_that_lost_a_member_is_not_looked_at(kind: str) -> None:
    # Five of six survive: of the south two are left, and the whole less the north shows them.
    plan = grouped_plan(aggregation={"kind": kind})
    gone = leaving(plan, "gum", "train.update", lambda group: group.startswith("2/"))
    reports = [report for _, report in rounds_of(plan, gone)]
    assert len(reports[2].survivors) == 5
    names = count_names(plan, VALIDATION)
    assert reports[2].counts.keys() == reports[2].noise.keys() == set(names[:-2])
    assert reports[4].counts.keys() == set(names)


def test_of_a_round_without_counts_nothing_is_seen() -> None:
    plan = grouped_plan()
    assert looked_at(plan, {}, plan.names) == ({}, {})
    sums = {name: np.ones(20) for name in count_names(plan, VALIDATION)}
    counts, noise = looked_at(plan, sums | {"update": np.ones(3)}, [*NORTH, *SOUTH])
    assert counts.keys() == noise.keys() == sums.keys()
    assert looked_at(plan, sums, NORTH)[0].keys() == sums.keys() - {f"{VALIDATION}/pool:south"}


def test_the_worst_is_the_lowest_that_noise_leaves() -> None:
    assert worst({"a": seen(0.7), "b": seen(0.6, 0.1), "c": seen(0.65)}) == "c"
    assert worst({"a": seen(0.7), "b": seen(0.6, 0.01), "c": seen(0.65)}) == "b"
    assert worst({"a": seen(0.7), "b": seen(float("nan"))}) == "a"
    assert worst({}) is None


def floored(pruning: dict[str, Any], **evaluation: Any) -> Plan:
    return grouped_plan(pruning=pruning, aggregation=PLAIN, evaluation=evaluation)


def test_a_floor_that_nobody_meets_ends_pruning_where_it_is_first_seen() -> None:
    guarded: dict[str, Any] = {"guard": "hold", "tolerance": 0.4}
    free = rounds_of(floored(guarded | {"floor": 0.0}))
    assert [report.verdict.fell for _, report in free if report.verdict] == [False] * 3
    held = rounds_of(floored(guarded | {"floor": 0.99}))
    first = next(report for _, report in held if report.verdict is not None)
    assert first.verdict is not None
    assert first.verdict.fell
    assert first.verdict.worst is not None
    assert first.verdict.worst.group in apart(first.estimates, VALIDATION)
    kept = [model.kept for model, _ in held]
    assert kept[first.round :] == [kept[first.round - 1]] * (7 - first.round)
    assert kept[-1] > free[-1][0].kept == round(85 * 0.25)


def test_a_floor_steps_back_to_the_model_before_the_cut() -> None:
    pruning = {"guard": "step_back", "floor": 0.99, "start": 0.4, "tolerance": 0.4}
    rounds = rounds_of(floored(pruning, rounds=6))
    fell = [report.round for _, report in rounds if report.verdict and report.verdict.fell]
    assert fell
    lean = [model.kept for model, _ in rounds]
    assert lean[fell[0] - 1] < 85
    assert lean[fell[0] :] == [85] * (7 - fell[0])
    # With a lower floor the cuts stand.
    rounds = rounds_of(floored(pruning | {"floor": 0.0}, rounds=6))
    assert all(one.kept >= other.kept for (one, _), (other, _) in pairwise(rounds))
    assert rounds[-1][0].kept == round(85 * 0.25)


def test_what_noise_explains_is_no_shortfall() -> None:
    pruning = {"guard": "hold", "floor": 0.7, "tolerance": 0.4}
    plan = floored(pruning, noise="gaussian", epsilon=0.05)
    rounds = rounds_of(plan)
    verdicts = [report.verdict for _, report in rounds if report.verdict is not None]
    assert verdicts
    for verdict in verdicts:
        assert verdict.worst is None or verdict.worst.smallest_detectable > 0.1
        assert not verdict.fell
    assert rounds[-1][0].kept == round(85 * 0.25)
    exact = rounds_of(floored(pruning))
    assert any(report.verdict.fell for _, report in exact if report.verdict)
