import warnings
from dataclasses import replace
from math import inf

import pytest
from opacus.accountants import create_accountant

from common.errors import BudgetError
from common.privacy.accounting import EPSILON_TOLERANCE, SampledGaussian

DELTA = 1e-5
ACCOUNTANTS = pytest.mark.parametrize("accountant", ["prv", "rdp"])
MECHANISM = SampledGaussian(noise_multiplier=1.1, sample_rate=0.1, steps=40)


def stepped_epsilon(mechanism: SampledGaussian, accountant: str) -> float:
    """Return what Opacus' own accountant says after stepping as its optimiser would."""
    ledger = create_accountant(mechanism=accountant)
    for _ in range(mechanism.steps):
        ledger.step(noise_multiplier=mechanism.noise_multiplier, sample_rate=mechanism.sample_rate)
    return float(ledger.get_epsilon(delta=DELTA))


@ACCOUNTANTS
def test_epsilon_is_opacus_own(accountant: str) -> None:
    expected = stepped_epsilon(MECHANISM, accountant)
    # Opacus leaves PRV's bound a slack of .01.
    slack = 0.0101 if accountant == "prv" else 0
    assert expected - slack <= MECHANISM.epsilon(DELTA, accountant) <= expected
    for other in (
        replace(MECHANISM, noise_multiplier=1.15),
        replace(MECHANISM, sample_rate=0.11),
        replace(MECHANISM, steps=41),
    ):
        assert abs(stepped_epsilon(other, accountant) - expected) > slack


def test_prv_is_tighter_than_rdp() -> None:
    assert MECHANISM.epsilon(DELTA, "prv") < MECHANISM.epsilon(DELTA, "rdp")


@ACCOUNTANTS
@pytest.mark.parametrize("epsilon", [0.3, 1.0])
def test_calibration_ends_just_below_the_budget(epsilon: float, accountant: str) -> None:
    calibrated = MECHANISM.calibrated(epsilon, DELTA, accountant)
    spent = calibrated.epsilon(DELTA, accountant)
    assert epsilon - EPSILON_TOLERANCE * min(1.0, epsilon) <= spent <= epsilon
    assert (calibrated.sample_rate, calibrated.steps) == (0.1, 40)
    quieter = replace(calibrated, noise_multiplier=0.99 * calibrated.noise_multiplier)
    assert quieter.epsilon(DELTA, accountant) > epsilon


@ACCOUNTANTS
@pytest.mark.parametrize("sample_rate", [0.1, 1.0])
def test_impossible_budget_is_refused(accountant: str, sample_rate: float) -> None:
    mechanism = replace(MECHANISM, sample_rate=sample_rate)
    with pytest.raises(BudgetError, match=r"epsilon 1e-06 at delta 1e-05 .* in 40 steps: raise"):
        mechanism.calibrated(1e-6, DELTA, accountant)


def test_no_noise_costs_everything_and_no_step_nothing() -> None:
    assert replace(MECHANISM, noise_multiplier=0.0).epsilon(DELTA, "prv") == inf
    assert replace(MECHANISM, steps=0).epsilon(DELTA, "prv") == 0
    assert replace(MECHANISM, steps=0, noise_multiplier=0.0).epsilon(DELTA, "prv") == 0


@ACCOUNTANTS
def test_advice_of_opacus_stays_silent_but_other_warnings_do_not(accountant: str) -> None:
    unusual = SampledGaussian(noise_multiplier=400.0, sample_rate=0.01, steps=1)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        unusual.epsilon(1e-3, accountant)
        warnings.warn("mine", stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["mine"]
    ledger = create_accountant(mechanism="rdp")
    ledger.history = [(400.0, 0.01, 1)]
    with pytest.warns(UserWarning, match="Optimal order"):
        ledger.get_epsilon(delta=1e-3)
