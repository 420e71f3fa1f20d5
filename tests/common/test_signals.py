import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.entropy import SeededEntropy
from common.model import Network, initial_weights, layout_of
from common.plan import ModelPlan
from common.signals import SIGNAL_LIMIT, largest_signal

KINDS = ("logistic", "mlp", "wide_and_deep")
WIDTH = 5


def model_of(kind: str) -> ModelPlan:
    return ModelPlan.model_validate({"kind": kind, "hidden": (6, 4)})


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 50))
def test_no_record_passes_the_bound(kind: str, seed: int, scale: float) -> None:
    plan, generator = model_of(kind), np.random.default_rng(seed)
    layout = layout_of(plan, WIDTH)
    weights = (scale * generator.normal(size=layout.size)).astype(np.float32)
    network = Network(plan, WIDTH)
    network.load(weights, np.ones(layout.size, np.bool_))
    features = torch.from_numpy(generator.uniform(-1, 1, (64, WIDTH)).astype(np.float32))
    seen: list[float] = [float(network(features).detach().abs().max())]
    hidden = features
    for layer in network.hidden:
        hidden = network.activation(layer(hidden))
        seen.append(float(hidden.detach().abs().max()))
    # The wide part's own sum is bounded apart from the deep part's.
    assert max(seen) <= 2 * largest_signal(layout, weights) * (1 + 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_models_are_far_below_the_limit(kind: str) -> None:
    weights = initial_weights(model_of(kind), WIDTH, SeededEntropy(0).stream("initial"))
    assert largest_signal(layout_of(model_of(kind), WIDTH), weights) < 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1e9, 3e38])
def test_weights_that_could_overflow_pass_the_limit(kind: str, size: float) -> None:
    layout = layout_of(model_of(kind), WIDTH)
    for entry in layout.entries:
        if not entry.name.endswith(".weight"):
            continue
        weights = np.full(layout.size, 0.1, np.float32)
        weights[entry.offset] = size
        assert largest_signal(layout, weights) > SIGNAL_LIMIT, entry.name


def test_bound_that_overflows_is_infinite() -> None:
    plan = ModelPlan.model_validate({"kind": "mlp", "hidden": (6,) * 12})
    layout = layout_of(plan, WIDTH)
    assert largest_signal(layout, np.full(layout.size, 3e38, np.float32)) == float("inf")
