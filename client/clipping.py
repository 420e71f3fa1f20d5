"""Exact per-record clipping on surviving weights, in one backward pass.

A record's gradient of a linear layer is the outer product of its output gradient g and its
input a, so its squared norm on the mask M is (g^2 M) . a^2, and the clipped sum is one weighted
product (book-keeping: Bu et al. 2023, "Differentially Private Optimization on Large Model at
Small Cost", section 3). Neither a per-record gradient nor the ordinary one is ever computed.
The norms come from a sampler that is registered with Opacus too, so that its own engine clips
a masked layer alike.
"""

from math import prod

import torch
from opacus.grad_sample.utils import register_norm_sampler
from torch import Tensor, nn
from torch.linalg import vector_norm

from common.model import MaskedLinear, Network

PHYSICAL_BATCH = 1024
"""Records in memory at once; a larger batch is summed in pieces."""

SLACK = 1e-6
"""Added to a norm before it divides, as Opacus does: a zero gradient stays zero."""


def _squares(layer: MaskedLinear, inputs: Tensor, gradients: Tensor) -> list[Tensor]:
    """Return each record's squared gradient norm [n] on surviving weights, then on biases."""
    gradients = gradients.square()
    # Both orders give the same number; each time the smaller product is made.
    if layer.out_features < layer.in_features:
        weights = (inputs.square() @ layer.mask.T).mul_(gradients).sum(1)
    else:
        weights = (gradients @ layer.mask).mul_(inputs).mul_(inputs).sum(1)
    return [weights] if layer.bias is None else [weights, gradients @ layer.bias_mask]


@register_norm_sampler(MaskedLinear)  # type: ignore[untyped-decorator]
def masked_norms(
    layer: MaskedLinear, activations: list[Tensor], backprops: Tensor
) -> dict[Tensor, Tensor]:
    """Return each record's gradient norm [n] on surviving weights, by parameter."""
    parameters = [parameter for parameter in (layer.weight, layer.bias) if parameter is not None]
    squares = _squares(layer, activations[0], backprops)
    return {p: square.sqrt() for p, square in zip(parameters, squares, strict=True)}


class ClippedSum:
    """Sum of clipped per-record gradients of the logistic loss."""

    def __init__(self, network: Network, max_grad_norm: float) -> None:
        """Let the loaded ``network`` capture; ``max_grad_norm`` bounds a record (L2 of all)."""
        self._network, self._max_grad_norm = network, max_grad_norm
        self._layers = {
            name: layer
            for name, layer in network.named_modules()
            if isinstance(layer, MaskedLinear)
        }
        self._entries = network.layout.entries
        self._sizes = [prod(entry.shape) for entry in self._entries]
        self._whole = bool(network.mask.all())
        self._unpruned = [
            name
            for name, layer in self._layers.items()
            if layer.mask.all() and (layer.bias is None or layer.bias_mask.all())
        ]
        self._pruned = [name for name in self._layers if name not in self._unpruned]
        self._biases = network.flat.new_tensor(
            [float(self._layers[name].bias is not None) for name in self._unpruned]
        )
        self._capture(True)

    def __call__(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the flat sum [size] over records [n, d], [n]; zero where pruned."""
        total = torch.empty_like(self._network.flat)
        parts = {
            entry.name: part.view(entry.shape)
            for entry, part in zip(self._entries, total.split(self._sizes), strict=True)
        }
        pieces = zip(features.split(PHYSICAL_BATCH), labels.split(PHYSICAL_BATCH), strict=True)
        for index, piece in enumerate(pieces):
            self._add(parts, *piece, beta=min(index, 1))
        return total if self._whole else total.mul_(self._network.mask)

    def _add(
        self, parts: dict[str, Tensor], features: Tensor, labels: Tensor, *, beta: int
    ) -> None:
        """Add a piece's clipped sum to the sums by parameter, ``beta`` 0 being the first."""
        logits = self._network(features)
        # The derivative of the logistic loss, so that the loss itself need not be computed.
        logits.backward(logits.detach().sigmoid().sub_(labels))
        with torch.no_grad():
            norms = self._norms()
            if not norms.isfinite().all():
                self._leave_out(norms)
            factors = (self._max_grad_norm / (norms + SLACK)).clamp_(max=1)
            column = factors[:, None]
            for name, layer in self._layers.items():
                inputs, gradients = layer.captured
                if layer.bias is not None:
                    parts[f"{name}.bias"].addmv_(gradients.T, factors, beta=beta)
                if layer.in_features < layer.out_features:
                    inputs = inputs * column
                else:
                    gradients = gradients * column
                parts[f"{name}.weight"].addmm_(gradients.T, inputs, beta=beta)

    def _leave_out(self, norms: Tensor) -> None:
        """Let records whose gradient overflows add nothing, whatever the others do.

        Left in, one of them would make the whole sum NaN, which no noise hides.
        """
        finite = norms.isfinite()[:, None]
        norms.masked_fill_(~finite[:, 0], torch.inf)
        for layer in self._layers.values():
            inputs, gradients = layer.captured
            layer.captured = inputs.where(finite, 0.0), gradients.where(finite, 0.0)

    def _norms(self) -> Tensor:
        """Return the gradient norm [n] of each record that the layers have captured."""
        squares = [
            square
            for name in self._pruned
            for square in _squares(self._layers[name], *self._layers[name].captured)
        ]
        if self._unpruned:
            # Of a whole layer, the gradient's norm is the product of two norms.
            captured = [self._layers[name].captured for name in self._unpruned]
            inputs = torch.stack([vector_norm(inputs, dim=1) for inputs, _ in captured], 1)
            gradients = torch.stack([vector_norm(gradients, dim=1) for _, gradients in captured], 1)
            squares.append(gradients.square_().mul_(inputs.square_().add_(self._biases)).sum(1))
        return torch.stack(squares).sum(0).sqrt_()

    def close(self) -> None:
        """Let the network train as any other again."""
        self._capture(False)

    def _capture(self, capturing: bool) -> None:
        for layer in self._layers.values():
            layer.capturing = capturing
            vars(layer).pop("captured", None)
        if isinstance(self._network.activation, nn.ReLU):
            # A layer's outputs are not read again, and overwriting them spares the cache.
            self._network.activation.inplace = capturing
