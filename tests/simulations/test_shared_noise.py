"""Shared noise from end to end: one aggregated step a round."""

from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.training import SharedStep, release
from common.entropy import SeededEntropy, Stream
from common.model import Network
from common.plan import Plan
from common.privacy.noise import Grid
from common.privacy.shared import shared_grid
from server.model import GlobalModel
from server.rounds import initial_model
from simulations.run import Run, simulate
from tests.support import WIDTH, all_splits, small_examples, small_plan

ROUNDS = 8


def plan_of(kind: str = "secure", **sections: Any) -> Plan:
    fields: dict[str, Any] = {
        "privacy": {"noise": "shared"},
        "training": {"steps": 1, "rounds": ROUNDS},
        "aggregation": {"kind": kind},
    }
    for name, value in sections.items():
        fields[name] = fields.get(name, {}) | value
    return small_plan(**fields)


def run_of(plan: Plan, seed: int = 0, dropout: float = 0.0) -> Run:
    run = Run(plan)
    simulate(run, all_splits(plan), seed, dropout)
    return run


@pytest.mark.parametrize("optimiser", [{}, {"momentum": 0.9}, {"kind": "adam", "momentum": 0.9}])
def test_secure_and_plain_give_the_same_bits(optimiser: dict[str, Any]) -> None:
    models = [run_of(plan_of(kind, optimiser=optimiser)).final for kind in ("secure", "plain")]
    np.testing.assert_array_equal(models[0].weights, models[1].weights)
    np.testing.assert_array_equal(models[0].mask, models[1].mask)
    assert models[0].updates == ROUNDS
    assert not np.array_equal(models[0].weights, run_of(plan_of(), seed=1).final.weights)


def test_pruned_weights_stay_zero_whatever_the_momentum() -> None:
    model = run_of(plan_of(optimiser={"momentum": 0.9})).final
    assert model.kept == round(0.25 * model.mask.size)
    assert not model.weights[~model.mask].any()


def test_a_run_survives_departures() -> None:
    run = run_of(plan_of(training={"rounds": 20}), dropout=0.1)
    sizes = {len(report.survivors) for report in run.reports}
    assert sizes & {3}
    assert run.finished == 20


def without_records(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float64]:
    """Return how far noise alone moves the weights in 60 runs."""
    starts: list[GlobalModel] = []
    moved = []

    def remembered(plan: Plan, stream: Stream) -> GlobalModel:
        starts.append(initial_model(plan, stream))
        return starts[-1]

    monkeypatch.setattr("simulations.run.require_trainable", lambda *_: None)
    monkeypatch.setattr("server.app.initial_model", remembered)
    nobody = {
        name: replace(splits, train=small_examples(0, 0))
        for name, splits in all_splits(plan).items()
    }
    for seed in range(60):
        run = Run(plan)
        simulate(run, nobody, seed)
        moved.append(run.final.weights - starts[-1].weights)
    return np.concatenate(moved).astype(np.float64)


def test_noise_of_the_sum_is_everybodys_share(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(training={"rounds": 1, "learning_rate": 0.5}, pruning={"sparsity": 0.0})
    batch = sum(plan.expected_batch(name) for name in plan.names)
    expected = 0.5 * sqrt(len(plan.names)) * shared_grid(plan).noise_sd / batch
    values = without_records(plan, monkeypatch)
    assert len(values) > 5_000
    error = 4 / sqrt(2 * len(values))
    assert abs(values.std() / expected - 1) < error
    assert abs(values.std() / (1.1 * expected) - 1) > error
    assert abs(values.mean()) < 4 * expected / sqrt(len(values))


def test_sums_saturate_before_the_noise() -> None:
    plan = plan_of()
    network = Network(plan.model, WIDTH)
    size = network.layout.size
    network.load(np.full(size, 0.1, np.float32), np.ones(size, np.bool_))
    rows = small_examples(100, seed=2)

    def levels(bound: float) -> NDArray[np.int64]:
        shared = SharedStep(1.0, 1.0, bound, Grid(0.001, 0.0))
        return release(network, rows, shared, SeededEntropy(0).stream("a"))

    free, bounded = levels(1e6), levels(0.5)
    assert np.abs(free).max() > 1_000
    np.testing.assert_array_equal(bounded, np.clip(free, -500, 500))
