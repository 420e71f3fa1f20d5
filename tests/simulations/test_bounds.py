from dataclasses import replace
from math import log

import numpy as np
import pytest
from scipy.stats import binom, norm

from common.privacy.accounting import SampledGaussian
from simulations.bounds import LARGEST, Guesses, gaussian_epsilon, gaussian_mu, one_run


@pytest.mark.parametrize("made", [10, 100, 1000])
def test_all_right_refutes_what_would_be_right_so_often(made: int) -> None:
    accuracy = 0.05 ** (1 / made)
    expected = log(accuracy / (1 - accuracy))
    guesses = Guesses(1000, made, made)
    assert guesses.epsilon(0.0, 0.95) == pytest.approx(expected, abs=1e-5)
    # delta may explain a part of it, and more confidence asks for more evidence.
    assert 0.8 * expected < guesses.epsilon(1e-5, 0.95) < expected
    assert guesses.epsilon(0.0, 0.99) < expected


@pytest.mark.parametrize("correct", [0, 30, 50, 55])
def test_chance_or_worse_refutes_nothing(correct: int) -> None:
    assert Guesses(100, 100, correct).epsilon(1e-5, 0.95) == 0


def test_bound_grows_with_right_guesses() -> None:
    bounds = [Guesses(200, 100, correct).epsilon(1e-5, 0.95) for correct in range(60, 101, 5)]
    assert bounds == sorted(bounds)
    assert 0 < bounds[0] < bounds[-1] < LARGEST


def test_delta_that_explains_everything_leaves_nothing() -> None:
    assert Guesses(1000, 100, 100).epsilon(0.1, 0.95) == 0


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_bound_holds_for_randomised_response_as_often_as_promised(
    epsilon: float, confidence: float
) -> None:
    # Each of 500 answers is right with the chance that epsilon allows: nothing can be tighter.
    accuracy = 1 / (1 + np.exp(-epsilon))
    bounds = np.array(
        [Guesses(500, 500, right).epsilon(0.0, confidence) for right in range(250, 501)]
    )
    kept = binom.pmf(np.arange(250, 501), 500, accuracy)
    coverage = float(kept[bounds <= epsilon].sum())
    assert confidence - 1e-9 <= coverage < confidence + 0.05
    assert float(kept @ bounds) > 0.6 * epsilon


def test_best_of_several_tries_is_paid_for() -> None:
    draw = np.random.default_rng(0)
    lucky = sum(
        one_run(draw.normal(size=200), draw.random(200) < 0.5, 0.0, 0.8).epsilon > 0
        for _ in range(300)
    )
    assert 0 < lucky <= 300 * 0.2


def test_guesses_follow_the_scores() -> None:
    members = np.arange(100) % 2 == 0
    told = one_run(np.where(members, 1.0, 0.0), members, 0.0, 0.95)
    assert told.guesses == Guesses(100, 74, 74)
    assert told.epsilon == told.ceiling > 2
    inverted = one_run(np.where(members, 0.0, 1.0), members, 0.0, 0.95)
    assert inverted.epsilon == 0
    assert inverted.ceiling == told.ceiling
    assert replace(inverted.guesses, correct=0) == inverted.guesses


def errors_of(mu: float, draws: int, seed: int) -> tuple[int, int]:
    draw = np.random.default_rng(seed)
    absent, present = draw.normal(size=(2, draws))
    return int((absent > mu / 2).sum()), int((present + mu <= mu / 2).sum())


@pytest.mark.parametrize("mu", [0.2, 0.5, 1.0, 3.0])
def test_gaussian_bound_is_below_and_near_the_truth(mu: float) -> None:
    bounds = [gaussian_mu(*errors_of(mu, 100_000, seed), 100_000, 0.95) for seed in range(20)]
    assert max(bounds) <= mu
    assert min(bounds) > mu - 0.04
    # It refutes half of the privacy loss, and a tenth less.
    assert min(bounds) > 0.8 * mu


def test_no_error_and_all_errors() -> None:
    assert 7 < gaussian_mu(0, 0, 100_000, 0.95) < 9
    assert gaussian_mu(500, 500, 1_000, 0.95) == 0
    assert gaussian_mu(1_000, 0, 1_000, 0.95) == 0


@pytest.mark.parametrize("multiplier", [0.8, 1.0, 3.0])
def test_gaussian_epsilon_is_what_the_accountant_finds_for_one_step(multiplier: float) -> None:
    once = SampledGaussian(multiplier, 1.0, 1)
    expected = once.epsilon(1e-5, "prv")
    assert gaussian_epsilon(1 / multiplier, 1e-5) == pytest.approx(expected, rel=5e-3)
    assert gaussian_epsilon(1.05 / multiplier, 1e-5) > 1.02 * expected


def test_no_privacy_loss_has_no_epsilon() -> None:
    assert gaussian_epsilon(0.0, 1e-5) == 0
    # So small a loss that delta covers all of it: their distance in total variation.
    assert gaussian_epsilon(1e-5, 1e-5) == 0
    assert 2 * norm.cdf(1e-5 / 2) - 1 < 1e-5
