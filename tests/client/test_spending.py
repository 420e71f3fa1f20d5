from collections import Counter

import pytest

from client.entries import Release
from client.limits import table_epsilon
from client.spending import budget_of, charges_of
from common.privacy.budgets import training_mechanism
from common.privacy.shared import abandoned_mechanism
from common.segments import COUNTS, segments_of
from tests.support import customer_plan, grouped_plan, small_plan

PRIVATE = small_plan(evaluation={"noise": "gaussian", "epsilon": 0.5})


def test_rounds_charge_all_that_was_reserved_and_no_more() -> None:
    budget = budget_of(PRIVATE)
    charged: Counter[tuple[str, float]] = Counter()
    for number in range(PRIVATE.training.rounds + 1):
        for release in charges_of(PRIVATE, segments_of(PRIVATE, number, kept=10)):
            charged[release.part, release.noise_multiplier] += release.steps
    reserved = {(part.part, part.noise_multiplier): part.steps for part in budget.releases}
    assert charged == reserved
    assert {part.part for part in budget.releases} == {"train", "validation", "test"}


def test_groups_and_pools_are_charged_once_a_round_with_all_rows() -> None:
    counted = {"noise": "gaussian", "epsilon": 0.5}
    apart = grouped_plan(evaluation=counted)
    whole = grouped_plan(evaluation=counted | {"groups": [], "cuts": {}, "pools": {}})
    assert budget_of(apart).releases == budget_of(whole).releases
    for number in range(apart.training.rounds + 1):
        more, fewer = segments_of(apart, number, 10), segments_of(whole, number, 10)
        assert charges_of(apart, more) == charges_of(whole, fewer)
        assert len(more) - len(fewer) == 8 * sum(part.name in COUNTS for part in fewer)
        # More noise on each count instead.
        bounds = {part.name: part.bound for part in fewer}
        assert all(part.bound > bounds[part.name] for part in more if part.name in COUNTS)


def test_the_budget_is_the_plans_epsilon_by_part() -> None:
    parts = {release.part: release for release in budget_of(PRIVATE).releases}

    def epsilon(release: Release) -> float:
        return table_epsilon([(0, "", "", release)], "rdp")

    assert epsilon(parts["train"]) == pytest.approx(1.0, rel=5e-3)
    assert epsilon(parts["validation"]) == pytest.approx(0.5, rel=5e-3)
    assert epsilon(parts["test"]) == pytest.approx(0.5, rel=5e-3)
    assert parts["validation"].steps == 3
    assert parts["test"].steps == 1


def test_counts_without_noise_are_charged_as_such() -> None:
    parts = {release.part: release for release in budget_of(small_plan()).releases}
    assert parts["validation"].mechanism == parts["test"].mechanism == "none"
    assert parts["train"].mechanism == "poisson-sampled gaussian"


def test_schemas_that_split_alike_are_told_from_those_that_do_not() -> None:
    schema = PRIVATE.schema_.model_dump(mode="json", exclude_none=True)
    renamed = small_plan(schema=schema | {"name": "other"})
    assert budget_of(renamed).split == budget_of(PRIVATE).split
    columns = schema["columns"][:-1]
    fewer = small_plan(schema=schema | {"columns": columns})
    assert budget_of(fewer).split != budget_of(PRIVATE).split
    by_customer = small_plan(schema=schema | {"customer": "id"})
    assert budget_of(by_customer).split != budget_of(PRIVATE).split


@pytest.mark.parametrize("kind", ["secure", "plain"])
def test_shared_noise_is_charged_as_whoever_opens_the_sum_sees_it(kind: str) -> None:
    plan = small_plan(
        aggregation={"kind": kind}, privacy={"noise": "shared"}, training={"steps": 1}
    )
    train = next(release for release in budget_of(plan).releases if release.part == "train")
    whole, own = training_mechanism(plan), abandoned_mechanism(plan)
    assert whole.noise_multiplier > own.noise_multiplier
    expected = whole if kind == "secure" else own
    assert (train.noise_multiplier, train.steps) == (
        expected.noise_multiplier,
        plan.training.rounds,
    )
    (charged, *_) = charges_of(plan, segments_of(plan, 0, 10))
    assert (charged.part, charged.noise_multiplier) == ("train", train.noise_multiplier)
    assert charged.steps == 1


def test_a_customers_run_is_charged_as_such_at_the_price_of_a_record() -> None:
    counted = {"noise": "gaussian", "epsilon": 0.5}
    records, customers = budget_of(PRIVATE), budget_of(customer_plan(4, evaluation=counted))
    assert {release.unit for release in records.releases} == {"record"}
    assert {release.unit for release in customers.releases} == {"id"}
    # More noise, and as much more sensitivity.
    assert [release.priced for release in customers.releases] == [
        release.priced for release in records.releases
    ]
    plan = customer_plan(4)
    for release in charges_of(plan, segments_of(plan, 6, 10)):
        assert release.unit == "id"
