from math import sqrt

import numpy as np
import pytest

from client.training import LocalSteps, train
from common.entropy import SeededEntropy
from common.model import Network
from common.plan import Plan
from common.privacy.budgets import NOISE_TRAVEL, QUIET_RATE, learning_rate, training_mechanism
from tests.support import WIDTH, customer_plan, small_examples, small_plan

SCHEDULE = {"rounds": 6, "steps": 2, "sample_rate": 0.2}


def private_plan(epsilon: float | str, **sections: object) -> Plan:
    return small_plan(privacy={"epsilon": epsilon}, **sections)


def test_the_whole_run_spends_the_budget() -> None:
    plan = private_plan(1.0)
    mechanism = training_mechanism(plan)
    assert (mechanism.sample_rate, mechanism.steps) == (0.2, 12)
    assert 0.999 <= mechanism.epsilon(plan.privacy.delta, plan.privacy.accountant) <= 1
    shorter = training_mechanism(private_plan(1.0, training=SCHEDULE | {"rounds": 3}))
    assert shorter.noise_multiplier < mechanism.noise_multiplier


def test_epsilon_none_means_no_noise() -> None:
    assert training_mechanism(private_plan("none")).noise_multiplier == 0
    assert training_mechanism(private_plan(1.0)).noise_multiplier > 0


def test_automatic_rate_falls_with_epsilon() -> None:
    rates = [learning_rate(private_plan(epsilon)) for epsilon in (0.3, 0.6, 1.0, "none")]
    assert rates == sorted(set(rates))
    assert rates[-1] == QUIET_RATE


def test_rate_of_the_plan_is_taken_as_it_is() -> None:
    for epsilon in (0.3, "none"):
        plan = private_plan(epsilon, training=SCHEDULE | {"learning_rate": 0.7})
        assert learning_rate(plan) == 0.7


def test_clipping_norm_does_not_change_how_far_a_step_goes() -> None:
    for epsilon in (0.3, "none"):
        plain = learning_rate(private_plan(epsilon))
        privacy = {"epsilon": epsilon, "max_grad_norm": 4.0}
        assert learning_rate(small_plan(privacy=privacy)) == pytest.approx(plain / 4)


def noise_travel(plan: Plan, rate: float) -> float:
    """Return how far noise alone carries a weight of the averaged model over the run, one sd."""
    network = Network(plan.model, WIDTH)
    nothing, everything = small_examples(0, 0), np.ones(network.layout.size, np.bool_)
    total = np.zeros(network.layout.size)
    for name in plan.names:
        local = LocalSteps(
            steps=training_mechanism(plan).steps,
            sample_rate=plan.training.sample_rate,
            expected_batch=plan.expected_batch(name),
            learning_rate=rate,
            max_grad_norm=plan.privacy.max_grad_norm,
            noise_multiplier=training_mechanism(plan).noise_multiplier,
        )
        network.load(np.zeros(network.layout.size, np.float32), everything)
        update = train(network, nothing, local, SeededEntropy(1, name).stream("train"))
        total += plan.weight(name) * update
    return float(np.std(total / sum(map(plan.weight, plan.names))))


def test_automatic_rate_lets_noise_travel_as_far_as_it_claims() -> None:
    # Unequal sizes, some 9,000 weights: the estimate is within 3 % with near certainty.
    plan = private_plan(1.0, model={"hidden": [128, 64]})
    rate = learning_rate(plan)
    assert rate < QUIET_RATE
    assert noise_travel(plan, rate) == pytest.approx(NOISE_TRAVEL, rel=0.03)
    assert noise_travel(plan, 1.05 * rate) != pytest.approx(NOISE_TRAVEL, rel=0.03)


def test_automatic_rate_follows_its_formula() -> None:
    plan = private_plan(0.3)
    batch = 0.72 * 0.2 * (200 + 150 + 100 + 200) / 4
    sigma = training_mechanism(plan).noise_multiplier
    walk = learning_rate(plan) * sigma / (batch * sqrt(4)) * sqrt(12)
    assert walk == pytest.approx(NOISE_TRAVEL)


def test_a_quiet_rate_follows_the_clip_of_a_row_and_a_noisy_one_the_noise_of_a_unit() -> None:
    quiet, noisy = ({"epsilon": epsilon} for epsilon in ("none", 0.3))
    assert learning_rate(customer_plan(4, privacy=quiet)) == 4 * QUIET_RATE
    assert learning_rate(customer_plan(4, privacy=noisy)) == learning_rate(private_plan(0.3))
