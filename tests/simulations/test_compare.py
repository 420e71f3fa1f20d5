import pytest

from common.errors import ConfigError, PlanError
from common.layout import layout_of
from common.plan import load_plan
from common.privacy.budgets import learning_rate, training_mechanism
from common.pruning.rules import units_of
from simulations.baselines import RATES
from simulations.compare import (
    CONTROLS,
    DENSE,
    LOGISTIC,
    PRUNED,
    RANDOM,
    SAME_SIZE,
    Arm,
    Grid,
    arms_of,
    same_size,
)
from tests.commands import ROOT, trial_plan

UCI = ROOT / "simulations" / "scenarios" / "uci_default.toml"


def grid(*sparsities: float, **axes: tuple[str, ...]) -> Grid:
    return Grid(sparsities=sparsities, axes=axes)


def test_every_table_has_its_controls() -> None:
    arms, left_out = arms_of(grid(), trial_plan())
    assert [arm.name for arm in arms] == [
        "dense",
        "logistic",
        "magnitude weight 60 %",
        "same size 3",
        "random weight 60 %",
    ]
    assert {arm.kind for arm in arms} == {PRUNED, *CONTROLS}
    assert left_out == {}


def test_grid_is_all_combinations_and_a_random_mask_for_each_kind() -> None:
    axes = {"score": ("magnitude", "displacement"), "granularity": ("weight", "neuron")}
    budgets = (1.0, "none")
    arms, _ = arms_of(Grid(budgets, (0.5, 0.75), axes), trial_plan())
    assert len(arms) == len(set(arms))
    for epsilon in budgets:
        mine = [arm for arm in arms if arm.epsilon == epsilon]
        count = {kind: sum(arm.kind == kind for arm in mine) for kind in (PRUNED, *CONTROLS)}
        assert (count[PRUNED], count[RANDOM], count[DENSE], count[LOGISTIC]) == (8, 4, 1, 1)
        # Two granularities, two sparsities; an equal size is not trained twice.
        assert 2 <= count[SAME_SIZE] <= 4
    assert len([arm for arm in arms if arm.name == "displacement neuron 75 %"]) == 2


def test_random_named_as_a_score_stands_once() -> None:
    arms, _ = arms_of(grid(0.5, score=("random", "magnitude")), trial_plan())
    assert [arm.kind for arm in arms].count(RANDOM) == 1
    with pytest.raises(ConfigError, match="nothing is left to compare: name scores"):
        arms_of(grid(0.5, score=("random",)), trial_plan())


def test_other_axes_show_in_the_name_where_they_differ() -> None:
    axes = {"allocation": ("global", "erk"), "schedule": ("one_shot",), "penalty": ("l1",)}
    arms, _ = arms_of(grid(0.5, **axes), trial_plan())
    names = [arm.name for arm in arms if arm.kind == PRUNED]
    assert names == ["magnitude weight one_shot l1 50 %", "magnitude weight erk one_shot l1 50 %"]


def test_plans_differ_from_the_base_only_in_what_they_are() -> None:
    base = trial_plan()
    for arm in arms_of(Grid((1.0,), (0.5,), {"score": ("taylor",)}), base)[0]:
        plans = arm.plans(base)
        assert len(plans) == (1 if arm.pruning else len(RATES))
        for plan in plans:
            assert plan.privacy.epsilon == 1.0
            assert (plan.institutions, plan.evaluation) == (base.institutions, base.evaluation)
            assert plan.training.rounds == base.training.rounds
            # The same budget, to the last bit of its noise.
            assert training_mechanism(plan) == training_mechanism(plans[0])
        if arm.kind == PRUNED:
            assert (plans[0].pruning.score, plans[0].pruning.sparsity) == ("taylor", 0.5)
            assert plans[0].aggregation == base.aggregation
        elif arm.kind != RANDOM:
            assert {plan.pruning.sparsity for plan in plans} == {0.0}
            assert len({learning_rate(plan) for plan in plans}) == len(RATES)


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95])
def test_same_size_has_about_as_many_weights(sparsity: float) -> None:
    base = load_plan(UCI)
    width, whole = base.schema_.width, layout_of(base.model, base.schema_.width).size
    arms, _ = arms_of(grid(sparsity, granularity=("weight", "neuron")), base)
    weight, neuron = (arm for arm in arms if arm.kind == PRUNED)
    narrow = base.model.model_copy(update={"hidden": same_size(base, weight)})
    assert layout_of(narrow, width).size == pytest.approx((1 - sparsity) * whole, rel=0.06)
    halved = [round(hidden * (1 - sparsity)) for hidden in base.model.hidden]
    assert list(same_size(base, neuron)) == halved
    (plan,) = neuron.plans(base)
    kept = units_of(plan).kept(sparsity)
    assert sum(same_size(base, neuron)) == pytest.approx(kept, abs=1)


def test_what_contradicts_the_plan_is_left_out_and_told() -> None:
    axes = {"granularity": ("weight", "block")}
    arms, left_out = arms_of(grid(0.5, 0.6, 0.99, **axes), trial_plan())
    names = [arm.name for arm in arms if arm.kind == PRUNED]
    assert names == ["magnitude weight 50 %", "magnitude block 50 %", "magnitude weight 60 %"]
    assert "no whole number of 4 weights" in left_out["magnitude block 60 %"]
    assert "would prune protected weights" in left_out["magnitude weight 99 %"]
    with pytest.raises(ConfigError, match=r"nothing is left.*weight 99 %: sparsity 0\.99 would"):
        arms_of(grid(0.99), trial_plan())
    with pytest.raises(PlanError, match="protected"):
        replaced(arms, 0.99).plans(trial_plan())


def replaced(arms: list[Arm], sparsity: float) -> Arm:
    (first, *_) = (arm for arm in arms if arm.kind == PRUNED)
    return Arm(first.kind, first.epsilon, first.pruning, sparsity)


def test_search_has_no_sparsity_to_compare_at() -> None:
    auto = trial_plan(pruning={"sparsity": "auto", "guard": "step_back"}, evaluation={"rounds": 3})
    with pytest.raises(ConfigError, match="name some with --sparsity"):
        arms_of(grid(), auto)
    assert any(arm.sparsity == 0.5 for arm in arms_of(grid(0.5), auto)[0])


def test_logistic_plan_has_no_narrower_model() -> None:
    arms, _ = arms_of(grid(0.5), trial_plan(model={"kind": "logistic"}))
    assert [arm.kind for arm in arms] == [DENSE, LOGISTIC, PRUNED, RANDOM]


@pytest.mark.parametrize("axis", ["score", "granularity", "allocation", "schedule", "penalty"])
def test_unknown_name_is_refused_by_its_registry(axis: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown pruning {axis} 'l3'; known: "):
        Grid(axes={axis: ("l3",)})
