from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from client import training
from client.clipping import ClippedSum
from client.training import LocalSteps, train
from common.entropy import SeededEntropy
from common.model import Network, initial_weights
from common.plan import ModelPlan
from common.pruning.masks import Mask
from tests.support import WIDTH, small_examples

MODEL = ModelPlan(hidden=(128, 64))
ROWS = small_examples(200, seed=5)
NO_ROWS = small_examples(0, seed=5)
LOCAL = LocalSteps(
    steps=5,
    sample_rate=0.2,
    expected_batch=40.0,
    learning_rate=0.5,
    max_grad_norm=0.8,
    noise_multiplier=1.3,
)


def loaded(model: ModelPlan = MODEL) -> tuple[Network, Mask]:
    """Return a network with a third of its weights pruned."""
    network = Network(model, WIDTH)
    mask = np.arange(network.layout.size) % 3 > 0
    stream = SeededEntropy(0).stream("initial")
    network.load(initial_weights(model, WIDTH, stream) + np.float32(0.01), mask)
    return network, mask


def trained(local: LocalSteps, seed: int = 0, rows: object = ROWS) -> NDArray[np.float32]:
    assert isinstance(rows, type(ROWS))
    return train(loaded()[0], rows, local, SeededEntropy(seed).stream("train"))


@pytest.mark.parametrize("noise_multiplier", [0.0, 1.3])
def test_pruned_weights_are_exactly_zero_after_every_step(noise_multiplier: float) -> None:
    for steps in range(1, 6):
        network, mask = loaded()
        local = replace(LOCAL, steps=steps, noise_multiplier=noise_multiplier)
        update = train(network, ROWS, local, SeededEntropy(0).stream("train"))
        assert not update[~mask].any()
        assert not network.flat[torch.from_numpy(~mask)].any()
        assert np.count_nonzero(network.flat[torch.from_numpy(mask)]) > 0.9 * mask.sum()


def test_update_is_the_way_from_the_loaded_model() -> None:
    network, _ = loaded()
    start = network.flat.clone()
    update = train(network, ROWS, LOCAL, SeededEntropy(0).stream("train"))
    np.testing.assert_array_equal(update, (network.flat - start).numpy())
    assert update.dtype == np.float32


def noise_of(local: LocalSteps) -> NDArray[np.float64]:
    """Return what training adds to surviving weights where there is no record: noise alone."""
    mask = loaded()[1]
    updates = [trained(local, seed, NO_ROWS)[mask] for seed in range(8)]
    return np.concatenate(updates).astype(np.float64)


def expected_noise(local: LocalSteps) -> float:
    """Return the standard deviation that the mechanism's definition gives."""
    per_step = local.noise_multiplier * local.max_grad_norm
    return per_step * sqrt(local.steps) * local.learning_rate / local.expected_batch


def is_noise_of(values: NDArray[np.float64], scale: float) -> bool:
    """Test variance, mean and the tails against a Gaussian, each at four standard errors."""
    standard = values / scale
    size = len(values)
    return bool(
        abs(np.mean(standard**2) - 1) < 4 * sqrt(2 / size)
        and abs(np.mean(standard)) < 4 / sqrt(size)
        and abs(np.mean(np.abs(standard) > 2) - 0.0455) < 4 * sqrt(0.0455 / size)
    )


@pytest.mark.parametrize(
    "change",
    [{}, {"noise_multiplier": 0.4}, {"max_grad_norm": 3.0}, {"steps": 1}, {"expected_batch": 7.0}],
)
def test_noise_has_the_right_scale_and_a_wrong_one_is_noticed(change: dict[str, Any]) -> None:
    local = replace(LOCAL, **change)
    values, scale = noise_of(local), expected_noise(local)
    assert len(values) > 45_000
    assert is_noise_of(values, scale)
    assert not is_noise_of(values, 1.05 * scale)
    assert not is_noise_of(values, 0.95 * scale)
    assert not is_noise_of(scale * np.sign(values), scale)


