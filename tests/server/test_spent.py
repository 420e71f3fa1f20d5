import json

import pytest

from common.privacy.accounting import SampledGaussian
from common.privacy.budgets import accounted_delta, training_mechanism
from server.spent import facts_json, spent_epsilon
from tests.support import small_plan

PLAN = small_plan()


@pytest.mark.parametrize("rounds", [1, 3, 6])
def test_facts_hold_what_the_rounds_spent(rounds: int) -> None:
    facts = json.loads(facts_json(PLAN, rounds))
    noise = training_mechanism(PLAN).noise_multiplier
    delta = accounted_delta(PLAN)
    expected = SampledGaussian(noise, 0.2, 2 * rounds).epsilon(delta, "rdp")
    assert facts["epsilon"] == spent_epsilon(PLAN, rounds) == pytest.approx(expected)
    assert facts["epsilon_if_others_collude"] == facts["epsilon"]
    # Negative control: a round more is another budget.
    assert facts["epsilon"] < spent_epsilon(PLAN, rounds + 1)
    assert (facts["rounds"], facts["noise_multiplier"]) == (rounds, noise)
    assert facts["versions"]["torch"].startswith("2.")


def test_under_shared_noise_colluders_leave_less() -> None:
    shared = small_plan(privacy={"noise": "shared"}, training={"steps": 1})
    facts = json.loads(facts_json(shared, 6))
    assert facts["epsilon_if_others_collude"] > facts["epsilon"]


def test_without_noise_there_is_no_epsilon() -> None:
    facts = json.loads(facts_json(small_plan(privacy={"epsilon": "none"}), 6))
    assert facts["epsilon"] == facts["epsilon_if_others_collude"] == "none"
