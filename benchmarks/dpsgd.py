"""What does a private step cost? Ours against a non-private one, and against Opacus' own two.

One model (64-256-128-1, nothing pruned), one thread, all contenders in turn, medians. A step is
forward, backward, clipping and the move of the weights on a given batch; a whole step adds the
noise. Memory is the most that torch holds at once during a step beyond what it held before.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn

from client.clipping import ClippedSum
from client.training import LocalSteps, step
from common.entropy import keystream
from common.model import Network
from common.plan import ModelPlan

WIDTH, HIDDEN = 64, (256, 128)
BATCHES = (256, 1024)
MEMORY_BATCH = 4096
REPEATS = 3
RATE, MAX_GRAD_NORM, NOISE_MULTIPLIER = 0.1, 1.0, 1.0
BARS = {
    "step_vs_nonprivate": 1.6,
    "speedup_vs_hooks": 12.0,
    "speedup_vs_ghost": 1.6,
    "memory_vs_nonprivate": 1.5,
}

Step = Callable[[], object]


def peer() -> nn.Sequential:
    """Return the model as anybody would write it."""
    return nn.Sequential(
        nn.Linear(WIDTH, HIDDEN[0]),
        nn.ReLU(),
        nn.Linear(HIDDEN[0], HIDDEN[1]),
        nn.ReLU(),
        nn.Linear(HIDDEN[1], 1),
        nn.Flatten(0),
    )


def nonprivate(features: Tensor, labels: Tensor) -> Step:
    """Return a step of plain SGD."""
    model, criterion = peer(), nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def run() -> None:
        optimizer.zero_grad()
        criterion(model(features), labels).backward()
        optimizer.step()

    return run


def hooks(features: Tensor, labels: Tensor) -> Step:
    """Return a step of Opacus' default, which stores every per-record gradient."""
    model, criterion = GradSampleModule(peer()), nn.BCEWithLogitsLoss()
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=RATE),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=MAX_GRAD_NORM,
        expected_batch_size=len(labels),
    )

    def run() -> None:
        optimizer.zero_grad()
        criterion(model(features), labels).backward()
        optimizer.step()

    return run


def ghost(features: Tensor, labels: Tensor) -> Step:
    """Return a step of Opacus' ghost clipping, which goes backward twice."""
    model = GradSampleModuleFastGradientClipping(peer(), max_grad_norm=MAX_GRAD_NORM)
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(model.parameters(), lr=RATE),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=MAX_GRAD_NORM,
        expected_batch_size=len(labels),
    )
    criterion = DPLossFastGradientClipping(model, optimizer, nn.BCEWithLogitsLoss())

    def run() -> None:
        optimizer.zero_grad()
        criterion(model(features), labels).backward()
        optimizer.step()

    return run


def ours(features: Tensor, labels: Tensor, noise_multiplier: float) -> Step:
    """Return this project's step; its noise comes from a CSPRNG, as in a run."""
    network = Network(ModelPlan(kind="mlp", hidden=HIDDEN), WIDTH)
    size = network.layout.size
    start = np.random.default_rng(0).normal(0, 0.1, size).astype(np.float32)
    network.load(start, np.ones(size, np.bool_))
    local = LocalSteps(1, 1.0, len(labels), RATE, MAX_GRAD_NORM, noise_multiplier)
    clipped_sum, kept = ClippedSum(network, MAX_GRAD_NORM), slice(None)
    stream = keystream(os.urandom(32))
    return partial(step, network, clipped_sum, features, labels, kept, local, stream)


def batch(rows: int) -> tuple[Tensor, Tensor]:
    """Return features in [-1, 1] and labels of ``rows`` records."""
    random = torch.Generator().manual_seed(rows)
    features = torch.rand(rows, WIDTH, generator=random) * 2 - 1
    return features, (torch.rand(rows, generator=random) < 0.2).float()


def medians(steps: dict[str, Step], turns: int) -> dict[str, float]:
    """Return each step's median time in ms over interleaved turns.

    Of the processor, which on an idle machine is the clock's: other work does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, run in steps.items():
            run()  # Finds the caches as another contender left them.
            started = time.process_time()
            for _ in range(REPEATS):
                run()
            times[name].append(1e3 * (time.process_time() - started) / REPEATS)
    return {name: median(values) for name, values in times.items()}


def peak_bytes(run: Step) -> int:
    """Return the most bytes that torch's allocations in a step reach at once."""
    run()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    held = most = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def measure(turns: int) -> dict[str, float]:
    """Return every figure of the benchmark by name."""
    figures: dict[str, float] = {}
    for rows in BATCHES:
        data = batch(rows)
        steps = {
            "nonprivate": nonprivate(*data),
            "step": ours(*data, 0.0),
            "whole_step": ours(*data, NOISE_MULTIPLIER),
            "ghost": ghost(*data),
            "hooks": hooks(*data),
        }
        times = medians(steps, turns)
        figures |= {f"{name}_ms_{rows}": value for name, value in times.items()}
        for name in ("step", "whole_step"):
            figures[f"{name}_vs_nonprivate_{rows}"] = times[name] / times["nonprivate"]
        for name in ("hooks", "ghost"):
            figures[f"speedup_vs_{name}_{rows}"] = times[name] / times["whole_step"]
    data = batch(MEMORY_BATCH)
    whole, plain = ours(*data, NOISE_MULTIPLIER), nonprivate(*data)
    figures[f"memory_vs_nonprivate_{MEMORY_BATCH}"] = peak_bytes(whole) / peak_bytes(plain)
    return figures


def main() -> None:
    """Measure and print; ``--json`` ends with one flat object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    parser.add_argument("--turns", type=int, default=30, help="interleaved turns [default: 30]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Opacus warns that its noise is not cryptographic, and of hooks without an input gradient.
    warnings.filterwarnings("ignore", module="opacus")
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    figures = measure(options.turns)
    for name, value in figures.items():
        bar = BARS.get(name.rpartition("_")[0])
        side = "" if bar is None else f"   bar: {'>=' if 'speedup' in name else '<='} {bar:g}"
        print(f"{name:30} {value:8.2f}{side}")
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
