"""Noise in parts: the grid that all institutions share, on the ring itself.

Each institution adds a discrete Gaussian of 1 / `Plan.noise_shares` of the variance that the
accountant asks for, so that the survivors of any opened sum, less the colluders, add up to it or
more. The sum of discrete Gaussians is one again but for a factor of 1 +- 4 exp(-2 pi^2 tau^2)
(see `common.privacy.discrete`); at the hundreds of levels that `require_reserve` asks for, that
is nothing.
"""

from math import sqrt

from common.layout import layout_of
from common.plan import Plan
from common.privacy.accounting import SampledGaussian
from common.privacy.budgets import (
    DELTA_RESERVE,
    accounted_delta,
    training_mechanism,
)
from common.privacy.discrete import MAX_SIGMA
from common.privacy.noise import Grid, grid_of, require_reserve

SHARE_TAIL = 10.0
"""Standard deviations of its share that a value leaves room for (chance 1e-23 a value)."""

LOWEST_PRV_MULTIPLIER = 0.7
"""Below it PRV takes minutes, and RDP's larger bound is told instead."""


def largest_sum(plan: Plan) -> float:
    """Return the bound at which each value of an institution's clipped sum saturates.

    A full expected batch that agrees in one weight alone; saturation moves no two sums apart.
    """
    return plan.row_norm * max(plan.expected_batch(name) for name in plan.names)


def ring_levels(plan: Plan) -> int:
    """Return the levels that one institution may use without the sum of all overflowing."""
    return int(2 ** (plan.aggregation.ring_bits - 1) // len(plan.institutions) - 2)


def shared_grid(plan: Plan) -> Grid:
    """Return the finest grid whose sums and noise fit the ring; ``sigma`` is one share.

    Raises `BudgetError` when the ring is too coarse for the noise.
    """
    noise_multiplier = training_mechanism(plan).noise_multiplier
    levels = ring_levels(plan)
    if noise_multiplier == 0:
        return Grid(largest_sum(plan) / levels, 0.0)
    shares = sqrt(plan.noise_shares)
    # What a unit may move is at most shares * sigma / multiplier levels.
    units = largest_sum(plan) / plan.privacy.max_grad_norm
    sigma = min(levels // (units * shares / noise_multiplier + SHARE_TAIL), MAX_SIGMA)
    size = layout_of(plan.model, plan.schema_.width).size
    grid = grid_of(noise_multiplier, plan.privacy.max_grad_norm, size, shares * sigma)
    reserve = DELTA_RESERVE * plan.privacy.delta
    require_reserve(reserve, plan.training.rounds, size * plan.noise_shares, sigma)
    return Grid(grid.step, sigma)


def abandoned_mechanism(plan: Plan) -> SampledGaussian:
    """Return what protects an institution's records when all the others collude."""
    mechanism = training_mechanism(plan)
    if plan.privacy.noise == "local":
        return mechanism
    return SampledGaussian(
        mechanism.noise_multiplier / sqrt(plan.noise_shares),
        mechanism.sample_rate,
        mechanism.steps,
    )


def abandoned_epsilon(plan: Plan, steps: int) -> float:
    """Return what ``steps`` spend when all other institutions collude with the server."""
    mechanism = abandoned_mechanism(plan)
    mechanism = SampledGaussian(mechanism.noise_multiplier, mechanism.sample_rate, steps)
    fine = mechanism.noise_multiplier >= LOWEST_PRV_MULTIPLIER
    accountant = plan.privacy.accountant if fine else "rdp"
    return mechanism.epsilon(accounted_delta(plan), accountant)
