"""Trap weights: a model in which each canary has hidden weights of its own to move.

A server may send any model. In this one a hidden unit wakes for one record alone (Boenisch et al.
2023, "When the Curious Abandon Honesty: Federated Learning Is Not Private", section 4), and its
output is so amplified that nearly all of that record's clipped gradient falls on that unit's
weights, which no other record moves. Unclipped, the gradient is hundreds of times as long.
"""

import numpy as np
from numpy.typing import NDArray

from common.layout import layout_of
from common.plan import Plan
from simulations.canaries import Canaries

AWAKE = 5.0
"""Input of a unit for its canary, and less the least for any other record (ReLU)."""

GAIN = 1e3
"""Product of the weights on the path of three or more hidden layers, at most 10 each."""

STEADY = 20.0
"""Bias of what leads on to the output (ReLU): local noise must not put it to sleep."""


def traps(plan: Plan) -> int:
    """Return how many canaries can have a unit of their own; 0 without hidden layers."""
    return 0 if plan.model.kind == "logistic" else plan.model.hidden[0]


def trap_weights(plan: Plan, canaries: Canaries) -> NDArray[np.float32]:
    """Return flat weights [size] with unit i of the first hidden layer set for canary i.

    All else is zero but one path to the output. A logistic regression has no unit to set: all
    its weights are zero, and canaries share them.
    """
    layout = layout_of(plan.model, plan.schema_.width)
    flat = np.zeros(layout.size, np.float32)
    if not traps(plan):
        return flat
    parts = layout.split(flat)  # views
    count, depth = len(canaries), len(plan.model.hidden)
    relu = plan.model.activation == "relu"
    scale = 2 * AWAKE / canaries.gaps
    # Under tanh the unit is half-way at its canary, and saturated, so still, for all others.
    edge = canaries.peaks - canaries.gaps / 2 if relu else canaries.peaks
    parts["hidden.0.weight"][:count] = scale[:, None] * canaries.features
    parts["hidden.0.bias"][:count] = -scale * edge
    gain = GAIN ** (1 / max(3, depth))
    if depth == 1:
        parts["output.weight"][0, :count] = gain**2
        parts["output.bias"][:] = 0.0 if relu else gain**2 * count
        return flat
    parts["hidden.1.weight"][0, :count] = gain
    # Under tanh all other records saturate the path, and a canary brings it to its middle.
    parts["hidden.1.bias"][0] = STEADY if relu else gain * (count - 1)
    for index in range(2, depth):
        parts[f"hidden.{index}.weight"][0, 0] = gain if relu else 1.0
    parts["output.weight"][0, 0] = gain if relu else gain**2
    # A canary's output is far above, so that its label 0 is as wrong as can be.
    parts["output.bias"][:] = -STEADY * gain ** (depth - 1) if relu else gain**2 / 2
    return flat
