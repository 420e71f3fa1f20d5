import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.entropy import SeededEntropy
from common.model import Layout, MaskedLinear, Network, initial_weights, layout_of
from common.plan import ModelPlan

KINDS = ("logistic", "mlp", "wide_and_deep")
SIZES = {"logistic": 5 + 1, "mlp": 5 * 7 + 7 + 7 * 3 + 3 + 3 + 1, "wide_and_deep": 70 + 5}
HIDDEN = ["hidden.0.weight", "hidden.0.bias", "hidden.1.weight", "hidden.1.bias"]
NAMES = {
    "logistic": ["linear.weight", "linear.bias"],
    "mlp": [*HIDDEN, "output.weight", "output.bias"],
    "wide_and_deep": [*HIDDEN, "output.weight", "output.bias", "linear.weight"],
}


def plan_of(kind: str, activation: str = "relu") -> ModelPlan:
    return ModelPlan.model_validate({"kind": kind, "hidden": (7, 3), "activation": activation})


def random_weights(layout: Layout) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(size=layout.size).astype(np.float32)


def logits_of(
    weights: NDArray[np.float32], layout: Layout, features: NDArray[np.float32], activation: str
) -> NDArray[np.float64]:
    """Compute the network by hand, in double precision."""
    part = {name: tensor.astype(np.float64) for name, tensor in layout.split(weights).items()}
    logits = np.zeros(len(features))
    if "linear.weight" in part:
        logits += features @ part["linear.weight"][0] + part.get("linear.bias", 0)
    if "output.weight" in part:
        hidden = features.astype(np.float64)
        for index in range(2):
            hidden = hidden @ part[f"hidden.{index}.weight"].T + part[f"hidden.{index}.bias"]
            hidden = np.maximum(hidden, 0) if activation == "relu" else np.tanh(hidden)
        logits += hidden @ part["output.weight"][0] + part["output.bias"]
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_layout_is_contiguous_and_named(kind: str) -> None:
    layout = layout_of(plan_of(kind), 5)
    assert [entry.name for entry in layout.entries] == NAMES[kind]
    assert layout.size == SIZES[kind]
    ends = [entry.span.stop for entry in layout.entries]
    assert [entry.offset for entry in layout.entries] == [0, *ends[:-1]]
    parts = layout.split(np.arange(layout.size))
    assert np.concatenate([part.ravel() for part in parts.values()]).tolist() == list(
        range(layout.size)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_network_computes_what_its_layout_says(kind: str, activation: str) -> None:
    network = Network(plan_of(kind, activation), 5)
    weights = random_weights(network.layout)
    features = np.random.default_rng(4).uniform(-1, 1, (11, 5)).astype(np.float32)
    network.load(weights, np.ones(len(weights), np.bool_))
    with torch.no_grad():
        logits = network(torch.from_numpy(features)).numpy()
    expected = logits_of(weights, network.layout, features, activation)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    changed = weights.copy()
    changed[network.layout.entries[0].span] += 0.1
    assert not np.allclose(
        logits, logits_of(changed, network.layout, features, activation), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_views_of_one_vector_and_there_are_no_buffers(kind: str) -> None:
    network = Network(plan_of(kind), 5)
    network.flat.copy_(torch.arange(network.layout.size, dtype=torch.float32))
    named = dict(network.named_parameters())
    assert set(named) == set(NAMES[kind])
    for entry in network.layout.entries:
        assert named[entry.name].detach().flatten().tolist() == list(
            range(entry.span.start, entry.span.stop)
        )
    assert list(network.buffers()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_loading_makes_pruned_weights_zero(kind: str) -> None:
    network = Network(plan_of(kind), 5)
    weights = random_weights(network.layout)
    mask = np.arange(len(weights)) % 3 > 0
    network.load(weights, mask)
    assert not network.flat[~torch.from_numpy(mask)].any()
    np.testing.assert_array_equal(network.flat[torch.from_numpy(mask)], weights[mask])
    masks: dict[str, torch.Tensor] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, MaskedLinear):
            masks[f"{name}.weight"] = layer.mask
            if layer.bias is not None:
                masks[f"{name}.bias"] = layer.bias_mask
    for entry in network.layout.entries:
        assert masks[entry.name].flatten().tolist() == mask[entry.span].astype(float).tolist()


def test_protected_weights_are_the_biases_and_the_linear_skip() -> None:
    layout = layout_of(plan_of("wide_and_deep"), 5)
    names = {
        name for name, part in layout.split(layout.protected(biases=False)).items() if part.all()
    }
    assert names == {"hidden.0.bias", "hidden.1.bias", "output.bias", "linear.weight"}
    assert layout.protected(biases=False).sum() == 7 + 3 + 1 + 5
    assert layout.protected(biases=True).sum() == 5


def test_a_model_that_is_all_linear_may_be_pruned() -> None:
    layout = layout_of(plan_of("logistic"), 5)
    assert np.flatnonzero(layout.protected(biases=False)).tolist() == [5]
    assert not layout.protected(biases=True).any()


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_output_is_small_and_linear_parts_are_zero(kind: str) -> None:
    plan = plan_of(kind)
    weights = initial_weights(plan, 5, SeededEntropy(0).stream("initial"))
    assert weights.dtype == np.float32
    for name, part in layout_of(plan, 5).split(weights).items():
        if name.startswith("linear") or name.endswith("bias"):
            assert not part.any()
        else:
            scale = plan.initial_scale if name.startswith("output") else 1.0
            limit = scale / np.sqrt(part.shape[1])
            assert part.all()
            assert limit / 4 < np.abs(part).max() <= np.float32(limit)


def test_fresh_weights_follow_their_stream() -> None:
    plan = plan_of("mlp")
    first, again, other = (
        initial_weights(plan, 5, SeededEntropy(seed).stream("initial")) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
