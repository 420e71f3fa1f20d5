from itertools import pairwise
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.layout import layout_of
from common.model import Network
from common.plan import ModelPlan
from common.pruning.compaction import CompactModel, assembled, compact, shapes_of, unpruned
from common.pruning.masks import Mask

Vector = NDArray[np.float32]


def plan_of(kind: str, *hidden: int, activation: str = "relu") -> ModelPlan:
    return ModelPlan.model_validate({"kind": kind, "hidden": hidden, "activation": activation})


def masked_logits(
    model: ModelPlan, width: int, weights: Vector, mask: Mask, features: Vector
) -> Vector:
    """Return what torch makes of the masked model: zeros and all."""
    network = Network(model, width)
    network.load(weights, mask)
    with torch.no_grad():
        logits: Vector = network(torch.from_numpy(features)).numpy()
    return logits


def features_of(width: int, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).uniform(-1, 1, (9, width)).astype(np.float32)


def weights_of(model: ModelPlan, width: int, seed: int = 0) -> Vector:
    size = layout_of(model, width).size
    return np.random.default_rng(seed).normal(0, 0.5, size).astype(np.float32)


def at_fixed_point(model: CompactModel) -> bool:
    """Say whether every neuron has an input and an output."""
    matrices = [layer.weight for layer in model.hidden] + [model.output[None]]
    return all(
        fed.any(axis=1).all() and reads.any(axis=0).all() for fed, reads in pairwise(matrices)
    )


models = st.builds(
    lambda kind, hidden, activation: plan_of(kind, *hidden, activation=activation),
    st.sampled_from(["wide_and_deep", "mlp", "logistic"]),
    st.lists(st.integers(1, 7), max_size=4),
    st.sampled_from(["relu", "tanh"]),
)


@given(models, st.integers(1, 6), st.integers(0, 2**31), st.sampled_from([0, 0.1, 0.3, 0.7, 1]))
def test_logits_are_those_of_the_masked_model(
    model: ModelPlan, width: int, seed: int, kept: float
) -> None:
    draw = np.random.default_rng(seed)
    weights = weights_of(model, width, seed)
    mask = draw.uniform(size=len(weights)) < kept
    features = features_of(width, seed)
    small = compact(model, width, weights, mask)
    expected = masked_logits(model, width, weights, mask, features)
    np.testing.assert_allclose(small.forward(features), expected, rtol=0, atol=1e-5)
    assert small.forward(features).dtype == np.float32
    assert at_fixed_point(small)
    whole = unpruned(model, width, weights * mask)
    np.testing.assert_allclose(whole.forward(features), expected, rtol=0, atol=1e-5)
    assert sum(small.sizes) <= sum(whole.sizes)


