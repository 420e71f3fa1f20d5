"""The one-step audit: the noise of the real mechanism against one record, many thousand times.

A record of a Dirac canary's clipped gradient lies in one weight alone, at the full clipping norm.
The network is a logistic regression with a weight for each of `CELLS` such records, so that one
step with all of them and one with none are so many independent draws with and without.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from client.data import Examples
from client.training import release, train
from client.update import local_steps, shared_step
from common.entropy import Stream
from common.model import Network
from common.plan import ModelPlan, Plan
from common.privacy.accounting import SampledGaussian
from common.privacy.budgets import accounted_delta, training_mechanism
from common.privacy.shared import LOWEST_PRV_MULTIPLIER
from simulations.bounds import gaussian_epsilon, gaussian_mu

CELLS = 1024
"""Draws a step."""

SPARE = 64
"""Further weights, which no record of the attack touches."""

LENGTH = 1e4
"""Feature of a Dirac canary: beside it, what its gradient does to the bias is nothing."""

Step = Callable[[Examples], NDArray[np.float64]]
"""From the rows of a table to the released sum of their clipped gradients [CELLS]."""


@dataclass(frozen=True, slots=True)
class StepAudit:
    """Of ``draws`` steps each, how many were taken for their opposite, and what that refutes.

    ``mu`` is the least that the mechanism's Gaussian differential privacy can be. ``epsilon`` is
    that of one step, ``run_epsilon`` what the accountant asks for a run of such steps.
    """

    draws: int
    false_positives: int
    false_negatives: int
    mu: float
    epsilon: float
    run_epsilon: float


def audit_step(  # noqa: PLR0913  (what an audit is of, and how hard it tries)
    plan: Plan, name: str, draws: int, confidence: float, stream: Stream, *, pruned: bool = False
) -> StepAudit:
    """Return what ``draws`` steps or more of an institution, with and without, give away.

    A ``pruned`` network has weights beside the attacked ones that did not survive: clipping then
    takes another way.
    """
    step = (
        _shared(plan, stream, pruned)
        if plan.privacy.noise == "shared"
        else _local(plan, name, stream, pruned)
    )
    everyone, nobody = _table(CELLS, plan.customer_cap), _table(0, plan.customer_cap)
    steps = -(-draws // CELLS)
    # Half a clipping norm is as far from a mean of 0 as from one of the whole norm.
    edge = plan.privacy.max_grad_norm / 2
    positives = sum(int((step(nobody) > edge).sum()) for _ in range(steps))
    negatives = sum(int((step(everyone) <= edge).sum()) for _ in range(steps))
    mu = gaussian_mu(positives, negatives, steps * CELLS, confidence)
    return StepAudit(
        steps * CELLS,
        positives,
        negatives,
        mu,
        gaussian_epsilon(mu, plan.privacy.delta),
        _price(plan, mu),
    )


def _price(plan: Plan, mu: float) -> float:
    """Return epsilon of the run at the noise multiplier 1 / mu.

    A multiplier far below the plan's is priced as if it were larger: PRV would take minutes, and
    the price is above the plan's epsilon as it is.
    """
    if mu <= 0:
        return 0.0
    claimed = training_mechanism(plan)
    floor = min(LOWEST_PRV_MULTIPLIER, claimed.noise_multiplier / 1.2 or LOWEST_PRV_MULTIPLIER)
    found = SampledGaussian(max(1 / mu, floor), claimed.sample_rate, claimed.steps)
    return found.epsilon(accounted_delta(plan), plan.privacy.accountant)


def _table(units: int, cap: int | None) -> Examples:
    """Return a table of so many records, or of customers with ``cap`` rows each."""
    owners = np.arange(units).repeat(cap or 1)
    features = LENGTH * np.eye(units, CELLS + SPARE, dtype=np.float32)[owners]
    labels, unread = np.zeros(len(owners), np.float32), pd.DataFrame(index=range(len(owners)))
    return Examples(features, labels, unread, None if cap is None else owners)


def _blank(pruned: bool) -> Network:
    network = Network(ModelPlan(kind="logistic"), CELLS + SPARE)
    mask = np.ones(network.layout.size, np.bool_)
    mask[CELLS : CELLS + SPARE] = not pruned
    network.load(np.zeros(mask.size, np.float32), mask)
    return network


def _local(plan: Plan, name: str, stream: Stream, pruned: bool) -> Step:
    # A rate and a batch of one leave the negative sum itself as the update.
    one = replace(
        local_steps(plan, name),
        steps=1,
        sample_rate=1.0,
        learning_rate=1.0,
        expected_batch=1.0,
        proximal=None,
    )
    return lambda rows: -train(_blank(pruned), rows, one, stream)[:CELLS].astype(np.float64)


def _shared(plan: Plan, stream: Stream, pruned: bool) -> Step:
    """Add the releases of as many tables as noise shares: all but one hold nothing."""
    shared = replace(shared_step(plan), sample_rate=1.0)
    empty = [_table(0, plan.customer_cap)] * (plan.noise_shares - 1)

    def step(rows: Examples) -> NDArray[np.float64]:
        parts = [release(_blank(pruned), table, shared, stream)[:CELLS] for table in (rows, *empty)]
        summed: NDArray[np.float64] = np.sum(parts, axis=0) * shared.grid.step
        return summed

    return step
