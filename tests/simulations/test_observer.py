from typing import Any

import numpy as np
import pytest
import torch

from client.clipping import ClippedSum
from client.policy import require_tame
from client.training import train
from common.entropy import SeededEntropy
from common.errors import AggregationError
from common.layout import layout_of
from common.model import Network
from common.plan import Plan
from common.privacy.budgets import learning_rate
from simulations.canaries import Canaries, craft
from simulations.observer import honest_names, observe, record_gradients, scores
from simulations.traps import trap_weights, traps
from tests.support import all_splits, small_examples, small_plan

MODELS = [
    {"hidden": [12]},
    {"hidden": [12, 4]},
    {"hidden": [12, 4, 4]},
    {"hidden": [12, 4, 4, 4]},
    {"hidden": [12, 4], "kind": "mlp"},
    {"hidden": [12], "activation": "tanh"},
    {"hidden": [12, 4], "activation": "tanh"},
    {"hidden": [12, 4, 4], "activation": "tanh"},
]
SHARED = {
    "training": {"rounds": 30, "steps": 1, "sample_rate": 0.2},
    "privacy": {"noise": "shared"},
}


def plan_of(**sections: Any) -> Plan:
    return small_plan(**{"aggregation": {"kind": "plain"}, **sections})


def canaries_of(plan: Plan, seed: int = 0) -> Canaries:
    others = np.concatenate([part.train.features for part in all_splits(plan).values()])
    return craft(plan.schema_, 12, others, SeededEntropy(seed, "audit").stream("canaries"))


def loaded(plan: Plan, canaries: Canaries) -> Network:
    network = Network(plan.model, plan.schema_.width)
    weights = trap_weights(plan, canaries)
    network.load(weights, np.ones(len(weights), np.bool_))
    return network


def told(plan: Plan, canaries: Canaries) -> np.ndarray[Any, np.dtype[np.float64]]:
    splits, target = all_splits(plan), "ash"
    planted = {**splits, target: canaries.planted(splits[target])}
    weights = trap_weights(plan, canaries)
    return scores(plan, canaries, weights, observe(plan, target, planted, weights, seed=0))


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_each_canary_moves_a_unit_of_its_own(model: dict[str, Any]) -> None:
    plan = plan_of(model=model)
    canaries = canaries_of(plan)
    network, count = loaded(plan, canaries), len(canaries)
    units = {entry.name: entry.span for entry in network.layout.entries}["hidden.0.weight"]
    gradients = record_gradients(network, torch.from_numpy(canaries.features), torch.zeros(count))
    moved = gradients[:, units].reshape(count, -1, plan.schema_.width).norm(dim=2)
    others = moved - torch.diag_embed(moved.diagonal(), dim1=0, dim2=1)[:, : moved.shape[1]]
    # Far beyond the clipping norm: most of what clipping leaves of it lies there.
    assert (moved.diagonal() > 10).all()
    assert (moved.diagonal() > 0.5 * gradients.norm(dim=1)).all()
    assert others.abs().max() < 0.01
    rows = all_splits(plan)["ash"].train
    ordinary = record_gradients(
        network, torch.from_numpy(rows.features), torch.from_numpy(rows.labels)
    )
    assert ordinary[:, units].abs().max() < 0.01
    assert ordinary.norm(dim=1).max() > 0.1


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_institution_lets_the_trapped_model_in(model: dict[str, Any]) -> None:
    plan = plan_of(model=model)
    require_tame(layout_of(plan.model, plan.schema_.width), trap_weights(plan, canaries_of(plan)))


def test_logistic_regression_has_no_traps() -> None:
    plan = plan_of(model={"kind": "logistic"})
    assert traps(plan) == 0
    assert not trap_weights(plan, canaries_of(plan)).any()
    assert np.isfinite(told(plan, canaries_of(plan))).all()


def test_gradients_are_those_that_the_institution_sums() -> None:
    plan, rows = plan_of(model={"hidden": [12, 4]}), small_examples(30, seed=2)
    network = Network(plan.model, plan.schema_.width)
    size = network.layout.size
    start = np.random.default_rng(0).normal(0, 0.5, size).astype(np.float32)
    network.load(start, np.ones(size, np.bool_))
    features, labels = torch.from_numpy(rows.features), torch.from_numpy(rows.labels)
    gradients = record_gradients(network, features, labels)
    clipped = gradients * (0.3 / gradients.norm(dim=1, keepdim=True)).clamp(max=1)
    summed = ClippedSum(network, 0.3)(features, labels)
    torch.testing.assert_close(clipped.sum(0), summed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "sections",
    [{"training": {"rounds": 30, "steps": 2, "sample_rate": 0.2}}, SHARED],
    ids=["local", "shared"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_without_noise_members_stand_out(
    monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], seed: int
) -> None:
    plan = plan_of(model={"hidden": [12, 4]}, **sections)
    canaries = canaries_of(plan, seed)
    hidden = told(plan, canaries)
    monkeypatch.setattr(
        "common.privacy.noise.discrete_gaussian", lambda sigma, count, stream: np.zeros(count, int)
    )
    bare, members = told(plan, canaries), canaries.members
    assert bare[members].min() > 0.2
    assert np.abs(bare[~members]).max() < 0.05
    assert bare[members].mean() == pytest.approx(1, abs=0.35)
    assert hidden[~members].std() > 0.5


def test_who_stays_honest_is_whose_noise_is_left() -> None:
    assert honest_names(plan_of(), "birch") == ("birch",)
    shared = plan_of(**SHARED)
    assert honest_names(shared, "birch") == ("birch", "ash")
    assert shared.noise_shares == 2


def test_institution_that_refuses_ends_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("client.update.train", fail)
    plan = plan_of(model={"hidden": [12, 4]})
    with pytest.raises(AggregationError, match="ash refused to take part in the audit"):
        told(plan, canaries_of(plan))


def test_observer_sees_what_the_real_training_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, released = plan_of(model={"hidden": [12, 4]}), []

    def kept(*arguments: Any) -> Any:
        released.append(train(*arguments))
        return released[-1]

    monkeypatch.setattr("client.update.train", kept)
    weights = trap_weights(plan, canaries_of(plan))
    seen = observe(plan, "ash", all_splits(plan), weights, seed=0)
    assert len(released) == plan.training.rounds
    expected = -np.sum(released, axis=0) * plan.expected_batch("ash") / learning_rate(plan)
    np.testing.assert_allclose(seen, expected, atol=1e-3 * np.abs(expected).max())
