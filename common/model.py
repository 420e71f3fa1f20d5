"""DP-safe models: one flat vector with a named layout, and the network that reads it.

No BatchNorm (it mixes records) and no buffers (Opacus refuses them): the pruning mask is an
attribute of each layer. Parameters are views of one flat tensor, so that an optimiser step,
a mask or an upload is one vector operation.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear

from common.entropy import Stream
from common.layout import Entry, Layout, layout_of
from common.plan import ModelPlan
from common.pruning.masks import Mask

__all__ = ["Entry", "Layout", "MaskedLinear", "Network", "initial_weights", "layout_of"]


def initial_weights(model: ModelPlan, width: int, stream: Stream) -> NDArray[np.float32]:
    """Return fresh weights: uniform +-1/sqrt(fan-in); linear parts and biases are zero.

    The output layer is smaller by ``initial_scale``, which lets the linear skip lead at first.
    Hidden layers keep the full scale: a smaller one leaves them too little gradient to learn.
    """
    layout = layout_of(model, width)
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(stream(16), "big")))
    weights = np.zeros(layout.size, np.float32)
    for entry in layout.entries:
        if entry.name.endswith(".weight") and not entry.name.startswith("linear"):
            scale = model.initial_scale if entry.name.startswith("output") else 1.0
            limit = scale / sqrt(entry.shape[1])
            values = generator.uniform(-limit, limit, prod(entry.shape))
            weights[entry.span] = values.astype(np.float32)
    return weights


class _Capture(torch.autograd.Function):
    """A linear map whose backward keeps its output gradient instead of summing over records."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, layer: MaskedLinear
    ) -> Tensor:
        ctx.layer, ctx.inputs = layer, inputs
        return linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        ctx.layer.captured = (ctx.inputs, gradients)
        # The first layer's input is the records: nobody asks for its gradient.
        back = gradients @ ctx.layer.weight if ctx.needs_input_grad[0] else None
        return back, None, None, None


class MaskedLinear(nn.Linear):
    """A linear layer that knows which of its weights survive (``mask``, 1 or 0).

    While ``capturing``, a backward pass computes no gradient of the weights: it leaves the inputs
    [n, in] and output gradients [n, out] in ``captured``, from which clipped sums are made.
    """

    mask: Tensor
    bias_mask: Tensor
    captured: tuple[Tensor, Tensor]
    capturing = False

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``inputs`` [n, in] times the weights, plus the bias: [n, out]."""
        if not self.capturing:
            return super().forward(inputs)
        outputs: Tensor = _Capture.apply(  # type: ignore[no-untyped-call]
            inputs, self.weight, self.bias, self
        )
        return outputs


class Network(nn.Module):
    """A model whose parameters are views of the tensor ``flat`` [layout.size]."""

    def __init__(self, model: ModelPlan, width: int, device: torch.device | None = None) -> None:
        """Build ``model`` on ``width`` features, all weights zero, nothing pruned."""
        super().__init__()
        self.layout = layout_of(model, width)
        self.flat = torch.zeros(self.layout.size, device=device)
        self.mask = torch.ones(self.layout.size, device=device)
        shapes = {entry.name: entry.shape for entry in self.layout.entries}
        self.activation = nn.ReLU() if model.activation == "relu" else nn.Tanh()
        self.hidden = nn.ModuleList(
            MaskedLinear(shapes[f"hidden.{i}.weight"][1], shapes[f"hidden.{i}.weight"][0])
            for i in range(len(model.hidden) if model.kind != "logistic" else 0)
        )
        self.output = (
            MaskedLinear(shapes["output.weight"][1], 1) if "output.weight" in shapes else None
        )
        self.linear = (
            MaskedLinear(width, 1, bias="linear.bias" in shapes)
            if "linear.weight" in shapes
            else None
        )
        self._tie()

    def _tie(self) -> None:
        """Make every parameter and mask a view of the flat tensors."""
        parameters = dict(self.named_parameters())
        for entry in self.layout.entries:
            parameters[entry.name].data = self.flat[entry.span].view(entry.shape)
            layer, _, kind = entry.name.rpartition(".")
            view = self.mask[entry.span].view(entry.shape)
            setattr(self.get_submodule(layer), "mask" if kind == "weight" else "bias_mask", view)

    def load(self, weights: NDArray[np.float32], mask: Mask) -> None:
        """Copy flat weights and mask [size] in; pruned weights become exactly zero."""
        self.mask.copy_(torch.from_numpy(mask.astype(np.float32)))
        self.flat.copy_(torch.from_numpy(weights) * self.mask)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [n] for features [n, width]."""
        parts: list[Tensor] = []
        if self.output is not None:
            hidden = features
            for layer in self.hidden:
                hidden = self.activation(layer(hidden))
            parts.append(self.output(hidden)[:, 0])
        if self.linear is not None:
            parts.append(self.linear(features)[:, 0])
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]