def test_steps_draw_fresh_noise() -> None:
    one = noise_of(replace(LOCAL, steps=1))
    two = noise_of(replace(LOCAL, steps=2))
    assert abs(np.corrcoef(one, two - one)[0, 1]) < 4 / sqrt(len(one))
    assert np.corrcoef(one, two)[0, 1] == pytest.approx(sqrt(0.5), abs=0.02)


def test_no_noise_falls_on_pruned_weights() -> None:
    mask = loaded()[1]
    update = trained(LOCAL, rows=NO_ROWS)
    assert not update[~mask].any()
    assert update[mask].all()


def test_without_noise_and_records_nothing_moves() -> None:
    quiet = replace(LOCAL, noise_multiplier=0.0)
    assert not trained(quiet, rows=NO_ROWS).any()
    assert trained(quiet).any()


def test_a_quiet_full_batch_is_plain_clipped_descent() -> None:
    local = replace(LOCAL, steps=1, noise_multiplier=0.0, sample_rate=1.0)
    network, _ = loaded()
    clipped_sum = ClippedSum(network, local.max_grad_norm)
    total = clipped_sum(torch.from_numpy(ROWS.features), torch.from_numpy(ROWS.labels)).numpy()
    clipped_sum.close()
    step = -local.learning_rate / local.expected_batch * total
    np.testing.assert_allclose(trained(local), step, rtol=1e-4, atol=1e-7)
    assert not np.allclose(trained(replace(local, sample_rate=0.5)), step, rtol=1e-4, atol=1e-7)


def test_training_is_repeated_by_its_stream_alone() -> None:
    first = trained(LOCAL, seed=1)
    torch.manual_seed(9)  # the global generator plays no part
    np.testing.assert_array_equal(trained(LOCAL, seed=1), first)
    assert not np.array_equal(trained(LOCAL, seed=2), first)
    quiet = replace(LOCAL, noise_multiplier=0.0)
    assert not np.array_equal(trained(quiet, seed=1), trained(quiet, seed=2))


def test_batches_are_poisson_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[Tensor] = []

    class Recorder(ClippedSum):
        def __call__(self, features: Tensor, labels: Tensor) -> Tensor:
            batches.append(features)
            return torch.zeros_like(self._network.flat)

    monkeypatch.setattr(training, "ClippedSum", Recorder)
    trained(replace(LOCAL, steps=600, sample_rate=0.1))
    sizes = np.array([len(batch) for batch in batches], float)
    rows, rate = len(ROWS), 0.1
    deviation = sqrt(rows * rate * (1 - rate))
    assert abs(sizes.mean() - rows * rate) < 4 * deviation / sqrt(600)
    # A batch of fixed size would have no spread: then the accountant's claim would not hold.
    assert abs(sizes.std() / deviation - 1) < 4 / sqrt(2 * 600)
    seen = np.array(
        [
            [row in set(batch[:, 0].tolist()) for row in ROWS.features[:2, 0].tolist()]
            for batch in batches
        ]
    )
    assert abs(np.corrcoef(seen.T)[0, 1]) < 4 / sqrt(600)


def test_training_learns() -> None:
    local = replace(LOCAL, steps=60, noise_multiplier=0.0, sample_rate=1.0, expected_batch=200.0)
    network, _ = loaded()
    features, labels = torch.from_numpy(ROWS.features), torch.from_numpy(ROWS.labels)

    def loss() -> float:
        with torch.no_grad():
            logits = network(features)
        return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, labels))

    before = loss()
    train(network, ROWS, local, SeededEntropy(0).stream("train"))
    assert loss() < before - 0.03


def test_hooks_come_off_even_when_training_fails() -> None:
    network, _ = loaded()
    broken = replace(ROWS, features=np.ones((200, WIDTH + 1), np.float32))
    with pytest.raises(RuntimeError, match="shapes"):
        train(network, broken, LOCAL, SeededEntropy(0).stream("train"))
    assert train(network, ROWS, LOCAL, SeededEntropy(0).stream("train")).any()
