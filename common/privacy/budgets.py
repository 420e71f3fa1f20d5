"""What a plan's budget means for training: how much noise, and how fast to learn under it."""

from math import sqrt

from common.plan import Plan
from common.privacy.accounting import SampledGaussian

QUIET_RATE = 4.0
"""Learning rate without noise."""

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
    return mechanism.calibrated(privacy.epsilon, privacy.delta, privacy.accountant)


def learning_rate(plan: Plan) -> float:
    """Return the plan's rate, or the one at which noise moves a weight by `NOISE_TRAVEL`.

    The averaged model walks sqrt(steps) noisy steps of sd rate * sigma * clip / (batch *
    sqrt(n)); a faster rate drowns the signal, a slower one starves it.
    """
    if plan.training.learning_rate != "auto":
        return plan.training.learning_rate
    mechanism = training_mechanism(plan)
    if mechanism.noise_multiplier == 0:
        return QUIET_RATE / plan.privacy.max_grad_norm
    batch = sum(plan.expected_batch(name) for name in plan.names) / len(plan.names)
    walk = mechanism.noise_multiplier * plan.privacy.max_grad_norm * sqrt(mechanism.steps)
    rate = NOISE_TRAVEL * batch * sqrt(len(plan.names)) / walk
    return min(rate, QUIET_RATE / plan.privacy.max_grad_norm)
