"""Compacted models for the tests of each file they leave in."""

import numpy as np

from common.layout import layout_of
from common.plan import ModelPlan
from common.pruning.compaction import CompactModel, compact

WIDTH = 6
METADATA = {"plan_sha256": "ab" * 32, "features": '["é","x1"]', "noise": "local"}


def pruned(kind: str, *hidden: int, activation: str = "relu", kept: float = 0.5) -> CompactModel:
    """Return a random model of which a share ``kept`` of the weights survives."""
    model = ModelPlan.model_validate({"kind": kind, "hidden": hidden, "activation": activation})
    draw = np.random.default_rng(1)
    size = layout_of(model, WIDTH).size
    weights = draw.normal(0, 0.5, size).astype(np.float32)
    return compact(model, WIDTH, weights, draw.uniform(size=size) < kept)


MODELS = {
    "wide and deep": pruned("wide_and_deep", 9, 5),
    "tanh": pruned("wide_and_deep", 9, 5, activation="tanh"),
    "mlp": pruned("mlp", 8, kept=0.9),
    "three layers": pruned("mlp", 9, 8, 7),
    "logistic": pruned("logistic"),
    "only a skip": pruned("wide_and_deep", kept=0.3),
    "a constant": pruned("mlp", 3, kept=0.0),
}
