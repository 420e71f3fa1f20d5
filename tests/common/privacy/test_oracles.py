"""Epsilon against an accountant of another make, which shares no code with Opacus."""

import warnings
from dataclasses import replace
from typing import Any

import pytest

from common.privacy.accounting import SampledGaussian

DELTA = 1e-5
MECHANISMS = [
    SampledGaussian(noise_multiplier=2.0, sample_rate=0.05, steps=300),
    SampledGaussian(noise_multiplier=5.5, sample_rate=0.05, steps=300),
    SampledGaussian(noise_multiplier=0.8, sample_rate=0.01, steps=1_000),
    SampledGaussian(noise_multiplier=4.0, sample_rate=1.0, steps=1),
]


@pytest.fixture(scope="module")
def distributions() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            "dp_accounting.pld.privacy_loss_distribution", reason="dp-accounting is not installed"
        )


def independent(distributions: Any, mechanism: SampledGaussian) -> float:
    one = distributions.from_gaussian_mechanism(
        mechanism.noise_multiplier,
        sampling_prob=mechanism.sample_rate,
        value_discretization_interval=1e-4,
    )
    return float(one.self_compose(mechanism.steps).get_epsilon_for_delta(DELTA))


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=str)
def test_epsilon_is_dp_accountings_within_one_per_cent(
    distributions: Any, mechanism: SampledGaussian
) -> None:
    expected = independent(distributions, mechanism)
    assert mechanism.epsilon(DELTA, "prv") == pytest.approx(expected, rel=0.01)
    noisier = replace(mechanism, noise_multiplier=1.03 * mechanism.noise_multiplier)
    assert noisier.epsilon(DELTA, "prv") != pytest.approx(expected, rel=0.01)
    assert mechanism.epsilon(DELTA, "rdp") > expected
