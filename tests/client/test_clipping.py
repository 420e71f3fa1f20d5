"""Clipping against Opacus' own per-record gradients, which this code never stores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from opacus import GradSampleModule
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from client.clipping import ClippedSum, masked_norms
from common.model import MaskedLinear, Network
from common.plan import ModelPlan

KINDS = st.sampled_from(["logistic", "mlp", "wide_and_deep"])
TOLERANCE = 1e-5
OPACUS_SLACK = 1e-6  # added to a norm before it divides


@dataclass(frozen=True)
class Case:
    """A random model, mask and batch."""

    network: Network
    gradients: Tensor
    features: Tensor
    labels: Tensor

    @property
    def norms(self) -> Tensor:
        """Norms [n] of the per-record gradients on surviving weights."""
        norms: Tensor = (self.gradients * self.network.mask).norm(dim=1)
        return norms

    def clipped(self, norms: Tensor, max_grad_norm: float) -> Tensor:
        """Return the sum of gradients clipped by these norms, on surviving weights."""
        factors = (max_grad_norm / (norms + OPACUS_SLACK)).clamp(max=1)
        return (factors[:, None] * self.gradients).sum(0) * self.network.mask


def opacus_gradients(network: Network, plan: ModelPlan, features: Tensor, labels: Tensor) -> Tensor:
    """Return per-record gradients [n, size] of the same weights in plain linear layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.model.MaskedLinear", nn.Linear)
        reference = Network(plan, features.shape[1])
    reference.flat.copy_(network.flat)
    hooked = GradSampleModule(reference, loss_reduction="sum")
    # A gradient into the features spares torch's warning about hooks that have no such path.
    logits = hooked(features.clone().requires_grad_())
    binary_cross_entropy_with_logits(logits, labels, reduction="sum").backward()
    samples: dict[str, Any] = {
        name: vars(parameter)["grad_sample"] for name, parameter in reference.named_parameters()
    }
    hooked.remove_hooks()
    return torch.cat(
        [samples[entry.name].flatten(start_dim=1) for entry in network.layout.entries], dim=1
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, width = draw(st.integers(1, 20)), draw(st.integers(1, 8))
    hidden = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    activation = draw(st.sampled_from(["relu", "tanh"]))
    plan = ModelPlan.model_validate(
        {"kind": draw(KINDS), "hidden": hidden, "activation": activation}
    )
    network = Network(plan, width)
    size = network.layout.size
    mask = random.uniform(size=size) < draw(st.sampled_from([0.1, 0.5, 1.0]))
    network.load(random.normal(size=size).astype(np.float32), mask)
    features = torch.from_numpy(random.uniform(-1, 1, (rows, width)).astype(np.float32))
    labels = torch.from_numpy(random.integers(0, 2, rows).astype(np.float32))
    return Case(network, opacus_gradients(network, plan, features, labels), features, labels)


def summed(case: Case, rows: slice, max_grad_norm: float) -> Tensor:
    """Return this project's clipped sum over some of the records."""
    clipped_sum = ClippedSum(case.network, max_grad_norm)
    total = clipped_sum(case.features[rows].detach(), case.labels[rows])
    clipped_sum.close()
    return total


@given(cases(), st.floats(0.01, 10))
def test_clipped_sum_is_opacus_own_on_surviving_weights(case: Case, max_grad_norm: float) -> None:
    found = summed(case, slice(None), max_grad_norm)
    expected = case.clipped(case.norms, max_grad_norm)
    # Relative to what the records give, because they may cancel in the sum.
    given = case.norms.clamp(max=max_grad_norm).sum()
    assert (found - expected).norm() <= TOLERANCE * given
    assert not found[case.network.mask == 0].any()


@given(cases())
def test_every_records_norm_is_right_and_an_unmasked_one_is_not(case: Case) -> None:
    for index, norm in enumerate(case.norms):
        max_grad_norm = float(norm) / 2
        if max_grad_norm < 1e-3:
            continue
        row = slice(index, index + 1)
        one = Case(case.network, case.gradients[row], case.features[row], case.labels[row])
        found = summed(case, row, max_grad_norm)
        assert (found - one.clipped(one.norms, max_grad_norm)).norm() <= TOLERANCE * max_grad_norm
        unmasked = one.gradients.norm(dim=1)
        if unmasked > 1.001 * norm:
            wrong = one.clipped(unmasked, max_grad_norm)
            assert (found - wrong).norm() > TOLERANCE * max_grad_norm


def test_norm_sampler_masks_weights_and_biases() -> None:
    random = torch.Generator().manual_seed(0)
    layer = MaskedLinear(5, 3)
    inputs, gradients = torch.randn(7, 5, generator=random), torch.randn(7, 3, generator=random)
    layer.mask = (torch.rand(3, 5, generator=random) < 0.5).float()
    layer.bias_mask = torch.tensor([1.0, 0, 1])
    norms = masked_norms(layer, [inputs], gradients)
    outer = gradients[:, :, None] * inputs[:, None, :]
    torch.testing.assert_close(norms[layer.weight], (outer * layer.mask).flatten(1).norm(dim=1))
    torch.testing.assert_close(norms[layer.bias], gradients[:, [0, 2]].norm(dim=1))
    assert not torch.allclose(norms[layer.weight], outer.flatten(1).norm(dim=1))
    assert not torch.allclose(norms[layer.bias], gradients.norm(dim=1))


@given(cases(), st.floats(0.01, 3))
def test_one_record_moves_the_sum_by_at_most_the_clipping_norm(
    case: Case, max_grad_norm: float
) -> None:
    everyone = summed(case, slice(None), max_grad_norm)
    without = summed(case, slice(1, None), max_grad_norm)
    assert (everyone - without).norm() <= max_grad_norm * 1.0001 + 1e-6
    if case.norms[0] > 1.1 * max_grad_norm:
        unclipped = summed(case, slice(None), 1e9) - summed(case, slice(1, None), 1e9)
        assert unclipped.norm() > max_grad_norm * 1.0001


def test_no_records_sum_to_zero_and_hooks_can_be_renewed() -> None:
    network = Network(ModelPlan(hidden=(3,)), 2)
    for _ in range(2):
        clipped_sum = ClippedSum(network, 1.0)
        assert not clipped_sum(torch.empty(0, 2), torch.empty(0)).any()
        assert clipped_sum(torch.ones(1, 2), torch.ones(1)).any()
        clipped_sum.close()
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in network.modules())


