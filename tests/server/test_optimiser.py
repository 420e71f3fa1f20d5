from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.plan import OptimiserPlan
from server.optimiser import direction

Vector = NDArray[np.float64]
GRADIENTS = np.random.default_rng(0).normal(size=(20, 5))


def walked(optimiser: OptimiserPlan, rate: float) -> Vector:
    moments, weights = np.zeros((2, 5)), np.zeros(5)
    for index, gradient in enumerate(GRADIENTS, start=1):
        against, moments = direction(gradient, moments, optimiser, index)
        weights -= rate * against
    return weights


def torch_walked(build: Callable[[list[Tensor]], torch.optim.Optimizer]) -> Vector:
    weights = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    reference = build([weights])
    for gradient in GRADIENTS:
        weights.grad = torch.from_numpy(gradient.copy())
        reference.step()
    return weights.detach().numpy()


def test_sgd_is_torchs_own() -> None:
    expected = torch_walked(lambda weights: torch.optim.SGD(weights, lr=0.1))
    np.testing.assert_allclose(walked(OptimiserPlan(), 0.1), expected)


def test_adam_is_torchs_own() -> None:
    expected = torch_walked(lambda weights: torch.optim.Adam(weights, lr=0.1, betas=(0.9, 0.99)))
    plan = OptimiserPlan(kind="adam", momentum=0.9, second=0.99)
    np.testing.assert_allclose(walked(plan, 0.1), expected, rtol=1e-6)
    other = OptimiserPlan(kind="adam", momentum=0.8, second=0.99)
    assert not np.allclose(walked(other, 0.1), expected, rtol=1e-6)


def test_momentum_averages_so_that_the_rate_keeps_its_meaning() -> None:
    plan, moments = OptimiserPlan(momentum=0.9), np.zeros((2, 5))
    steady = np.full(5, 3.0)
    for index in range(1, 6):
        against, moments = direction(steady, moments, plan, index)
        np.testing.assert_allclose(against, steady)
    assert not np.allclose(walked(plan, 0.1), walked(OptimiserPlan(), 0.1))


def test_moments_given_are_not_changed() -> None:
    moments = np.ones((2, 5))
    _, new = direction(GRADIENTS[0], moments, OptimiserPlan(momentum=0.5), 3)
    assert (moments == 1).all()
    assert not (new == 1).any()
