"""The compacted model as ONNX, for any runtime that reads opset 17."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from common.pruning.compaction import Array, CompactModel

ONNX = "model.onnx"
"""Its name in the directory of a run, beside the plan that holds the schema."""

OPSET, IR_VERSION = 17, 8
"""Held fixed, so that an old runtime reads the file and a new `onnx` writes the same bytes."""

FEATURES, LOGIT, SCORE = "features", "logit", "score"
"""Names of the input [n, width] and of the outputs [n], all float32."""

OPERATORS = {"relu": "Relu", "tanh": "Tanh"}


def onnx_bytes(model: CompactModel, metadata: Mapping[str, str]) -> bytes:
    """Return an ONNX file: ``features`` to ``logit`` and ``score``, its sigmoid.

    One model and metadata give one sequence of bytes.
    """
    nodes: list[NodeProto] = []
    tensors: dict[str, Array] = {"bias": model.bias, **_columns(model)}

    # The linear part is what the output layer adds to, so their sum costs no node.
    nodes.append(_affine("linear", FEATURES, "bias"))
    below, last = FEATURES, "linear"
    for index, layer in enumerate(model.hidden):
        name, above = f"hidden.{index}", f"active.{index}"
        tensors |= {f"{name}.weight": layer.weight.T, f"{name}.bias": layer.bias}
        nodes.append(_affine(name, below, f"{name}.bias"))
        nodes.append(helper.make_node(OPERATORS[model.activation], [name], [above], above))
        below = above
    if model.hidden:
        nodes.append(_affine("output", below, "linear"))
        last = "output"
    nodes.append(helper.make_node("Squeeze", [last, "axes"], [LOGIT], LOGIT))
    nodes.append(helper.make_node("Sigmoid", [LOGIT], [SCORE], SCORE))

    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(tensor), name)
        for name, tensor in tensors.items()
    ]
    initializers.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    graph = helper.make_graph(
        nodes,
        "fedprune",
        [helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["n", model.width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in (LOGIT, SCORE)],
        initializers,
    )
    proto: ModelProto = helper.make_model(
        graph,
        producer_name="fedprune",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(proto, dict(sorted(metadata.items())))
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _columns(model: CompactModel) -> dict[str, Array]:
    """Return the linear and the output weights as columns [in, 1]."""
    # A model without a linear part multiplies by zeros: a constant needs the length n too.
    linear = np.zeros(model.width, np.float32) if model.linear is None else model.linear
    columns = {"linear.weight": linear[:, None]}
    return columns | ({"output.weight": model.output[:, None]} if model.hidden else {})


def _affine(name: str, inputs: str, bias: str) -> NodeProto:
    return helper.make_node("Gemm", [inputs, f"{name}.weight", bias], [name], name)
