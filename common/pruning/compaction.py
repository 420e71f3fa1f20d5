"""Compaction: a masked model becomes a smaller dense one that gives the same logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.layout import layout_of
from common.plan import ModelPlan
from common.pruning.masks import Mask

Array = NDArray[np.float32]

ACTIVATIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "relu": lambda values: np.maximum(values, 0),
    "tanh": np.tanh,
}


@dataclass(frozen=True, slots=True)
class Dense:
    """A hidden layer: weight [out, in], bias [out]."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class CompactModel:
    """A model in dense layers: ``bias + linear . x + output . hidden(x)`` for features x.

    ``hidden`` may be empty; ``output`` [neurons of the last layer] is then empty too, and a
    logistic regression is one such model. ``linear`` [width] is None where nothing is linear.
    ``bias`` [1].
    """

    width: int
    activation: Literal["relu", "tanh"]
    hidden: tuple[Dense, ...]
    output: Array
    linear: Array | None
    bias: Array

    @property
    def sizes(self) -> tuple[int, ...]:
        """Neurons of each hidden layer."""
        return tuple(len(layer.bias) for layer in self.hidden)

    @property
    def tensors(self) -> dict[str, Array]:
        """Every tensor by name, hidden layers first."""
        named = {
            f"hidden.{index}.{part}": getattr(layer, part)
            for index, layer in enumerate(self.hidden)
            for part in ("weight", "bias")
        }
        named |= {"output.weight": self.output} if self.hidden else {}
        named |= {} if self.linear is None else {"linear.weight": self.linear}
        return named | {"bias": self.bias}

    def forward(self, features: Array) -> Array:
        """Return logits [n] for features [n, width]."""
        logits = np.repeat(self.bias, len(features))
        if self.linear is not None:
            logits += features @ self.linear
        if self.hidden:
            values = features
            for layer in self.hidden:
                values = ACTIVATIONS[self.activation](values @ layer.weight.T + layer.bias)
            logits += values @ self.output
        return logits


def shapes_of(width: int, sizes: tuple[int, ...], *, linear: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of `CompactModel.tensors`, in their order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (inputs, outputs) in enumerate(pairwise((width, *sizes))):
        shapes |= {f"hidden.{index}.weight": (outputs, inputs), f"hidden.{index}.bias": (outputs,)}
    shapes |= {"output.weight": sizes[-1:]} if sizes else {}
    return shapes | ({"linear.weight": (width,)} if linear else {}) | {"bias": (1,)}


def assembled(
    width: int, activation: Literal["relu", "tanh"], tensors: dict[str, Array]
) -> CompactModel:
    """Return the model that has these `CompactModel.tensors`."""
    layers = sum(name.endswith(".bias") for name in tensors)
    return CompactModel(
        width,
        activation,
        tuple(
            Dense(tensors[f"hidden.{i}.weight"], tensors[f"hidden.{i}.bias"]) for i in range(layers)
        ),
        tensors.get("output.weight", np.zeros(0, np.float32)),
        tensors.get("linear.weight"),
        tensors["bias"],
    )


def unpruned(model: ModelPlan, width: int, weights: Array) -> CompactModel:
    """Return flat ``weights`` [size] in the plan's own shapes, zeros and all."""
    parts = {
        name: part.astype(np.float32)
        for name, part in layout_of(model, width).split(weights).items()
    }
    skip = parts.pop("linear.weight", None)
    bias = parts.pop("output.bias" if "output.bias" in parts else "linear.bias")
    output = parts.pop("output.weight", None)
    tensors = parts | {"bias": bias}
    if output is not None and parts:
        tensors["output.weight"] = output[0]
    elif output is not None:  # Without hidden layers the output reads the features itself.
        skip = output if skip is None else skip + output
    if skip is not None:
        tensors["linear.weight"] = skip[0]
    return assembled(width, model.activation, tensors)


def compact(model: ModelPlan, width: int, weights: Array, mask: Mask) -> CompactModel:
    """Return the smallest dense model with the logits of the masked one (within rounding).

    A hidden neuron without surviving inputs is constant: act(bias) goes into the next layer's
    bias and the neuron goes. One without surviving outputs goes, bias included. Neither rule
    gives the other new work (a row or column that goes with a neuron is zero), so one pass
    forward and one back reach the fixed point. A weight that is exactly zero has not survived.

    Args:
        model: architecture of the plan.
        width: number of features.
        weights: flat vector [size].
        mask: what survives of it [size].
    """
    dense = unpruned(model, width, np.where(mask, weights, np.float32(0)))
    if not dense.hidden:
        return dense
    rows = [layer.weight for layer in dense.hidden] + [dense.output[None]]
    biases = [layer.bias.astype(np.float64) for layer in dense.hidden]
    biases.append(dense.bias.astype(np.float64))
    act = ACTIVATIONS[dense.activation]
    for index in range(len(biases) - 1):
        fed = rows[index].any(axis=1)
        after = rows[index + 1]
        biases[index + 1] = biases[index + 1] + after[:, ~fed] @ act(biases[index][~fed])
        rows[index], biases[index], rows[index + 1] = (
            rows[index][fed],
            biases[index][fed],
            after[:, fed],
        )
    for index in reversed(range(len(biases) - 1)):
        read = rows[index + 1].any(axis=0)
        rows[index], biases[index] = rows[index][read], biases[index][read]
        rows[index + 1] = rows[index + 1][:, read]
    tensors = {} if dense.linear is None else {"linear.weight": dense.linear}
    # A layer that is empty is constant, and so is then all that reads it or feeds it.
    if rows[-1].size:
        tensors["output.weight"] = rows[-1][0]
        for index, (weight, bias) in enumerate(zip(rows[:-1], biases[:-1], strict=True)):
            tensors[f"hidden.{index}.weight"] = weight
            tensors[f"hidden.{index}.bias"] = bias.astype(np.float32)
    return assembled(width, dense.activation, tensors | {"bias": biases[-1].astype(np.float32)})