@pytest.mark.parametrize("kept", [1.0, 0.5])
@pytest.mark.parametrize("scale", [1e15, 1e25, 1e38, np.inf])
def test_a_record_whose_gradient_overflows_adds_nothing_and_hides_no_other(
    kept: float, scale: float
) -> None:
    network, mask = Network(ModelPlan(hidden=(6, 5)), 4), None
    draw = np.random.default_rng(0)
    size = network.layout.size
    mask = draw.uniform(size=size) < kept
    network.load(draw.normal(size=size).astype(np.float32), mask)
    features = torch.from_numpy(draw.uniform(-1, 1, (9, 4)).astype(np.float32))
    labels = torch.from_numpy((draw.uniform(size=9) < 0.5).astype(np.float32))
    wild = features.clone()
    wild[3] *= scale
    others = [0, 1, 2, 4, 5, 6, 7, 8]
    clipped_sum = ClippedSum(network, 1.0)
    whole, rest = clipped_sum(wild, labels), clipped_sum(features[others], labels[others])
    clipped_sum.close()
    assert whole.isfinite().all()
    # What the record adds is at most one clip, or nothing once its gradient is no number.
    assert torch.linalg.vector_norm(whole - rest) <= 1 + 1e-4
    if scale >= 1e38:
        torch.testing.assert_close(whole, rest, rtol=1e-5, atol=1e-6)
