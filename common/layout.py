"""Where each parameter of a model lies in its flat vector: all that needs no torch."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from common.plan import ModelPlan
from common.pruning.masks import Mask


@dataclass(frozen=True, slots=True)
class Entry:
    """One parameter tensor: where it lies in the flat vector."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def span(self) -> slice:
        """Its stretch of the flat vector."""
        return slice(self.offset, self.offset + prod(self.shape))


@dataclass(frozen=True, slots=True)
class Layout:
    """The parameters of a model in the order of its flat vector [size]."""

    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """Number of weights, biases included."""
        last = self.entries[-1]
        return last.offset + prod(last.shape)

    def split(self, vector: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        """Return views of a flat vector [size] by name, each in its own shape."""
        return {entry.name: vector[entry.span].reshape(entry.shape) for entry in self.entries}

    def protected(self, *, biases: bool, output: bool = True) -> Mask:
        """Return the mask [size] of weights that are never pruned by themselves.

        The linear skip stays, because it carries what a logistic regression would and starts
        at zero, where magnitude cannot see its worth; biases go only when ``biases`` is true,
        the output layer's weights only when ``output`` is.
        """
        mask = np.zeros(self.size, np.bool_)
        has_hidden = any(entry.name == "output.weight" for entry in self.entries)
        for entry in self.entries:
            if entry.name.endswith(".bias"):
                mask[entry.span] = not biases
            elif entry.name == "linear.weight":
                mask[entry.span] = has_hidden
            elif entry.name == "output.weight":
                mask[entry.span] = not output
        return mask


def layout_of(model: ModelPlan, width: int) -> Layout:
    """Return the layout of ``model`` on ``width`` input features."""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    if model.kind == "logistic":
        shapes += [("linear.weight", (1, width)), ("linear.bias", (1,))]
    else:
        widths = (width, *model.hidden)
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            shapes += [(f"hidden.{index}.weight", (outputs, inputs))]
            shapes += [(f"hidden.{index}.bias", (outputs,))]
        shapes += [("output.weight", (1, widths[-1])), ("output.bias", (1,))]
        if model.kind == "wide_and_deep":
            shapes += [("linear.weight", (1, width))]
    entries, offset = [], 0
    for name, shape in shapes:
        entries.append(Entry(name, shape, offset))
        offset += prod(shape)
    return Layout(tuple(entries))
