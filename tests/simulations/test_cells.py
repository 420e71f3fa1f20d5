from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from client.data import Splits
from common.plan import Plan
from common.privacy.budgets import learning_rate
from common.segments import VALIDATION
from simulations.baselines import baseline_plans
from simulations.cells import Cell, Outcome, data_digest, execute_cell, vector_bytes
from simulations.inputs import Federation
from simulations.run import Run, exact_metrics, simulate
from tests.commands import trial_plan


@pytest.fixture(scope="module")
def splits(federation: Federation) -> Mapping[str, Splits]:
    return federation.splits


@pytest.fixture(scope="module")
def run(splits: Mapping[str, Splits]) -> Run:
    run = Run(trial_plan())
    simulate(run, splits, seed=1)
    return run


@pytest.fixture(scope="module")
def outcome(splits: Mapping[str, Splits]) -> Outcome:
    return execute_cell(Cell((trial_plan(),), splits, 1))


def test_cell_is_the_run_that_the_plan_alone_would_give(
    run: Run, outcome: Outcome, splits: Mapping[str, Splits]
) -> None:
    # The run summed masked vectors, the cell plain ones.
    assert run.plan.aggregation.kind == "secure"
    test = {name: part.test for name, part in splits.items()}
    assert (outcome.test, outcome.test_pr) == exact_metrics(run.final, run.plan, test)[:2]
    seen = [report.estimates[VALIDATION] for report in run.reports if VALIDATION in report.counts]
    assert [stop.private for stop in outcome.stops] == [one.value.roc_auc for one in seen]
    assert [stop.private_sd for stop in outcome.stops] == [one.sd.roc_auc for one in seen]
    assert (outcome.kept, outcome.weights) == (run.final.kept, run.final.mask.size)
    assert outcome.learning_rate == learning_rate(run.plan)
    validation = {name: part.validation for name, part in splits.items()}
    assert outcome.final.exact == exact_metrics(run.final, run.plan, validation)[0]
    # Negative control: another seed is another cell.
    other = execute_cell(Cell((run.plan,), splits, 2))
    assert other.test != outcome.test


def test_bytes_are_those_of_the_masked_vectors(run: Run, outcome: Outcome) -> None:
    sent = [report.bytes_up for report in run.reports[:4]]
    vectors = [vector_bytes(run.plan, one.round, one.kept) for one in run.reports[:4]]
    assert (outcome.bytes_first, outcome.bytes_last) == (vectors[0], vectors[3])
    assert [stop.bytes_up for stop in outcome.stops] == [sum(vectors[:2]), sum(vectors)]
    # What a round sends beside its vector (keys, shares) does not depend on what is kept.
    assert {all_of - vector < 3_000 for all_of, vector in zip(sent, vectors, strict=True)} == {True}
    assert all(vector < all_of for all_of, vector in zip(sent, vectors, strict=True))
    one_more = vector_bytes(run.plan, 0, run.reports[0].kept + 1)
    assert one_more - vectors[0] == run.plan.aggregation.ring_bits // 8


def test_overlap_and_layers_follow_the_masks(run: Run, outcome: Outcome) -> None:
    assert [overlap.round for overlap in outcome.overlaps] == [1, 2, 3, 4]
    assert sum(layer.kept for layer in outcome.layers) == outcome.kept
    assert sum(layer.size for layer in outcome.layers) == outcome.weights
    # Nested masks: of the units left before, the share that is left.
    protected = 8 + 1 + 26
    kept = [report.kept - protected for report in run.reports]
    shares = [after / before for before, after in pairwise(kept)]
    assert [one.previous for one in outcome.overlaps] == pytest.approx(shares)
    assert all(0 < one.initial <= 1 for one in outcome.overlaps)
    # Weights move away from where they began.
    assert outcome.overlaps[-1].initial < outcome.overlaps[0].initial


def test_masks_of_initial_weights_overlap_wholly_with_themselves(
    splits: Mapping[str, Splits],
) -> None:
    still = trial_plan(training={"learning_rate": 1e-9, "rounds": 2})
    assert [one.initial for one in execute_cell(Cell((still,), splits, 0)).overlaps] == [1.0, 1.0]
    chance = trial_plan(training={"learning_rate": 1e-9, "rounds": 2}, pruning={"score": "random"})
    assert execute_cell(Cell((chance,), splits, 0)).overlaps[-1].initial < 0.6


@pytest.mark.parametrize(("granularity", "left"), [("neuron", (4, 4)), ("block", (3, 2))])
def test_other_units_are_followed_too(
    splits: Mapping[str, Splits], granularity: str, left: tuple[int, int]
) -> None:
    # Of eight neurons, four are left after the first round; of each four weights, three.
    whole = 8 if granularity == "neuron" else 4
    plan = trial_plan(pruning={"granularity": granularity, "sparsity": 0.5}, training={"rounds": 2})
    overlaps = execute_cell(Cell((plan,), splits, 0)).overlaps
    shares = [left[0] / whole, left[1] / left[0]]
    # The last block of a row may be shorter.
    assert [one.previous for one in overlaps] == pytest.approx(shares, abs=0.03)
    assert all(0 < one.initial < 1 for one in overlaps)


def test_best_plan_of_a_cell_is_chosen_on_validation_rows(splits: Mapping[str, Splits]) -> None:
    plans = tuple(baseline_plans(trial_plan(training={"rounds": 2}), "dense"))
    alone = [execute_cell(Cell((plan,), splits, 0)) for plan in plans]
    best = max(alone, key=lambda one: one.final.exact)
    assert execute_cell(Cell(plans, splits, 0)) == best
    # Negative control: test rows whose labels are turned move the result, never the choice.
    turned = {
        name: replace(part, test=replace(part.test, labels=1 - part.test.labels))
        for name, part in splits.items()
    }
    fooled = execute_cell(Cell(plans, turned, 0))
    assert fooled.learning_rate == best.learning_rate
    assert fooled.test == pytest.approx(1 - best.test)


def test_outcome_survives_its_file(outcome: Outcome) -> None:
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome
    with pytest.raises(ValueError, match="Field required"):
        Outcome.model_validate_json('{"weights": 3}')


def test_key_covers_plan_seed_and_rows(splits: Mapping[str, Splits]) -> None:
    plan, data = trial_plan(), data_digest(splits)
    key = Cell((plan,), splits, 0).key(data)
    assert key == Cell((trial_plan(),), dict(splits), 0).key(data_digest(dict(splits)))
    others: list[tuple[tuple[Plan, ...], int, str]] = [
        ((trial_plan(pruning={"sparsity": 0.5}),), 0, data),
        ((plan, plan), 0, data),
        ((plan,), 1, data),
        ((plan,), 0, data[::-1]),
    ]
    assert len({key, *(Cell(p, splits, seed).key(rows) for p, seed, rows in others)}) == 5


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_data_digest_covers_every_row(splits: Mapping[str, Splits], part: str) -> None:
    whole, name = data_digest(splits), sorted(splits)[0]
    rows = getattr(splits[name], part)
    labels = rows.labels.copy()
    labels[0] = 1 - labels[0]
    features = rows.features.copy()
    features[-1, -1] /= 2
    assert features[-1, -1] != 0
    customers = np.arange(len(rows.labels))
    for other in (
        replace(rows, labels=labels),
        replace(rows, features=features),
        replace(rows, customers=customers),
        replace(rows, protected=rows.protected.iloc[::-1]),
    ):
        assert data_digest({**splits, name: replace(splits[name], **{part: other})}) != whole
    assert data_digest(dict(reversed(list(splits.items())))) == whole
