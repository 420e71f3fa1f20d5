import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from common.export.onnx_file import IR_VERSION, OPSET, onnx_bytes
from common.export.runtime import onnxruntime
from common.layout import layout_of
from common.model import Network
from common.plan import ModelPlan
from common.pruning.compaction import compact
from tests.common.export.exports import METADATA, MODELS, WIDTH

Vector = NDArray[np.float32]


def outputs(data: bytes, features: Vector) -> tuple[Vector, Vector]:
    """Return logit and score as ONNX Runtime computes them."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    logit, score = session.run(["logit", "score"], {"features": features})
    return logit, score


def features_of(rows: int) -> Vector:
    return np.random.default_rng(rows).uniform(-1, 1, (rows, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rows", [1, 50])
def test_runtime_computes_the_model(name: str, rows: int) -> None:
    features = features_of(rows)
    logit, score = outputs(onnx_bytes(MODELS[name], METADATA), features)
    assert logit.shape == score.shape == (rows,)
    np.testing.assert_allclose(logit, MODELS[name].forward(features), rtol=0, atol=1e-5)
    np.testing.assert_allclose(score, 1 / (1 + np.exp(-logit)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["wide_and_deep", "mlp", "logistic"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_runtime_agrees_with_the_masked_network(kind: str, activation: str) -> None:
    fields = {"kind": kind, "hidden": (40, 20), "activation": activation}
    model = ModelPlan.model_validate(fields)
    draw = np.random.default_rng(0)
    size = layout_of(model, WIDTH).size
    weights = draw.normal(0, 0.5, size).astype(np.float32)
    mask = draw.uniform(size=size) < 0.2
    network = Network(model, WIDTH)
    network.load(weights, mask)
    features = features_of(100)
    with torch.no_grad():
        expected = network(torch.from_numpy(features)).numpy()
    logit, _ = outputs(onnx_bytes(compact(model, WIDTH, weights, mask), {}), features)
    np.testing.assert_allclose(logit, expected, rtol=0, atol=1e-5)
    # Negative control: another mask is another model.
    other, _ = outputs(onnx_bytes(compact(model, WIDTH, weights, ~mask), {}), features)
    assert np.abs(other - expected).max() > 0.1


@pytest.mark.parametrize("name", MODELS)
def test_file_is_valid_of_fixed_version_and_says_what_it_is(name: str) -> None:
    proto = onnx.load_model_from_string(onnx_bytes(MODELS[name], METADATA))
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.ir_version, proto.opset_import[0].version) == (IR_VERSION, OPSET)
    assert {entry.key: entry.value for entry in proto.metadata_props} == METADATA


def test_one_model_has_one_file() -> None:
    model = MODELS["wide and deep"]
    backwards = dict(reversed(METADATA.items()))
    assert onnx_bytes(model, METADATA) == onnx_bytes(model, backwards)
    assert onnx_bytes(model, METADATA) != onnx_bytes(MODELS["tanh"], METADATA)
