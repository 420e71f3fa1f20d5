from collections.abc import Mapping
from dataclasses import replace
from math import sqrt
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from client.data import Splits
from common.errors import AggregationError
from common.plan import Plan, plan_from_dict
from common.privacy.accounting import SampledGaussian
from common.privacy.budgets import accounted_delta, training_mechanism
from common.segments import TEST, VALIDATION, evaluation_mechanism
from server.evaluation import metrics
from server.guard import Verdict
from server.store import round_row
from simulations.baselines import Baseline
from simulations.inputs import Federation
from simulations.outputs import PANELS, curves, summarise
from simulations.run import Run, simulate
from tests.commands import trial_plan

BASELINE = Baseline("dense", 0.5, 0.75, 0.4, 0.3, 100)


@pytest.fixture(scope="module")
def splits(federation: Federation) -> Mapping[str, Splits]:
    return federation.splits


def trained(plan: Plan, splits: Mapping[str, Splits]) -> Run:
    run = Run(plan)
    simulate(run, splits, seed=0)
    return run


@pytest.fixture(scope="module")
def run(splits: Mapping[str, Splits]) -> Run:
    return trained(trial_plan(), splits)


def cut(run: Run, rounds: int) -> Run:
    """Return the run as it was after some rounds, but for its model."""
    return Run(run.plan, run.model, run.reports[:rounds])


def table(run: Run) -> pd.DataFrame:
    """Return the rounds as their file has them."""
    return pd.DataFrame(map(round_row, run.reports)).replace("", np.nan)


def summary_of(run: Run, splits: Mapping[str, Splits], *baselines: Baseline) -> dict[str, Any]:
    return summarise(run, splits, 0, 1.5, list(baselines))


def test_summary_says_what_the_run_was(run: Run, splits: Mapping[str, Splits]) -> None:
    summary = summary_of(run, splits)
    plan, model = run.plan, run.final
    assert summary["weights_total"] == model.mask.size
    assert summary["weights_kept"] == round(0.4 * model.mask.size) == model.kept
    assert summary["sparsity"] == pytest.approx(0.6, abs=1 / model.mask.size)
    assert (summary["rounds"], summary["seed"], summary["seconds"]) == (4, 0, 1.5)
    assert summary["plan_sha256"] == plan.digest()
    assert (summary["delta"], summary["noise"]) == (1e-5, "local")
    assert summary["noise_source"] == "csprng discrete gaussian"
    assert summary["evaluation"].startswith("discrete Gaussian counts: epsilon 1 for")
    assert (summary["aggregation"], summary["protocol"]) == ("secure", "two trips, signed keys")
    assert summary["noise_multiplier"] == training_mechanism(plan).noise_multiplier > 0


def test_auc_is_that_of_the_pooled_test_rows(run: Run, splits: Mapping[str, Splits]) -> None:
    summary = summary_of(run, splits)
    assert 0.65 < summary["auc"] < 0.85
    # What the server sees differs by the bins of its histogram alone.
    assert summary["auc_private"] == pytest.approx(summary["auc"], abs=0.02)
    # Negative control: a model scored on shuffled test labels has no skill.
    draw = np.random.default_rng(0)
    shuffled = {
        name: replace(part, test=replace(part.test, labels=draw.permutation(part.test.labels)))
        for name, part in splits.items()
    }
    assert abs(summary_of(run, shuffled)["auc"] - 0.5) < 0.06


def test_private_auc_comes_from_the_sums_of_the_last_round(
    run: Run, splits: Mapping[str, Splits]
) -> None:
    last = run.reports[-1]
    assert summary_of(run, splits)["auc_private"] == last.estimates[TEST].value.roc_auc
    noise = evaluation_mechanism(run.plan, TEST).noise_multiplier * sqrt(len(last.survivors))
    assert last.noise[TEST] == pytest.approx(noise)
    exact = metrics(last.counts[TEST].clip(0)).roc_auc
    sd = summary_of(run, splits)["auc_private_sd"]
    assert 0 < abs(last.estimates[TEST].value.roc_auc - exact) < 4 * sd
    assert summary_of(cut(run, 4), splits)["auc_private"] is None


