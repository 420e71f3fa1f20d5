"""Local DP-SGD: Poisson batches, clipped sums, discrete Gaussian noise, on surviving weights."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.clipping import ClippedSum
from client.data import Examples, Positions
from common.entropy import Stream, keystream
from common.model import Network
from common.privacy.noise import Grid, grid_of, poisson_sample
from common.pruning.penalties import Proximal

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Where networks and records lie; noise and samples are drawn on the CPU."""


@dataclass(frozen=True, slots=True)
class LocalSteps:
    """The public parameters of one round's local training.

    ``rows`` is how many rows a unit of privacy may have: ``max_grad_norm`` bounds them together.
    """

    steps: int
    sample_rate: float
    expected_batch: float
    learning_rate: float
    max_grad_norm: float
    noise_multiplier: float
    rows: int = 1
    proximal: Proximal | None = None

    @property
    def row_norm(self) -> float:
        """What each row's gradient is clipped to."""
        return self.max_grad_norm / self.rows

    def grid(self, size: int) -> Grid | None:
        """Return the grid of each step's sum over ``size`` weights; None without noise."""
        if self.noise_multiplier == 0:
            return None
        return grid_of(self.noise_multiplier, self.max_grad_norm, size)


def train(
    network: Network, examples: Examples, local: LocalSteps, stream: Stream
) -> NDArray[np.float32]:
    """Train the loaded network; return its private update [size], zero where pruned.

    Norms, clipping and noise act on surviving weights only: noise would otherwise refill what
    was pruned.
    """
    device = network.flat.device
    features = torch.from_numpy(examples.features).to(device)
    labels = torch.from_numpy(examples.labels).to(device)
    # Indexing costs a third of the noise, so a whole network does without.
    kept = slice(None) if network.mask.all() else network.mask.nonzero()[:, 0]
    start = network.flat.clone()
    stream = keystream(stream(32))
    clipped_sum = ClippedSum(network, local.row_norm)
    try:
        for _ in range(local.steps):
            batch = sample(examples, local.sample_rate, stream)
            rows = torch.from_numpy(batch).to(device)
            step(network, clipped_sum, features[rows], labels[rows], kept, local, stream)
    finally:
        clipped_sum.close()
    return (network.flat - start).cpu().numpy()


@dataclass(frozen=True, slots=True)
class SharedStep:
    """The public parameters of a round's one step under shared noise.

    Each row's gradient is clipped to ``row_norm``. Each value of the clipped sum saturates at
    ``bound`` before noise; ``grid`` has a share of it.
    """

    sample_rate: float
    row_norm: float
    bound: float
    grid: Grid


def release(
    network: Network, examples: Examples, shared: SharedStep, stream: Stream
) -> NDArray[np.int64]:
    """Return one batch's clipped sum with this share of the noise, in levels [kept].

    The values are those of the surviving weights of the loaded network, in their order.
    """
    stream = keystream(stream(32))
    batch = torch.from_numpy(sample(examples, shared.sample_rate, stream))
    clipped_sum = ClippedSum(network, shared.row_norm)
    try:
        device = network.flat.device
        features = torch.from_numpy(examples.features)[batch].to(device)
        gradient = clipped_sum(features, torch.from_numpy(examples.labels)[batch].to(device))
    finally:
        clipped_sum.close()
    values = gradient[network.mask > 0].clamp_(-shared.bound, shared.bound)
    return shared.grid.release(values.cpu().numpy(), stream)


def sample(examples: Examples, rate: float, stream: Stream) -> Positions:
    """Return the rows, ascending, of a batch that holds each unit by itself at ``rate``.

    A customer's rows come all or none of them.
    """
    if examples.customers is None:
        return poisson_sample(len(examples), rate, stream)
    present = np.zeros(examples.customers.max(initial=-1) + 1, np.bool_)
    present[poisson_sample(len(present), rate, stream)] = True
    return np.flatnonzero(present[examples.customers])


def step(  # noqa: PLR0913, PLR0917  (what a step reads, all of it per round or per batch)
    network: Network,
    clipped_sum: ClippedSum,
    features: Tensor,
    labels: Tensor,
    kept: Tensor | slice,
    local: LocalSteps,
    stream: Stream,
) -> None:
    """Move the network by one noised clipped sum over a batch; noise falls on ``kept`` weights."""
    gradient = clipped_sum(features, labels)
    grid = local.grid(network.layout.size)
    if grid is not None:
        values = gradient[kept].cpu()
        grid.perturb(values.numpy(), stream)
        gradient[kept] = values.to(gradient.device)
    network.flat.sub_(gradient, alpha=local.learning_rate / local.expected_batch)
    if local.proximal is not None:
        values = network.flat.cpu()
        local.proximal(values.numpy())
        network.flat.copy_(values)
