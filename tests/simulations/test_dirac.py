from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.clipping import ClippedSum
from client.training import LocalSteps, SharedStep
from client.update import shared_step
from common.entropy import SeededEntropy, Stream
from common.plan import Plan, plan_from_dict
from common.privacy import noise
from common.privacy.accounting import SampledGaussian
from common.privacy.budgets import training_mechanism
from common.privacy.discrete import discrete_gaussian
from simulations import dirac
from simulations.bounds import gaussian_epsilon
from simulations.dirac import StepAudit, audit_step
from tests.commands import trial_plan

DRAWS = 100_000
PLANS = {
    "local": trial_plan(),
    "shared": trial_plan(training={"steps": 1, "rounds": 20}, privacy={"noise": "shared"}),
    "quiet": trial_plan(privacy={"epsilon": 8.0}),
    "loud": trial_plan(privacy={"epsilon": 0.2, "delta": 1e-4}, training={"rounds": 20}),
}


def of_customers(plan: Plan) -> Plan:
    fields = plan.to_dict()
    fields["schema"]["customer"] = "client"
    fields["privacy"] |= {"unit": "client", "rows_per_customer": 3}
    return plan_from_dict(fields)


PLANS |= {f"{name}, customers": of_customers(PLANS[name]) for name in ("local", "shared")}


def audited(plan: Plan, seed: int = 0) -> StepAudit:
    # The louder the noise, the more draws show that a seventh of it is missing.
    draws = 4 * DRAWS if training_mechanism(plan).noise_multiplier > 8 else DRAWS
    return audit_step(plan, "ash", draws, 0.95, SeededEntropy(seed).stream("step"))


def claim_of(plan: Plan) -> float:
    return gaussian_epsilon(1 / training_mechanism(plan).noise_multiplier, plan.privacy.delta)


def scaled(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    def quieter(sigma: float, count: int, stream: Stream) -> NDArray[np.int32]:
        return discrete_gaussian(factor * sigma, count, stream)

    monkeypatch.setattr(noise, "discrete_gaussian", quieter)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_honest_step_is_within_its_claim_and_near_it(plan: Plan) -> None:
    found, epsilon = audited(plan), plan.privacy.epsilon
    assert found.draws >= DRAWS
    assert epsilon != "none"
    assert 0.8 * claim_of(plan) < found.epsilon <= claim_of(plan)
    assert 0.7 * epsilon < found.run_epsilon <= epsilon


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("factor", [0.5, 0.85])
def test_quieter_noise_is_caught(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, factor: float
) -> None:
    scaled(monkeypatch, factor)
    found, epsilon = audited(plan), plan.privacy.epsilon
    assert epsilon != "none"
    assert found.epsilon > claim_of(plan)
    assert found.run_epsilon > epsilon


def test_halved_grid_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = noise.Grid._noised

    def noised(grid: noise.Grid, values: Any, stream: Stream) -> NDArray[np.float64]:
        return real(noise.Grid(grid.step, grid.sigma / 2), values, stream)

    monkeypatch.setattr(noise.Grid, "_noised", noised)
    for name in ("local", "shared"):
        assert audited(PLANS[name]).epsilon > 1.5 * claim_of(PLANS[name])


def test_halved_calibration_is_caught_by_the_price_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, real = PLANS["local"], SampledGaussian.calibrated

    def halved(
        mechanism: SampledGaussian, epsilon: float, delta: float, accountant: str
    ) -> SampledGaussian:
        found = real(mechanism, epsilon, delta, accountant)
        return SampledGaussian(found.noise_multiplier / 2, found.sample_rate, found.steps)

    monkeypatch.setattr(SampledGaussian, "calibrated", halved)
    found = audited(plan)
    # The step does as it says; what it says is not enough for the plan.
    assert found.epsilon <= claim_of(plan)
    assert found.run_epsilon > 3 > float(plan.privacy.epsilon)


@pytest.mark.parametrize("name", ["local", "shared"])
def test_broken_clipping_is_caught(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = ClippedSum._norms
    monkeypatch.setattr(ClippedSum, "_norms", lambda self: real(self) / 2)
    assert audited(PLANS[name]).epsilon > claim_of(PLANS[name])


@pytest.mark.parametrize("steps", [LocalSteps, SharedStep])
def test_a_clip_that_is_not_divided_among_a_customers_rows_is_caught(
    monkeypatch: pytest.MonkeyPatch, steps: type
) -> None:
    plan = PLANS["local, customers" if steps is LocalSteps else "shared, customers"]
    if steps is LocalSteps:
        monkeypatch.setattr(LocalSteps, "row_norm", property(lambda local: local.max_grad_norm))
    else:
        whole = replace(shared_step(plan), row_norm=plan.privacy.max_grad_norm)
        monkeypatch.setattr(dirac, "shared_step", lambda plan: whole)
    assert audited(plan).epsilon > claim_of(plan)


def test_confidence_costs_and_draws_pay() -> None:
    plan, stream = PLANS["local"], SeededEntropy(1).stream
    sure = audit_step(plan, "ash", DRAWS, 0.9999, stream("step"))
    bold = audit_step(plan, "ash", DRAWS, 0.5, stream("step"))
    few = audit_step(plan, "ash", 2_000, 0.95, stream("step"))
    assert sure.false_positives == bold.false_positives
    assert few.mu < bold.mu
    assert sure.mu < bold.mu
