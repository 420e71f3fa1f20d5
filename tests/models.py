"""A finished model's directory without a federation: random weights, as a run would leave it."""

from pathlib import Path

import numpy as np
import onnx

from common.export.onnx_file import ONNX, onnx_bytes
from common.facts import metadata_of
from common.model import Network
from common.plan import Plan
from common.pruning.compaction import unpruned


def random_network(plan: Plan, seed: int = 0, scale: float = 0.5) -> Network:
    """Return the plan's network with every weight drawn, so that all parts of it matter."""
    network = Network(plan.model, plan.schema_.width)
    draw = np.random.default_rng(seed)
    weights = draw.normal(0, scale, network.layout.size).astype(np.float32)
    network.load(weights, np.ones(network.layout.size, np.bool_))
    return network


def onnx_of(plan: Plan, network: Network) -> onnx.ModelProto:
    """Return the network as the plan's ONNX model, to be changed by a test."""
    small = unpruned(plan.model, plan.schema_.width, network.flat.numpy())
    return onnx.load_model_from_string(onnx_bytes(small, metadata_of(plan)))


def write_model(directory: Path, plan: Plan, model: Network | onnx.ModelProto) -> Path:
    """Write the directory that scoring reads."""
    proto = onnx_of(plan, model) if isinstance(model, Network) else model
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "plan.toml").write_text(plan.to_toml())
    (directory / ONNX).write_bytes(proto.SerializeToString())
    return directory
