from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.descriptor import RoundDescriptor
from common.errors import BudgetError, ProtocolError
from common.plan import Plan
from common.privacy.budgets import learning_rate, training_mechanism
from common.segments import (
    COUNTS,
    NOISE_TAIL,
    TEST,
    UPDATE,
    VALIDATION,
    counting_noise,
    evaluation_mechanism,
    evaluation_rounds,
    part_of,
    require_releasable,
    segments_of,
    sensitivity,
    values_of,
)
from tests.support import customer_plan, describe, grouped_plan, small_plan, start_of


def timed(rounds: int, evaluations: int) -> Plan:
    return small_plan(training={"rounds": rounds}, evaluation={"rounds": evaluations})


@given(st.integers(1, 300), st.integers(1, 40))
def test_evaluations_are_spread_and_end_the_run(rounds: int, evaluations: int) -> None:
    chosen = evaluation_rounds(timed(rounds, evaluations))
    gaps = [late - early for early, late in zip((0, *chosen), chosen, strict=False)]
    assert len(chosen) == min(rounds, evaluations)
    assert chosen[-1] == rounds
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


def test_test_rows_are_read_once_after_the_last_update() -> None:
    plan = timed(6, 3)
    names = [[part.name for part in segments_of(plan, index, 85)] for index in range(7)]
    both = [UPDATE, VALIDATION]
    assert names == [[UPDATE], [UPDATE], both, [UPDATE], both, [UPDATE], [VALIDATION, TEST]]


def test_lengths_are_the_surviving_weights_and_two_histograms() -> None:
    update, validation = segments_of(timed(6, 3), 2, 40)
    assert (update.length, validation.length) == (40, 20)
    assert (validation.scale, validation.bound) == (1.0, 200.0)


@given(
    st.integers(3, 60),
    st.integers(16, 32),
    st.sampled_from([1.0, "none"]),
    st.sampled_from([50, 3_000]),
)
def test_no_sum_can_overflow_and_no_finer_grid_could_not(
    members: int, bits: int, epsilon: float | str, size: int
) -> None:
    if members * (size + 2) >= 2 ** (bits - 1):
        return
    plan = small_plan(
        institutions=[{"name": f"i{index:02}", "size": size} for index in range(members)],
        aggregation={"ring_bits": bits},
        privacy={"epsilon": epsilon, "delta": 1e-5},
    )
    descriptor = describe(plan, start_of(plan, round_number=2))
    update, validation = descriptor.segments
    finer = replace(update, scale=update.scale * (1 + 8 * members / 2 ** (bits - 1)))
    with pytest.raises(ProtocolError, match="overflows"):
        replace(descriptor, segments=(finer, validation))


def test_noise_of_eight_deviations_does_not_saturate() -> None:
    plan = small_plan()
    (update,) = segments_of(plan, 0, 10)
    batch = min(plan.expected_batch(name) for name in plan.names)
    per_step = learning_rate(plan) * plan.privacy.max_grad_norm / batch
    noise = per_step * training_mechanism(plan).noise_multiplier * sqrt(plan.training.steps)
    assert update.bound > NOISE_TAIL * noise
    # A full signal of twice the expected batch fits beside it, and not much more does.
    signal = 2 * per_step * batch * plan.training.steps
    assert update.bound == pytest.approx(NOISE_TAIL * noise + signal)


def test_both_sides_derive_the_same_descriptor() -> None:
    plan = small_plan()
    sent = describe(plan, start_of(plan)).to_json()
    again = describe(small_plan(), start_of(plan))
    assert RoundDescriptor.from_json(sent) == again
    assert describe(small_plan(privacy={"epsilon": 2.0}), start_of(plan)).segments != again.segments


NOISED = {"noise": "gaussian", "epsilon": 1.0}


@pytest.mark.parametrize("name", [VALIDATION, TEST])
def test_counts_hide_all_rows_of_a_unit_at_the_same_price(name: str) -> None:
    record, customer = small_plan(evaluation=NOISED), customer_plan(4, evaluation=NOISED)
    assert evaluation_mechanism(customer, name) == evaluation_mechanism(record, name)
    assert counting_noise(customer, name) == 4 * counting_noise(record, name)
    assert counting_noise(customer, name, 9) == 3 * counting_noise(customer, name)
    (*_, counted) = segments_of(customer, 6, 40)
    assert counted.bound >= 200 + NOISE_TAIL * counting_noise(customer, TEST)


