from dataclasses import replace
from math import inf

import pytest

from client.entries import Release
from client.limits import YEAR, Limits, Spent, table_epsilon
from client.refusals import OverLimitError
from common.privacy.accounting import SampledGaussian

TRAIN = Release("train", 1.2, 0.05, 100, 1e-5)
VALIDATION = Release("validation", 9.0, 1.0, 6, 1e-5)


def spent(*releases: Release, split: str = "cells") -> list[Spent]:
    return [(0, "aa", split, release) for release in releases]


def alone(release: Release, steps: int = 0) -> float:
    mechanism = replace(release.priced, steps=steps or release.steps)
    return mechanism.epsilon(release.delta, "rdp")


def test_nothing_costs_nothing() -> None:
    assert table_epsilon([], "rdp") == 0.0


def test_parts_compose_in_parallel_and_runs_in_sequence() -> None:
    assert table_epsilon(spent(TRAIN, VALIDATION), "rdp") == max(alone(TRAIN), alone(VALIDATION))
    assert table_epsilon(spent(TRAIN, TRAIN), "rdp") == alone(TRAIN, 200)
    assert table_epsilon(spent(TRAIN, TRAIN), "rdp") > alone(TRAIN)


def test_runs_that_split_rows_differently_are_not_parallel() -> None:
    apart = spent(TRAIN) + spent(VALIDATION, split="customer")
    together = table_epsilon(apart, "rdp")
    assert together > table_epsilon(spent(TRAIN, VALIDATION), "rdp")
    assert together < alone(TRAIN) + alone(VALIDATION)


def test_the_smallest_delta_counts_for_all() -> None:
    careless = replace(TRAIN, delta=1e-3)
    expected = replace(TRAIN.priced, steps=200).epsilon(1e-5, "rdp")
    assert table_epsilon(spent(TRAIN, careless), "rdp") == expected
    assert table_epsilon(spent(careless), "rdp") < alone(TRAIN)


def test_accountants_agree_and_a_mixture_is_near_an_independent_sum() -> None:
    mixed = spent(TRAIN, replace(TRAIN, noise_multiplier=2.0, sample_rate=0.1))
    tight, loose = table_epsilon(mixed, "prv"), table_epsilon(mixed, "rdp")
    assert 0.8 * loose < tight < loose


def test_a_release_without_noise_passes_no_limit_but_none() -> None:
    exact = replace(VALIDATION, noise_multiplier=0.0)
    assert (exact.mechanism, table_epsilon(spent(exact), "rdp")) == ("none", inf)
    with pytest.raises(OverLimitError, match=r"epsilon inf, beyond the 50 of limits\.plan"):
        Limits(plan=50, accountant="rdp").require(spent(exact), "aa", 0)
    Limits(plan="none", year="none", ever="none").require(spent(exact), "aa", 0)


def test_a_limit_is_met_exactly_and_not_passed() -> None:
    exactly = alone(TRAIN)
    Limits(plan=exactly, accountant="rdp").require(spent(TRAIN), "aa", 0)
    with pytest.raises(OverLimitError):
        Limits(plan=exactly * 0.99, accountant="rdp").require(spent(TRAIN), "aa", 0)


def test_a_calibrated_plan_passes_its_own_epsilon() -> None:
    mechanism = SampledGaussian(0.0, 0.05, 300).calibrated(1.0, 1e-5, "prv")
    release = Release("train", mechanism.noise_multiplier, 0.05, 300, 1e-5)
    Limits(plan=1.0, accountant="prv").require(spent(release), "aa", 0)
    with pytest.raises(OverLimitError):
        Limits(plan=1.0, accountant="prv").require(spent(replace(release, steps=310)), "aa", 0)


CUSTOMER = replace(TRAIN, unit="customer_id")


def test_a_customer_has_the_epsilon_of_runs_that_hide_customers() -> None:
    assert table_epsilon(spent(CUSTOMER, CUSTOMER), "rdp") == alone(TRAIN, 200)
    Limits(accountant="rdp", plan=5, year=5, ever=5).require(spent(CUSTOMER), "aa", 0)


@pytest.mark.parametrize("other", ["record", "household"])
def test_runs_that_hide_different_units_have_no_common_limit(other: str) -> None:
    mixed = spent(CUSTOMER, replace(TRAIN, unit=other))
    assert table_epsilon(mixed, "rdp") == inf
    for name in ("plan", "year", "ever"):
        limits = Limits.model_validate(
            {"plan": "none", "year": "none", "ever": "none", "accountant": "rdp", name: 1e6}
        )
        units = ", ".join(sorted({"customer_id", other}))
        with pytest.raises(OverLimitError, match=rf"\({units}\), to which limits\.{name} sets no"):
            limits.require(mixed, "aa", 0)
    Limits(plan="none", year="none", ever="none").require(mixed, "aa", 0)


def test_a_year_later_another_unit_may_begin() -> None:
    later = [(YEAR + 1, "bb", "cells", CUSTOMER)]
    limits = Limits(plan=9, year=9, ever="none", accountant="rdp")
    limits.require(spent(TRAIN) + later, "bb", YEAR + 1)
    with pytest.raises(OverLimitError, match=r"limits\.year"):
        limits.require(spent(TRAIN) + later, "bb", YEAR - 1)