@pytest.mark.parametrize("finished", [1, 2, 4, 5])
def test_epsilon_is_the_accountants_for_the_finished_steps(
    run: Run, splits: Mapping[str, Splits], finished: int
) -> None:
    steps, delta = 2 * min(finished, 4), accounted_delta(run.plan)
    noise = training_mechanism(run.plan).noise_multiplier
    expected = SampledGaussian(noise, 0.1, steps).epsilon(delta, "rdp")
    summary = summary_of(cut(run, finished), splits)
    assert summary["epsilon"] == pytest.approx(expected)
    assert summary["rounds"] == min(finished, 4)
    assert 0 < summary["epsilon"] <= 2.0
    # Negative control: one step more or less is another budget.
    for other in (steps - 1, steps + 1):
        assert summary["epsilon"] != SampledGaussian(noise, 0.1, other).epsilon(delta, "rdp")


def test_bytes_are_those_of_the_first_and_last_training_round(
    run: Run, splits: Mapping[str, Splits]
) -> None:
    summary = summary_of(run, splits)
    uploads = [report.bytes_up for report in run.reports]
    assert (summary["bytes_up_first_round"], summary["bytes_up_last_round"]) == (
        uploads[0],
        uploads[3],
    )
    assert uploads[4] < uploads[3] < uploads[0]


def test_without_noise_the_summary_says_so(splits: Mapping[str, Splits]) -> None:
    quiet = trained(trial_plan(privacy={"epsilon": "none"}), splits)
    summary = summary_of(quiet, splits)
    assert [summary[key] for key in ("epsilon", "noise", "noise_source")] == ["none"] * 3
    assert summary["noise_multiplier"] == 0
    assert summary["evaluation"].startswith("discrete Gaussian counts: epsilon 1 for")


def test_plain_aggregation_is_named(splits: Mapping[str, Splits]) -> None:
    summary = summary_of(trained(trial_plan(aggregation={"kind": "plain"}), splits), splits)
    assert (summary["aggregation"], summary["protocol"]) == ("plain", "unmasked (research)")


def test_baselines_stand_beside_the_run(run: Run, splits: Mapping[str, Splits]) -> None:
    alone, compared = summary_of(run, splits), summary_of(run, splits, BASELINE)
    added = {key: compared[key] for key in compared.keys() - alone.keys()}
    assert added == {
        "auc_dense": 0.75,
        "pr_auc_dense": 0.4,
        "ks_dense": 0.3,
        "learning_rate_dense": 0.5,
        "weights_dense": 100,
    }
    assert {key: compared[key] for key in alone} == alone


def test_run_without_a_finished_round_has_no_summary(splits: Mapping[str, Splits]) -> None:
    with pytest.raises(AggregationError, match="no round was finished"):
        summary_of(Run(trial_plan()), splits)


def test_curves_are_one_picture_of_three_panels(run: Run, splits: Mapping[str, Splits]) -> None:
    drawing = curves(table(run), summary_of(run, splits))
    root = ET.fromstring(drawing)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    panels = [group for group in root.iter() if group.get("id", "").startswith("axes_")]
    assert len(panels) == len(PANELS) == 3
    assert "NaN" not in drawing
    assert "nan" not in drawing
    with pytest.raises(ET.ParseError):
        ET.fromstring(drawing[:-20])


def test_same_run_same_picture_and_baselines_show(run: Run, splits: Mapping[str, Splits]) -> None:
    summary, compared = summary_of(run, splits), summary_of(run, splits, BASELINE)
    assert curves(table(run), summary) == curves(table(run), summary)
    assert len(curves(table(run), compared)) > len(curves(table(run), summary))


@pytest.mark.parametrize("finished", [1, 3])
def test_interrupted_run_has_its_picture(
    run: Run, splits: Mapping[str, Splits], finished: int
) -> None:
    partial = cut(run, finished)
    evaluated = [VALIDATION in report.counts for report in partial.reports]
    assert any(evaluated) is (finished == 3)
    ET.fromstring(curves(table(partial), summary_of(partial, splits)))


def test_metrics_of_a_model_that_was_taken_back_are_not_those_of_the_delivered_one(
    run: Run, splits: Mapping[str, Splits]
) -> None:
    fields = run.plan.to_dict()
    fields["evaluation"]["rounds"] = 3
    fell = replace(run.reports[-1], verdict=Verdict(fall=0.2, smallest_detectable=0.1))
    shown = {}
    for guard in ("hold", "step_back"):
        fields["pruning"]["guard"] = guard
        ended = Run(plan_from_dict(fields), run.model, [*run.reports[:-1], fell])
        shown[guard] = summary_of(ended, splits)["auc_private"]
    assert shown["hold"] == summary_of(run, splits)["auc_private"] is not None
    assert shown["step_back"] is None
