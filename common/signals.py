"""How large anything inside a network can become, whatever the record: a public fact.

A model whose signals overflow for some records and not for others would turn them into NaN, and
what an institution then refuses or sends would tell, without noise, that it holds such a record.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from common.layout import Layout

Vector = NDArray[np.float64]

SIGNAL_LIMIT = 1e8
"""Largest activation or gradient allowed: squares and their sums stay far from float32's 3e38."""


def largest_signal(layout: Layout, weights: NDArray[np.float32]) -> float:
    """Return a bound on every activation and every gradient of the logistic loss.

    ``weights`` is flat [size]. Features lie in [-1, 1], ReLU and tanh never enlarge a signal,
    and the loss's own gradient is at most 1 (interval propagation, forwards and backwards).
    Infinity stands for a bound that overflows even here.
    """
    parts = {name: np.abs(part, dtype=np.float64) for name, part in layout.split(weights).items()}
    deep = [name for name in parts if name.endswith(".weight") and name != "linear.weight"]
    order = [name.removesuffix(".weight") for name in deep]
    largest = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        if "linear.weight" in parts:
            bias = parts.get("linear.bias", np.zeros(1))
            largest = max(largest, float(parts["linear.weight"].sum() + bias.sum()))
        signal: Vector | None = None
        for layer in order:
            weight = cast(Vector, parts[f"{layer}.weight"])
            signal = weight @ (np.ones(weight.shape[1]) if signal is None else signal)
            signal = signal + parts[f"{layer}.bias"]
            largest = max(largest, float(signal.max()))
        gradient = np.ones(1)
        for layer in reversed(order):
            gradient = cast(Vector, parts[f"{layer}.weight"]).T @ gradient
            largest = max(largest, float(gradient.max()))
    return largest if np.isfinite(largest) else float("inf")