def test_groups_and_pools_follow_all_rows_under_more_noise() -> None:
    plan = grouped_plan(evaluation=NOISED)
    apart = ["sex=f", "sex=m", "age<30", "30<=age<50", "50<=age", "age=missing"]
    apart += ["pool:north", "pool:south"]
    validation, test = ([part, *(f"{part}/{name}" for name in apart)] for part in COUNTS)
    assert [part.name for part in segments_of(plan, 2, 40)] == [UPDATE, *validation]
    last = segments_of(plan, 6, 40)
    assert [part.name for part in last] == validation + test
    assert {part.length for part in last} == {20}
    assert [part_of(part.name) for part in last] == [VALIDATION] * 9 + [TEST] * 9
    assert part_of(UPDATE) == UPDATE
    # All rows, sex, age and one pool: four counts of a row, so twice the noise at the same price.
    assert sensitivity(plan) == 2
    assert sensitivity(customer_plan(4)) == 4
    alone = small_plan(evaluation=NOISED)
    for part in COUNTS:
        assert evaluation_mechanism(plan, part) == evaluation_mechanism(alone, part)
        assert counting_noise(plan, part) == pytest.approx(2 * counting_noise(alone, part))
    tight: dict[str, Any] = {
        "institutions": [{"name": f"i{index:02}", "size": 900} for index in range(30)],
        "aggregation": {"ring_bits": 16},
    }
    require_releasable(small_plan(evaluation=NOISED | {"epsilon": 0.25}, **tight))
    apart_too = grouped_plan(evaluation=NOISED | {"epsilon": 0.25, "pools": {}}, **tight)
    with pytest.raises(BudgetError, match="ring of 16 bits"):
        require_releasable(apart_too)


def test_counts_that_overflow_the_ring_are_refused_before_a_round() -> None:
    ring = {"ring_bits": 16}
    require_releasable(small_plan(evaluation=NOISED, aggregation=ring))
    require_releasable(customer_plan(100, evaluation=NOISED))
    with pytest.raises(BudgetError, match=r"ring of 16 bits: raise .* privacy\.rows_per_customer"):
        require_releasable(customer_plan(1_000, evaluation=NOISED, aggregation=ring))


def test_an_update_is_bounded_by_what_its_rows_and_its_noise_may_be() -> None:
    # The rate is given: the automatic one follows the row's clip.
    rate = {"learning_rate": 0.1}
    (one,) = segments_of(small_plan(training=rate), 0, 10)
    (four,) = segments_of(customer_plan(4, training=rate), 0, 10)
    (quiet,) = segments_of(small_plan(training=rate, privacy={"epsilon": "none"}), 0, 10)
    noise = one.bound - quiet.bound
    assert four.bound == pytest.approx(quiet.bound / 4 + noise)


@pytest.mark.parametrize("epsilon", [0.9, 2.0, 5.0, 30.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-5])
def test_a_count_spends_what_is_claimed_though_its_noise_is_a_few_levels(
    epsilon: float, delta: float
) -> None:
    """The exact delta of one discrete Gaussian, summed over where it beats e^epsilon."""
    plan = small_plan(evaluation=NOISED | {"epsilon": epsilon}, privacy={"delta": delta})
    sigma = counting_noise(plan, TEST)
    assert sigma == evaluation_mechanism(plan, TEST).noise_multiplier

    def excess(sigma: float) -> float:
        levels = np.arange(-4000, 4001)
        chances = np.exp(-(levels**2) / (2 * sigma**2))
        chances /= chances.sum()
        return float(np.maximum(chances[1:] - np.exp(epsilon) * chances[:-1], 0).sum())

    assert excess(sigma) <= delta
    # Negative control; at epsilon 30 the noise is no level any more and the bound loose.
    assert epsilon > 5 or excess(0.8 * sigma) > delta


def test_noise_that_no_grid_holds_is_refused_before_a_round() -> None:
    loud = small_plan(privacy={"epsilon": 1e-4})
    with pytest.raises(BudgetError):
        require_releasable(loud)
    require_releasable(small_plan())


MEAN = small_plan(pruning={"score": "mean_magnitude", "sparsity": 0.5, "start": 0.0, "end": 0.7})


@pytest.mark.parametrize("plan", [small_plan(), grouped_plan(), MEAN])
def test_how_many_values_leave_is_known_without_their_scales(plan: Plan) -> None:
    for number in range(plan.training.rounds + 1):
        segments = segments_of(plan, number, 40)
        assert values_of(plan, number, 40) == sum(segment.length for segment in segments)
