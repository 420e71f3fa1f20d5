"""How clipping is computed: what Opacus makes of the same layers, and what is not computed."""

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from client import clipping
from client.clipping import ClippedSum
from common.model import MaskedLinear, Network
from common.plan import ModelPlan

WIDTH, ROWS, MAX_GRAD_NORM = 6, 50, 0.3


def loaded(kind: str, seed: int = 0) -> Network:
    network = Network(ModelPlan.model_validate({"kind": kind, "hidden": (16, 8)}), WIDTH)
    random = np.random.default_rng(seed)
    size = network.layout.size
    network.load(random.normal(size=size).astype(np.float32), random.uniform(size=size) < 0.3)
    return network


def rows(count: int = ROWS, seed: int = 1) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, generator=random) < 0.4).float()
    return torch.rand(count, WIDTH, generator=random) * 2 - 1, labels


@pytest.mark.parametrize("kind", ["logistic", "mlp", "wide_and_deep"])
def test_opacus_ghost_clipping_of_the_same_layers_gives_the_same_sum(kind: str) -> None:
    network, (features, labels) = loaded(kind), rows()
    clipped_sum = ClippedSum(network, MAX_GRAD_NORM)
    found = clipped_sum(features, labels)
    clipped_sum.close()

    ghost = GradSampleModuleFastGradientClipping(
        network, loss_reduction="sum", max_grad_norm=MAX_GRAD_NORM
    )
    # A gradient into the features spares torch's warning about hooks that have no such path.
    logits = ghost(features.requires_grad_())
    losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    losses.sum().backward(retain_graph=True)
    factors = ghost.get_clipping_coef()
    ghost.disable_hooks()
    ghost.zero_grad()
    (losses * factors).sum().backward()
    parameters = dict(network.named_parameters())
    expected = torch.cat(
        [torch.as_tensor(parameters[e.name].grad).flatten() for e in network.layout.entries]
    )
    torch.testing.assert_close(found, expected * network.mask, rtol=1e-5, atol=1e-5)
    assert (factors < 1).float().mean() > 0.05
    ghost.remove_hooks()


def test_opacus_norms_are_of_surviving_weights() -> None:
    network, (features, labels) = loaded("mlp"), rows()

    def norms() -> Tensor:
        ghost = GradSampleModuleFastGradientClipping(network, loss_reduction="sum")
        logits = ghost(features.clone().requires_grad_())
        binary_cross_entropy_with_logits(logits, labels, reduction="sum").backward()
        found: Tensor = ghost.get_norm_sample()
        ghost.remove_hooks()
        return found

    masked = norms()
    network.mask.fill_(1)
    assert (norms() > masked).all()


@pytest.mark.parametrize("count", [1, 7, 8, 9, 50])
def test_pieces_of_a_batch_add_up(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    network, (features, labels) = loaded("wide_and_deep"), rows(count)
    clipped_sum = ClippedSum(network, MAX_GRAD_NORM)
    whole = clipped_sum(features, labels)
    sizes: list[int] = []
    network.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    monkeypatch.setattr(clipping, "PHYSICAL_BATCH", 8)
    torch.testing.assert_close(clipped_sum(features, labels), whole, rtol=1e-5, atol=1e-6)
    assert sum(sizes) == count
    assert max(sizes) <= 8
    # A piece of its own must not be clipped as a whole.
    assert whole.norm() <= MAX_GRAD_NORM * count * 1.0001


def test_no_ordinary_gradient_is_computed() -> None:
    network, (features, labels) = loaded("mlp"), rows()
    clipped_sum = ClippedSum(network, MAX_GRAD_NORM)
    assert clipped_sum(features, labels).any()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not features.requires_grad
    clipped_sum.close()
    network(features).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_nothing_of_a_batch_stays_once_clipping_is_closed() -> None:
    network, (features, labels) = loaded("mlp"), rows()
    clipped_sum = ClippedSum(network, MAX_GRAD_NORM)
    clipped_sum(features, labels)
    layers = [layer for layer in network.modules() if isinstance(layer, MaskedLinear)]
    assert all("captured" in vars(layer) for layer in layers)
    clipped_sum.close()
    assert not any("captured" in vars(layer) for layer in layers)
