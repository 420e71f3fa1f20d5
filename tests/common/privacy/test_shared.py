from dataclasses import replace
from math import inf, sqrt
from typing import Any

import pytest

from common.errors import BudgetError
from common.layout import layout_of
from common.plan import Plan
from common.privacy.budgets import (
    NOISE_TRAVEL,
    accounted_delta,
    gradient_noise,
    learning_rate,
    training_mechanism,
)
from common.privacy.noise import FLOAT_SLACK
from common.privacy.shared import (
    SHARE_TAIL,
    abandoned_epsilon,
    abandoned_mechanism,
    largest_sum,
    ring_levels,
    shared_grid,
)
from common.segments import GRADIENT, segments_of
from tests.support import customer_plan, small_plan


def shared_plan(**sections: Any) -> Plan:
    fields: dict[str, Any] = {"privacy": {"noise": "shared"}, "training": {"steps": 1}}
    for name, value in sections.items():
        fields[name] = fields.get(name, {}) | value
    return small_plan(**fields)


def test_shares_of_the_honest_add_up_to_the_noise_that_is_priced() -> None:
    for colluders in (0, 1):
        plan = shared_plan(aggregation={"colluders": colluders})
        assert plan.noise_shares == 3 - colluders
        grid, mechanism = shared_grid(plan), training_mechanism(plan)
        honest = sqrt(plan.noise_shares) * grid.noise_sd
        clip = plan.privacy.max_grad_norm
        priced = mechanism.noise_multiplier * clip * (1 + FLOAT_SLACK)
        assert priced <= honest <= 1.01 * priced
        # One share less is too little.
        assert sqrt(plan.noise_shares - 1) * grid.noise_sd < 0.9 * priced


def test_more_colluders_need_larger_shares() -> None:
    shares = [shared_grid(shared_plan(aggregation={"colluders": c})).noise_sd for c in (0, 1)]
    assert shares[1] / shares[0] == pytest.approx(sqrt(3 / 2), rel=0.01)


def test_sum_and_noise_of_all_fit_the_ring() -> None:
    for bits in (18, 24, 32):
        plan = shared_plan(aggregation={"ring_bits": bits})
        grid = shared_grid(plan)
        used = largest_sum(plan) / grid.step + SHARE_TAIL * grid.sigma
        assert used <= ring_levels(plan) + 1
        (segment,) = segments_of(plan, 0, 40)
        assert (segment.name, segment.length, segment.scale) == (GRADIENT, 40, 1.0)
        assert len(plan.names) * segment.limit < 2 ** (bits - 1)
        assert used > 0.9 * ring_levels(plan) or bits == 32


def test_a_ring_too_coarse_for_the_noise_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"raise .*aggregation\.ring_bits"):
        shared_grid(
            shared_plan(
                aggregation={"ring_bits": 16},
                model={"hidden": [512, 512]},
                training={"sample_rate": 1.0},
            )
        )


def test_without_a_budget_there_is_a_grid_but_no_noise() -> None:
    plan = shared_plan(privacy={"epsilon": "none"})
    grid = shared_grid(plan)
    assert grid.sigma == 0
    assert largest_sum(plan) / grid.step <= ring_levels(plan) + 1e-6


def test_both_epsilons() -> None:
    plan = shared_plan()
    mechanism = training_mechanism(plan)
    together = mechanism.epsilon(accounted_delta(plan), "rdp")
    alone = abandoned_epsilon(plan, mechanism.steps)
    assert together <= 1 < 1.2 * together < alone < inf
    expected = replace(mechanism, noise_multiplier=mechanism.noise_multiplier / sqrt(2))
    assert alone == expected.epsilon(accounted_delta(plan), "rdp")
    # The share that an institution adds itself is what its own mechanism says.
    grid, clip = shared_grid(plan), plan.privacy.max_grad_norm
    assert grid.noise_sd / clip == pytest.approx(abandoned_mechanism(plan).noise_multiplier, 0.01)
    local = small_plan()
    mechanism = training_mechanism(local)
    assert abandoned_mechanism(local) == mechanism
    assert abandoned_epsilon(local, 3) == replace(mechanism, steps=3).epsilon(
        accounted_delta(local), "rdp"
    )


def test_rate_follows_the_noise_that_adds_up() -> None:
    plan = shared_plan(privacy={"epsilon": 0.1})
    noise = gradient_noise(plan)
    batch = sum(plan.expected_batch(name) for name in plan.names)
    everybody = sqrt(len(plan.names)) * shared_grid(plan).noise_sd / batch
    assert noise == pytest.approx(everybody, rel=0.01)
    assert learning_rate(plan) * noise * sqrt(6) == pytest.approx(NOISE_TRAVEL)
    local = small_plan(privacy={"epsilon": 0.1}, training={"steps": 1})
    # Four whole noises, or four of two parts.
    assert learning_rate(plan) / learning_rate(local) == pytest.approx(sqrt(2))
    adam = shared_plan(optimiser={"kind": "adam"})
    assert learning_rate(adam) == pytest.approx(NOISE_TRAVEL / sqrt(6))
    assert layout_of(plan.model, plan.schema_.width).size == 85


def test_noise_covers_a_customer_and_sums_saturate_at_what_rows_may_be() -> None:
    shared: dict[str, Any] = {"privacy": {"noise": "shared"}, "training": {"steps": 1}}
    record, customer = shared_plan(), customer_plan(4, **shared)
    assert largest_sum(customer) == largest_sum(record) / 4
    # The same noise for the whole of a unit, on a grid four times as fine.
    assert shared_grid(customer).noise_sd == pytest.approx(shared_grid(record).noise_sd, rel=0.02)
    assert shared_grid(customer).step < shared_grid(record).step
    used = largest_sum(customer) / shared_grid(customer).step
    assert used + SHARE_TAIL * shared_grid(customer).sigma <= ring_levels(customer) + 1
