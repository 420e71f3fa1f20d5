from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client.data import Splits
from common.model import layout_of
from common.plan import Plan, PruningPlan
from common.privacy.budgets import learning_rate, training_mechanism
from server.model import GlobalModel
from server.rounds import RoundReport
from simulations.baselines import BASELINES, RATES, baseline_plans, train_baseline
from simulations.inputs import Federation
from simulations.run import Run, exact_metrics, simulate
from tests.commands import trial_plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    return trial_plan(training={"rounds": 2})


@pytest.fixture(scope="module")
def splits(federation: Federation) -> Mapping[str, Splits]:
    return federation.splits


def dropped(fields: dict[str, Any], *paths: str) -> dict[str, Any]:
    """Return a plan's fields without some keys."""
    left = {key: dict(value) if isinstance(value, dict) else value for key, value in fields.items()}
    for path in paths:
        section, key = path.split(".")
        del left[section][key]
    return left


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_differs_from_the_plan_only_in_what_it_is(plan: Plan, name: str) -> None:
    plans = baseline_plans(plan, name)
    free = ["training.learning_rate", "aggregation.kind"]
    free += ["model.kind"] if name == "logistic" else []
    for candidate in plans:
        own, agreed = dropped(candidate.to_dict(), *free), dropped(plan.to_dict(), *free)
        assert own | {"pruning": {}} == agreed | {"pruning": {}}
        assert candidate.pruning == PruningPlan(sparsity=0.0)
        assert candidate.aggregation.kind == "plain"
        # The same budget, to the last bit of its noise.
        assert training_mechanism(candidate) == training_mechanism(plan)
    assert {candidate.model.kind for candidate in plans} == {
        "logistic" if name == "logistic" else plan.model.kind
    }
    rates = [learning_rate(candidate) / learning_rate(plan) for candidate in plans]
    assert rates == pytest.approx(RATES)


@pytest.mark.parametrize(
    "pruning",
    [
        {"granularity": "neuron", "sparsity": 0.5},
        {"sparsity": "auto", "guard": "step_back"},
        {"schedule": "iterative", "regrowth": 0.2, "penalty": "l1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", BASELINES)
def test_no_way_of_pruning_is_left_in_a_baseline(name: str, pruning: dict[str, Any]) -> None:
    plan = trial_plan(pruning=pruning, evaluation={"rounds": 4})
    assert {one.pruning for one in baseline_plans(plan, name)} == {PruningPlan(sparsity=0.0)}


def test_both_baselines_try_the_same_rates() -> None:
    chosen = trial_plan(training={"learning_rate": 0.2})
    for name in BASELINES:
        rates = [candidate.training.learning_rate for candidate in baseline_plans(chosen, name)]
        assert rates == pytest.approx([0.1, 0.2, 0.4])


def test_rate_is_chosen_on_validation_rows_alone(plan: Plan, splits: Mapping[str, Splits]) -> None:
    best = train_baseline(plan, "dense", splits, seed=0)
    validation, test = {}, {}
    for candidate in baseline_plans(plan, "dense"):
        run = Run(candidate)
        simulate(run, splits, seed=0)
        rate = learning_rate(candidate)
        parts = {member: part.validation for member, part in splits.items()}
        validation[rate] = exact_metrics(run.final, candidate, parts)[0]
        parts = {member: part.test for member, part in splits.items()}
        test[rate] = exact_metrics(run.final, candidate, parts)
    assert len(set(validation.values())) == len(RATES)
    assert best.learning_rate == max(validation, key=lambda rate: validation[rate])
    assert (best.auc, best.pr_auc, best.ks) == test[best.learning_rate]
    # Negative control: test rows whose labels are turned move the result, never the choice.
    turned = {
        member: replace(part, test=replace(part.test, labels=1 - part.test.labels))
        for member, part in splits.items()
    }
    fooled = train_baseline(plan, "dense", turned, seed=0)
    assert fooled.learning_rate == best.learning_rate
    assert fooled.auc == pytest.approx(1 - best.auc)


def test_weights_and_rounds_of_each(plan: Plan, splits: Mapping[str, Splits]) -> None:
    width = plan.schema_.width
    sizes = {"logistic": width + 1, "dense": layout_of(plan.model, width).size}
    for name in BASELINES:
        rounds: list[int] = []

        def watch(model: GlobalModel, report: RoundReport, seen: list[int] = rounds) -> None:
            assert model.mask.all()
            seen.append(report.round)

        best = train_baseline(plan, name, splits, 0, watch)
        assert (best.name, best.weights) == (name, sizes[name])
        assert rounds == list(range(plan.training.rounds + 1)) * len(RATES)
        assert 0.6 < best.auc < 0.9
        assert np.isfinite(best.pr_auc)


def test_unknown_baseline_is_refused(plan: Plan) -> None:
    with pytest.raises(KeyError, match="forest"):
        baseline_plans(plan, "forest")