@given(models, st.integers(1, 6), st.integers(0, 2**31))
def test_neurons_pruned_whole_leave_smaller_layers(model: ModelPlan, width: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    layout = layout_of(model, width)
    mask = np.ones(layout.size, np.bool_)
    parts = layout.split(mask)
    hidden = model.hidden if model.kind != "logistic" else ()
    kept = [draw.permutation(size) < draw.integers(1, size + 1) for size in hidden]
    for index, stays in enumerate(kept):
        after = f"hidden.{index + 1}.weight" if index + 1 < len(kept) else "output.weight"
        for name, axis in ((f"hidden.{index}.weight", 0), (f"hidden.{index}.bias", 0), (after, 1)):
            np.moveaxis(parts[name], axis, 0)[~stays] = False
    weights = weights_of(model, width, seed)
    small = compact(model, width, weights, mask)
    assert small.sizes == tuple(int(stays.sum()) for stays in kept)
    features = features_of(width, seed)
    expected = masked_logits(model, width, weights, mask, features)
    np.testing.assert_allclose(small.forward(features), expected, rtol=0, atol=1e-5)


def chain(activation: str = "tanh") -> tuple[ModelPlan, Vector, dict[str, Vector]]:
    """Return 2-2-2-1 with a linear skip, its weights, and views of them by name."""
    model = plan_of("wide_and_deep", 2, 2, activation=activation)
    weights = np.arange(1, layout_of(model, 2).size + 1, dtype=np.float32) / 10
    return model, weights, layout_of(model, 2).split(weights)  # type: ignore[return-value]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("bias", [-0.5, 0.0, 0.5])
def test_a_neuron_without_inputs_folds_into_the_next_bias(activation: str, bias: float) -> None:
    model, weights, part = chain(activation)
    part["hidden.0.weight"][1] = 0
    part["hidden.0.bias"][1] = bias
    small = compact(model, 2, weights, np.ones(len(weights), np.bool_))
    assert small.sizes == (1, 2)
    constant = np.tanh(bias) if activation == "tanh" else max(bias, 0)
    folded = part["hidden.1.bias"] + part["hidden.1.weight"][:, 1] * constant
    np.testing.assert_allclose(small.hidden[1].bias, folded, rtol=1e-6)
    np.testing.assert_array_equal(small.hidden[1].weight, part["hidden.1.weight"][:, :1])


def test_a_pruned_bias_folds_nothing() -> None:
    model, weights, part = chain()
    mask = np.ones(len(weights), np.bool_)
    kept = layout_of(model, 2).split(mask)
    kept["hidden.0.weight"][1] = kept["hidden.0.bias"][1] = False
    small = compact(model, 2, weights, mask)
    np.testing.assert_array_equal(small.hidden[1].bias, part["hidden.1.bias"])


def test_folding_goes_on_through_the_layers() -> None:
    model, weights, part = chain()
    part["hidden.0.weight"][1] = 0
    part["hidden.1.weight"][0, 0] = 0
    small = compact(model, 2, weights, np.ones(len(weights), np.bool_))
    # Its one live input gone, the first neuron of the second layer is constant as well.
    assert small.sizes == (1, 1)
    first = np.tanh(part["hidden.0.bias"][1])
    second = np.tanh(part["hidden.1.bias"][0] + part["hidden.1.weight"][0, 1] * first)
    expected = part["output.bias"] + part["output.weight"][0, 0] * second
    np.testing.assert_allclose(small.bias, expected, rtol=1e-6)


def test_a_neuron_nobody_reads_goes_and_takes_its_feeders() -> None:
    model, weights, part = chain()
    part["output.weight"][0, 1] = 0
    part["hidden.1.weight"][0, 0] = 0
    small = compact(model, 2, weights, np.ones(len(weights), np.bool_))
    assert small.sizes == (1, 1)
    np.testing.assert_array_equal(small.hidden[0].bias, part["hidden.0.bias"][1:])
    np.testing.assert_array_equal(small.bias, part["output.bias"])


@pytest.mark.parametrize("name", ["hidden.0.weight", "hidden.1.weight", "output.weight"])
def test_a_pruned_layer_leaves_a_constant_and_the_linear_skip(name: str) -> None:
    model, weights, part = chain()
    part[name][:] = 0
    mask = np.ones(len(weights), np.bool_)
    small = compact(model, 2, weights, mask)
    assert (small.sizes, small.output.shape) == ((), (0,))
    assert small.linear is not None
    np.testing.assert_array_equal(small.linear, part["linear.weight"][0])
    features = features_of(2)
    np.testing.assert_allclose(
        small.forward(features), masked_logits(model, 2, weights, mask, features), atol=1e-6
    )


def test_a_model_pruned_to_nothing_is_its_bias() -> None:
    model = plan_of("mlp", 3)
    weights = weights_of(model, 2)
    mask = np.arange(len(weights)) == len(weights) - 1
    small = compact(model, 2, weights, mask)
    assert (small.sizes, small.linear) == ((), None)
    assert small.forward(features_of(2)).tolist() == [weights[-1]] * 9


@pytest.mark.parametrize("kind", ["wide_and_deep", "mlp", "logistic"])
@pytest.mark.parametrize("hidden", [(), (3,), (4, 2)])
def test_tensors_and_shapes_tell_the_whole_model(kind: str, hidden: tuple[int, ...]) -> None:
    model = plan_of(kind, *hidden)
    small = unpruned(model, 5, weights_of(model, 5))
    shapes = shapes_of(5, small.sizes, linear=small.linear is not None)
    assert {name: tensor.shape for name, tensor in small.tensors.items()} == shapes
    assert list(small.tensors) == list(shapes)
    skip_merged = kind == "wide_and_deep" and not hidden
    assert sum(map(prod, shapes.values())) == layout_of(model, 5).size - 5 * skip_merged
    again = assembled(5, "relu", small.tensors)
    features = features_of(5)
    np.testing.assert_array_equal(again.forward(features), small.forward(features))
    assert (again.sizes, list(again.tensors)) == (small.sizes, list(small.tensors))
