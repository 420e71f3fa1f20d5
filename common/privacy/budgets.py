"""What a plan's budget means for training: how much noise, and how fast to learn under it."""

from math import sqrt

from common.layout import layout_of
from common.plan import Plan
from common.privacy.accounting import SampledGaussian
from common.privacy.noise import STEP_SIGMA, require_reserve

QUIET_RATE = 4.0
"""Learning rate without noise."""

DELTA_RESERVE = 1e-3
"""Share of delta kept for all by which drawn noise is not the Gaussian that is priced."""

NOISE_TRAVEL = 0.08
"""How far noise alone may carry a weight of the global model over the run (one sd)."""


def training_mechanism(plan: Plan) -> SampledGaussian:
    """Return what an institution runs over the whole plan, calibrated to its epsilon."""
    mechanism = SampledGaussian(
        noise_multiplier=0.0,
        sample_rate=plan.training.sample_rate,
        steps=plan.training.rounds * plan.training.steps,
    )
    privacy = plan.privacy
    if privacy.epsilon == "none":
        return mechanism
    size = layout_of(plan.model, plan.schema_.width).size
    require_reserve(DELTA_RESERVE * privacy.delta, mechanism.steps, size, STEP_SIGMA)
    return mechanism.calibrated(privacy.epsilon, accounted_delta(plan), privacy.accountant)


def accounted_delta(plan: Plan) -> float:
    """Return the delta at which mechanisms are priced: the plan's, less what noise may fail."""
    return plan.privacy.delta * (1 - DELTA_RESERVE)


def learning_rate(plan: Plan) -> float:
    """Return the plan's rate, or the one at which noise moves a weight by `NOISE_TRAVEL`.

    The model walks sqrt(steps) noisy steps; a faster rate drowns the signal, a slower one
    starves it. Adam's steps are as long as its rate, whatever the noise.
    """
    if plan.training.learning_rate != "auto":
        return plan.training.learning_rate
    mechanism = training_mechanism(plan)
    walk = sqrt(mechanism.steps)
    if plan.optimiser.kind == "adam":
        return NOISE_TRAVEL / walk
    fastest = QUIET_RATE / plan.row_norm
    if mechanism.noise_multiplier == 0:
        return fastest
    return min(NOISE_TRAVEL / (walk * gradient_noise(plan)), fastest)


def gradient_noise(plan: Plan) -> float:
    """Return the noise (one sd) on each weight of a step's gradient, averaged over all rows.

    Of n institutions each adds the whole noise in local mode, and in shared mode one of
    `Plan.noise_shares` parts of its variance.
    """
    count = len(plan.names)
    batch = sum(plan.expected_batch(name) for name in plan.names)
    parts = plan.noise_shares if plan.privacy.noise == "shared" else 1
    sum_noise = training_mechanism(plan).noise_multiplier * sqrt(count / parts)
    return sum_noise * plan.privacy.max_grad_norm / batch
