"""Local DP-SGD: Poisson batches, clipped sums, Gaussian noise, only on surviving weights."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.clipping import ClippedSum
from client.data import Examples
from common.entropy import Stream
from common.model import Network


@dataclass(frozen=True, slots=True)
class LocalSteps:
    """The public parameters of one round's local training."""

    steps: int
    sample_rate: float
    expected_batch: float
    learning_rate: float
    max_grad_norm: float
    noise_multiplier: float


def train(
    network: Network, examples: Examples, local: LocalSteps, stream: Stream
) -> NDArray[np.float32]:
    """Train the loaded network; return its private update [size], zero where pruned.

    Norms, clipping and noise act on surviving weights only, and the weights are masked after
    every step: noise would otherwise refill what was pruned.
    """
    clipped_sum = ClippedSum(network, local.max_grad_norm)
    features, labels = torch.from_numpy(examples.features), torch.from_numpy(examples.labels)
    generator = torch.Generator().manual_seed(int.from_bytes(stream(8), "big") >> 1)
    noise_sd = local.noise_multiplier * local.max_grad_norm
    start = network.flat.clone()
    try:
        for _ in range(local.steps):
            batch = torch.rand(len(features), generator=generator) < local.sample_rate
            gradient = clipped_sum(features[batch], labels[batch])
            if noise_sd > 0:
                noise = torch.randn(gradient.shape, generator=generator)
                gradient += noise_sd * noise * network.mask
            network.flat.sub_(gradient, alpha=local.learning_rate / local.expected_batch)
    finally:
        clipped_sum.close()
    return (network.flat - start).numpy()
