"""Exact per-record clipping on surviving weights, in one backward pass.

A record's gradient of a linear layer is the outer product of its output gradient g and its
input a, so its squared norm on the mask M is (g^2 M) . a^2, and the clipped sum is one weighted
product (book-keeping: Bu et al. 2023, "Differentially Private Optimization on Large Model at
Small Cost", section 3). No per-record gradient is ever stored. The norms come from a sampler
registered with Opacus.
"""

import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.grad_sample.utils import register_norm_sampler
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from common.model import MaskedLinear, Network


@register_norm_sampler(MaskedLinear)  # type: ignore[untyped-decorator]
def masked_norms(
    layer: MaskedLinear, activations: list[Tensor], backprops: Tensor
) -> dict[Tensor, Tensor]:
    """Return each record's gradient norm [n] on surviving weights; keep what the sum needs."""
    inputs = activations[0]
    layer.captured = (inputs, backprops)
    squares = backprops.square()
    norms = {layer.weight: ((squares @ layer.mask) * inputs.square()).sum(1).sqrt()}
    if layer.bias is not None:
        norms[layer.bias] = (squares @ layer.bias_mask).sqrt()
    return norms


class ClippedSum:
    """Sum of clipped per-record gradients of the logistic loss."""

    def __init__(self, network: Network, max_grad_norm: float) -> None:
        """Hook ``network``; records are clipped to ``max_grad_norm`` (L2, over all layers)."""
        self._network = network
        self._hooked = GradSampleModuleFastGradientClipping(
            network, loss_reduction="sum", max_grad_norm=max_grad_norm
        )
        self._layers = {
            name: layer
            for name, layer in network.named_modules()
            if isinstance(layer, MaskedLinear)
        }

    def __call__(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the flat sum [size] over records [n, d], [n]; zero where pruned."""
        total = torch.zeros_like(self._network.flat)
        if len(features) == 0:
            return total
        # Opacus' hooks see the first layer's gradients only if its input asks for one.
        logits = self._hooked(features.requires_grad_())
        loss = binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        loss.backward()
        factors = self._hooked.get_clipping_coef()
        with torch.no_grad():
            for entry in self._network.layout.entries:
                layer, _, kind = entry.name.rpartition(".")
                inputs, gradients = self._layers[layer].captured
                clipped = gradients * factors[:, None]
                part = clipped.T @ inputs if kind == "weight" else clipped.sum(0)
                total[entry.span] = part.reshape(-1)
        self._hooked.zero_grad()
        return total.mul_(self._network.mask)

    def close(self) -> None:
        """Take the hooks off, so that the network can be hooked again."""
        self._hooked.remove_hooks()
