"""The server's cuts: schedule, search, rewinding, regrowth and the guard's last word."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.entropy import SeededEntropy
from common.errors import AggregationError, PlanError
from common.plan import Plan
from common.pruning.rules import deepest, fault_of, units_of
from common.pruning.schedules import prunes_after
from common.segments import evaluation_rounds
from server.evaluation import CERTAIN, EMPTY, Estimate
from server.model import GlobalModel, Watch
from server.pruning import cut, pruned_share, sparsity_due, watched
from server.rounds import initial_model, run_rounds
from tests.support import connect, grouped_plan, small_plan


def plan_of(evaluations: int = 3, **pruning: Any) -> Plan:
    return small_plan(pruning=pruning, evaluation={"rounds": evaluations})


def start(plan: Plan, round_number: int = 0) -> GlobalModel:
    model = initial_model(plan, SeededEntropy(0).stream("initial-weights"))
    return replace(model, round=round_number)


def seen(roc_auc: float, sd: float = 0.01) -> Estimate:
    return Estimate(replace(EMPTY, roc_auc=roc_auc), replace(CERTAIN, roc_auc=sd))


def test_a_cut_leaves_zeros_where_the_mask_is_and_no_other_change() -> None:
    plan = plan_of()
    before = start(plan)
    after = cut(before, plan, 0.5, 3)
    assert after.kept == round(after.mask.size / 2)
    assert (after.weights == before.weights * after.mask).all()
    assert cut(after, plan, 0.5, 4) is after


def test_a_model_that_diverged_is_not_cut_but_refused() -> None:
    for score in ("magnitude", "random"):
        plan = plan_of(score=score)
        model = start(plan)
        model.weights[3] = np.nan
        with pytest.raises(AggregationError, match="diverged: lower training"):
            cut(model, plan, 0.5, 3)


def test_rewinding_returns_survivors_to_the_anchor_and_forgets_the_moments() -> None:
    plan = plan_of(schedule="iterative", rewind=True)
    model = start(plan)
    moved = replace(model, weights=model.weights + 1, moments=np.ones((2, 85)), updates=3)
    after = cut(moved, plan, 0.5, 3)
    assert (after.weights == model.traces.anchor * after.mask).all()
    assert (after.moments, after.updates) == (None, 0)
    assert cut(moved, plan, 0.0, 3) is moved


def test_regrown_weights_start_from_zero_and_are_fewer_each_time() -> None:
    plan = plan_of(schedule="iterative", regrowth=0.4, start=0.0, end=0.99)
    first = cut(start(plan), plan, 0.3, 1)
    assert first.kept == round(85 * 0.7)
    numbers = []
    for finished in (2, 4, 6):
        after = cut(first, plan, 0.4, finished)
        back = after.mask & ~first.mask
        assert after.kept == round(85 * 0.6)
        assert not after.weights[back].any()
        assert fault_of(after.mask, first.mask, plan) is None
        numbers.append(int(back.sum()))
    assert numbers[0] > numbers[1] > numbers[2] == 0
    again = cut(first, plan, 0.4, 2)
    assert (again.mask == cut(first, plan, 0.4, 2).mask).all()


def judged(
    plan: Plan,
    model: GlobalModel,
    quality: float,
    sd: float = 0.01,
    groups: Mapping[str, Estimate] | None = None,
) -> tuple[GlobalModel, bool | None]:
    """Let the guard see a model, which moves on by one."""
    moved = replace(model, weights=model.weights + model.mask, round=model.round + 1)
    after, verdict = watched(model, moved, plan, seen(quality, sd), groups or {})
    return after, None if verdict is None else verdict.fell


def test_before_the_first_cut_the_guard_only_learns() -> None:
    plan = plan_of(guard="hold")
    model, fell = judged(plan, start(plan), 0.7)
    assert fell is None
    assert model.watch.good is not None
    # A dense model's fall is not pruning's: the last one is the reference.
    model, fell = judged(plan, model, 0.6)
    assert fell is None
    assert model.watch.good is not None
    assert model.watch.good.reference.value.roc_auc == 0.6


@pytest.mark.parametrize("guard", ["hold", "step_back"])
def test_a_fall_beyond_noise_ends_pruning_or_takes_it_back(guard: str) -> None:
    plan = plan_of(guard=guard, tolerance=0.01)
    dense, _ = judged(plan, start(plan), 0.75)
    lean = cut(dense, plan, 0.5, 2)
    assert judged(plan, lean, 0.72)[1] is False  # .03 < .01 + 2 sd of .014
    after, fell = judged(plan, lean, 0.70)
    assert fell
    if guard == "hold":
        assert after.kept == lean.kept
        assert sparsity_due(after, plan, 6) == pytest.approx(pruned_share(lean, plan))
    else:
        assert (after.weights == start(plan).weights).all()
        assert after.mask.all()
        assert sparsity_due(after, plan, 6) == 0
    assert sparsity_due(lean, plan, 6) == deepest(plan) == 0.75


def test_a_group_below_the_floor_is_answered_like_a_fall() -> None:
    for guard in ("hold", "step_back"):
        plan = grouped_plan(pruning={"guard": guard, "floor": 0.6, "tolerance": 0.1})
        fine, poor = {"sex=f": seen(0.7)}, {"sex=f": seen(0.7), "sex=m": seen(0.57)}
        dense, fell = judged(plan, start(plan), 0.75, groups=poor)
        assert fell is None  # Not pruning's doing.
        lean = cut(dense, plan, 0.5, 2)
        assert judged(plan, lean, 0.75, groups=fine)[1] is False
        noisy = {"sex=m": seen(0.57, sd=0.02)}
        assert judged(plan, lean, 0.75, groups=noisy)[1] is False
        after, fell = judged(plan, lean, 0.75, groups=poor)
        assert fell
        assert after.kept == (lean.kept if guard == "hold" else dense.kept)
        assert sparsity_due(after, plan, 6) == (pruned_share(after, plan))


def test_a_first_model_below_the_floor_is_held_for_there_is_none_to_return_to() -> None:
    plan = grouped_plan(pruning={"guard": "step_back", "floor": 0.6})
    lean = cut(start(plan), plan, 0.5, 2)
    after, fell = judged(plan, lean, 0.75, groups={"sex=m": seen(0.5)})
    assert fell
    assert (after.kept, after.watch.good) == (lean.kept, None)
    assert sparsity_due(after, plan, 6) == pruned_share(lean, plan)
    better, fell = judged(plan, after, 0.75, groups={"sex=m": seen(0.65)})
    assert fell is False
    assert better.watch.good is not None


def test_the_best_good_model_is_what_the_next_one_is_held_against() -> None:
    plan = plan_of(guard="step_back", tolerance=0.0)
    model, _ = judged(plan, start(plan), 0.70)
    model, fell = judged(plan, cut(model, plan, 0.3, 2), 0.78)
    assert fell is False
    model, fell = judged(plan, cut(model, plan, 0.5, 3), 0.74)
    assert fell
    assert model.kept == round(85 * 0.7)


def test_a_search_closes_in_on_the_highest_sparsity_that_holds() -> None:
    plan = plan_of(6, sparsity="auto", guard="step_back", tolerance=0.005, start=0.0)
    model = start(plan)
    rounds, limit = evaluation_rounds(plan), 0.6
    tried = []
    for round_number in rounds[:-1]:
        share = pruned_share(model, plan)
        tried.append(share)
        model = replace(model, round=round_number)
        model, _ = judged(plan, model, 0.75 if share <= limit else 0.6, sd=1e-4)
        model = cut(model, plan, sparsity_due(model, plan, round_number), round_number)
    assert tried[0] == 0
    assert len(set(tried)) == len(tried)
    held = max(share for share in tried if share <= limit)
    fell = min(share for share in tried if share > limit)
    assert held < limit < fell
    # The last evaluation could mend nothing any more, so what held is what it sees.
    assert pruned_share(model, plan) == pytest.approx(held)
    assert model.watch == replace(model.watch, target=held, failed=fell)


def test_a_search_begins_where_the_plan_lets_it() -> None:
    plan = plan_of(6, sparsity="auto", guard="step_back", start=0.5, end=0.6)
    assert judged(plan, start(plan, 2), 0.7)[0].watch.target == 0
    assert judged(plan, start(plan, 3), 0.7)[0].watch.target > 0.5
    assert sparsity_due(start(plan), plan, 6) == 0
    assert units_of(plan).kept(deepest(plan)) == 1


@pytest.mark.parametrize(
    "pruning",
    [
        {"score": "mean_magnitude"},
        {"score": "taylor", "allocation": "erk"},
        {"granularity": "neuron", "sparsity": 0.5},
        {"granularity": "block", "sparsity": 0.5},
        {"schedule": "iterative", "regrowth": 0.3},
        {"schedule": "one_shot", "rewind": True, "start": 0.5, "penalty": "group_lasso"},
        {"sparsity": "auto", "guard": "step_back", "tolerance": 0.4, "penalty": "l1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("noise", ["local", "shared"])
def test_each_family_runs_through_real_institutions(pruning: dict[str, Any], noise: str) -> None:
    sections: dict[str, Any] = {"privacy": {"noise": noise}}
    if noise == "shared":
        sections["training"] = {"steps": 1}
        if pruning.get("score") == "mean_magnitude":
            pytest.skip("with shared noise no institution has weights of its own")
    plan = small_plan(pruning=pruning, evaluation={"rounds": 4}, **sections)
    exchange, _ = connect(plan)
    before = start(plan).mask
    for model, report in run_rounds(start(plan), plan, "run", exchange):
        assert report.survivors == plan.names
        assert fault_of(model.mask, before, plan) is None
        assert not model.weights[~model.mask].any()
        before = model.mask
    units = units_of(plan)
    if plan.pruning.sparsity == "auto":
        assert 0 < pruned_share(model, plan) <= deepest(plan)
    else:
        assert units.alive(model.mask).sum() == units.kept(deepest(plan)) < units.count


def test_mean_magnitudes_are_the_institutions_own_and_come_with_cuts_alone() -> None:
    plan = small_plan(
        pruning={"score": "mean_magnitude", "sparsity": 0.5}, privacy={"epsilon": "none"}
    )
    exchange, _ = connect(plan)
    previous = start(plan)
    sent = []
    for model, _report in run_rounds(previous, plan, "run", exchange):
        magnitudes = model.traces.magnitudes
        if magnitudes is not None and magnitudes is not previous.traces.magnitudes:
            sent.append(model.round - 1)
            # The mean of magnitudes is no less than the magnitude of the mean, but for rounding.
            stepped = np.abs(model.weights[model.mask])
            assert (magnitudes[model.mask] >= stepped - 1e-5).all()
            assert (magnitudes[model.mask] > stepped + 1e-5).any()
        previous = model
    assert sent == [r for r in range(plan.training.rounds) if prunes_after(plan, r)]


def test_what_cannot_be_pruned_is_refused_before_the_run() -> None:
    with pytest.raises(PlanError, match="would prune protected weights"):
        start(plan_of(sparsity=0.95))
    assert start(plan_of(granularity="neuron", sparsity=0.95)).watch == Watch()


@pytest.mark.parametrize("sd", [np.nan, 0.01])
def test_an_evaluation_that_tells_nothing_moves_nothing(sd: float) -> None:
    plan = plan_of(6, sparsity="auto", guard="step_back", start=0.0)
    unknown = np.nan if sd == 0.01 else 0.7
    dense, fell = judged(plan, start(plan, 1), unknown, sd)
    assert (fell, dense.watch.good, dense.watch.target) == (None, None, 0.0)
    known, _ = judged(plan, start(plan, 2), 0.75)
    lean = replace(cut(known, plan, known.watch.target, 2), round=3)
    blind, fell = judged(plan, lean, unknown, sd)
    assert fell is None
    assert blind.watch.good == known.watch.good
    assert (blind.mask == lean.mask).all()
    assert sparsity_due(blind, plan, 4) == 0
    # The next one that tells something still judges by the model before it.
    assert judged(plan, replace(blind, round=4), 0.5)[1]
