"""A finished model as it is used: checked against the plan beside it, run by onnxruntime.

The checks tell a mix-up, not a forgery: whoever can write ``model.onnx`` can write what it
says of itself. A model brings no code and opens no file: operators are ONNX's own, weights
stand in the file, and the file is no larger than the plan's network.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from common.encoding import Features
from common.errors import ModelError, PlanError
from common.export.onnx_file import FEATURES, LOGIT, ONNX, SCORE
from common.export.runtime import onnxruntime as ort
from common.facts import metadata_of
from common.layout import layout_of
from common.parsing import read_bytes
from common.plan import Plan, plan_from_toml
from common.schema import FeatureSchema

PLAN = "plan.toml"
ANSWERS = (LOGIT, SCORE)

BLOCK = 4_096
"""Rows a run of the network: its activations stay in the processor's cache."""
BESIDES = 2**20
"""Bytes a model file may hold beside the weights of the dense network: names, graph, metadata."""


class Predictions(NamedTuple):
    """What the network says of n rows: log-odds and probabilities, float32 [n] each."""

    logits: Features
    scores: Features


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """A checked model: its plan and its session."""

    plan: Plan
    session: ort.InferenceSession
    source: str

    @property
    def schema(self) -> FeatureSchema:
        """What its tables must look like."""
        return self.plan.schema_

    def predict(self, features: Features) -> Predictions:
        """Return log-odds and scores of encoded rows [n, width].

        Raises:
            ModelError: the network fails, or does not answer each row with a finite number.
        """
        with _damage_of(self.source):
            parts = [
                self.session.run(ANSWERS, {FEATURES: features[start : start + BLOCK]})
                for start in range(0, len(features), BLOCK)
            ]
        empty = np.empty(0, np.float32)
        both = (np.concatenate([empty, *part]) for part in zip(*parts, strict=True))
        logits, scores = both if parts else (empty, empty)
        if not (logits.shape == scores.shape == features.shape[:1] and np.isfinite(logits).all()):
            raise ModelError(
                f"{self.source}: does not answer each row with a finite number: the model has"
                " diverged or is damaged: train or export it again"
            )
        return Predictions(logits, scores)

    def logits(self, features: Features) -> Features:
        """Return the log-odds of encoded rows [n, width]."""
        return self.predict(features).logits


def load_scorer(directory: Path, threads: int = 0) -> Scorer:
    """Read a model's directory and open it; raise as `read_model` and `open_scorer`."""
    return open_scorer(read_model(directory), directory, threads)


def read_model(directory: Path) -> dict[str, bytes]:
    """Return ``plan.toml`` and ``model.onnx`` of a model's directory, each read once.

    Raises:
        PlanError: the plan is missing or wrong.
        ModelError: the model is missing, or larger than its plan's.
    """
    said = read_bytes(directory / PLAN, PlanError)
    most = _most(plan_from_toml(said, str(directory / PLAN)))
    path = directory / ONNX
    try:
        with path.open("rb") as file:
            # One more than fits is enough to be refused.
            data = file.read(most + 1)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file: name a directory that holds it") from error
    # Before anything is noted of a part of it.
    _require_fits(data, most, path)
    return {PLAN: said, ONNX: data}


def open_scorer(files: Mapping[str, bytes], source: Path, threads: int = 0) -> Scorer:
    """Open a model by the bytes that were checked, whatever lies in ``source`` by now.

    ``threads`` 0 is one a core.

    Raises:
        PlanError: the plan is wrong.
        ModelError: the model is damaged, another plan's, or more than a network.
    """
    plan, path, data = plan_from_toml(files[PLAN], str(source / PLAN)), source / ONNX, files[ONNX]
    _require_fits(data, _most(plan), path)
    _require_network(data, path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # Its faults are told in one line, here.
    # Threads that wait must not take a core from those that read and encode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with _damage_of(path):
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    _require_interface(session, path)
    _require_plan(session, plan, path)
    return Scorer(plan, session, str(path))


def _most(plan: Plan) -> int:
    return 4 * layout_of(plan.model, plan.schema_.width).size + BESIDES


def _require_fits(data: bytes, most: int, path: Path) -> None:
    if len(data) > most:
        raise ModelError(
            f"{path}: more than {most} bytes, the most that the plan's network takes: it is not"
            " this plan's model"
        )


@contextmanager
def _damage_of(source: Path | str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # The errors of protobuf and the runtime share no other parent.
        raise ModelError(f"{source}: damaged or no ONNX model: export it again") from error


def _require_network(data: bytes, path: Path) -> None:
    """Refuse a graph that names files, holds programs or needs operators that are not ONNX's."""
    with _damage_of(path):
        model = onnx.load_model_from_string(data)
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    weights = [*model.graph.initializer, *(attribute.t for attribute in attributes)]
    if any(weight.data_location == onnx.TensorProto.EXTERNAL for weight in weights):
        raise ModelError(f"{path}: its weights lie in other files: export it into one")
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if (
        foreign
        or model.functions
        or model.graph.sparse_initializer
        or any(
            attribute.HasField("g")
            or attribute.HasField("sparse_tensor")
            or attribute.graphs
            or attribute.tensors
            for attribute in attributes
        )
    ):
        raise ModelError(f"{path}: is more than a network of ONNX's own operators: export it again")


def _require_interface(session: ort.InferenceSession, path: Path) -> None:
    taken = {(node.name, node.type, len(node.shape)) for node in session.get_inputs()}
    given = {(node.name, node.type, len(node.shape)) for node in session.get_outputs()}
    wanted = {(name, "tensor(float)", 1) for name in ANSWERS}
    if taken != {(FEATURES, "tensor(float)", 2)} or not wanted <= given:
        raise ModelError(
            f"{path}: does not take {FEATURES!r} and give {LOGIT!r} and {SCORE!r}: export it again"
        )


def _require_plan(session: ort.InferenceSession, plan: Plan, path: Path) -> None:
    said, wanted = session.get_modelmeta().custom_metadata_map, metadata_of(plan)
    if said.get("plan_sha256") != wanted["plan_sha256"]:
        raise ModelError(
            f"{path}: is the model of plan {said.get('plan_sha256', 'unknown')[:12]}, and"
            f" {PLAN} is {plan.digest()[:12]}: keep the files of one model together"
        )
    if said.get("features") != wanted["features"]:
        raise ModelError(f"{path}: its features are not those of {PLAN}: export it again")
