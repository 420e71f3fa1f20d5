"""What does a smaller model save when it is used? Ours against dense ones, in one run.

One model, 64-512-256-128-1 with random weights. With 75 % of each hidden layer's neurons removed
and compacted it meets, in ONNX Runtime, the dense model and the same masked model whose zeros
stay where they are, and the dense one in torch. All on one thread, in turn, medians. Sizes are of
whole files, metadata included, against the dense ONNX file or dense float32 values alone. Then
`fedprune-client score` reads, scores and writes a million rows (`benchmarks/scoring.py`).
"""

import argparse
import json
import time

import numpy as np
import torch
from scoring import BARS as SCORING_BARS
from scoring import scoring

from common.export.onnx_file import onnx_bytes
from common.export.sparse_file import read_sparse, sparse_bytes
from common.layout import layout_of
from common.model import Network
from common.plan import ModelPlan
from common.pruning.allocation import by_layer
from common.pruning.compaction import Array, compact, unpruned
from common.pruning.granularity import Granularity, neurons, single_weights
from common.pruning.masks import Mask
from common.pruning.selection import prune
from server.latency import BATCHES, Call, call_of, features_of, medians, session_of

WIDTH, MODEL = 64, ModelPlan(kind="mlp", hidden=(512, 256, 128))
LAYOUT = layout_of(MODEL, WIDTH)
THREADS = 1
REMOVED, SPARSITY = 0.75, 0.9
METADATA = {"features": json.dumps([f"x{index}" for index in range(WIDTH)])}
CALLS = {1: 300, 256: 20, 65_536: 1}
SECONDS = 20.0
BARS = {
    "onnx_speedup_structured75_256": 6.0,
    "size_ratio_structured75": 9.0,
    "sparse_file_ratio_90": 7.0,
}


def weights() -> Array:
    """Return random weights of the model, biases included: [size]."""
    return np.random.default_rng(0).normal(0, 0.1, LAYOUT.size).astype(np.float32)


def kept(granularity: Granularity, sparsity: float) -> Mask:
    """Return the mask [size] that pruning by magnitude leaves, each layer alike."""
    everything, protected = np.ones(LAYOUT.size, np.bool_), LAYOUT.protected(biases=False)
    units = granularity(LAYOUT, protected, 1)
    return prune(np.abs(weights()), everything, units, sparsity, by_layer)


def torch_call(features: Array) -> Call:
    """Return a call that computes the dense model in torch."""
    network, batch = Network(MODEL, WIDTH), torch.from_numpy(features)
    network.load(weights(), np.ones(LAYOUT.size, np.bool_))

    def call() -> None:
        with torch.inference_mode():
            network(batch)

    return call


def times(turns: int) -> dict[str, float]:
    """Return each contender's ms by batch, and how many times faster ours is."""
    mask = kept(neurons, REMOVED)
    small = compact(MODEL, WIDTH, weights(), mask)
    models = {
        "compact": small,
        "dense": unpruned(MODEL, WIDTH, weights()),
        "zeros": unpruned(MODEL, WIDTH, np.where(mask, weights(), np.float32(0))),
    }
    sessions = {
        name: session_of(onnx_bytes(model, METADATA), THREADS) for name, model in models.items()
    }
    figures: dict[str, float] = {}
    for rows in BATCHES:
        features = features_of(rows, WIDTH)
        calls = {f"onnx_{name}": call_of(session, features) for name, session in sessions.items()}
        calls["torch_dense"] = torch_call(features)
        # Of the processor, which with one thread is the clock's: other work does not count.
        took = medians(calls, time.process_time, CALLS[rows], turns, SECONDS)
        figures |= {f"{name}_ms_{rows}": value for name, value in took.items()}
        ours = took["onnx_compact"]
        figures[f"onnx_speedup_structured75_{rows}"] = took["onnx_dense"] / ours
        figures[f"onnx_speedup_over_zeros_{rows}"] = took["onnx_zeros"] / ours
        figures[f"speedup_over_torch_{rows}"] = took["torch_dense"] / ours
    return figures


def sizes() -> dict[str, float]:
    """Return how many times smaller the files are; reading gives the model back."""
    mask = kept(single_weights, SPARSITY)
    small = compact(MODEL, WIDTH, weights(), mask)
    dense = unpruned(MODEL, WIDTH, weights())
    structured = compact(MODEL, WIDTH, weights(), kept(neurons, REMOVED))
    zeros = unpruned(MODEL, WIDTH, np.where(mask, weights(), np.float32(0)))
    file, values = sparse_bytes(small, METADATA), 4 * LAYOUT.size
    features = features_of(256, WIDTH)
    again = read_sparse(file).model.forward(features)
    return {
        "size_ratio_structured75": len(onnx_bytes(dense, METADATA))
        / len(onnx_bytes(structured, METADATA)),
        "sparse_file_ratio_90": values / len(file),
        "sparse_file_ratio_90_every_neuron_kept": values / len(sparse_bytes(zeros, METADATA)),
        "sparse_file_largest_logit_difference": float(
            np.abs(again - zeros.forward(features)).max()
        ),
    }


def main() -> None:
    """Measure and print; ``--json`` ends with one flat object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    parser.add_argument("--turns", type=int, default=15, help="interleaved turns [default: 15]")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    figures = {**times(options.turns), **sizes(), **scoring()}
    for name, value in figures.items():
        side = f"   bar: >= {BARS[name]:g}" if name in BARS else ""
        side += f"   bar: < {SCORING_BARS[name]:g}" if name in SCORING_BARS else ""
        print(f"{name:42} {value:10.3g}{side}")
    if options.json:
        print(json.dumps({name: round(value, 7) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
