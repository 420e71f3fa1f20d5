import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from client.scorer import BESIDES, BLOCK, load_scorer
from common.errors import ModelError, PlanError
from common.model import Network
from tests.models import onnx_of, random_network, write_model
from tests.support import WIDTH, small_plan

PLAN = small_plan()
FEATURES = list(PLAN.schema_.feature_names)
HONEST = {"plan_sha256": PLAN.digest(), "features": json.dumps(FEATURES)}


def graph(network: Network | None = None) -> onnx.ModelProto:
    return onnx_of(PLAN, network or random_network(PLAN))


def rows(count: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    return np.random.default_rng(0).uniform(-1, 1, (count, WIDTH)).astype(np.float32)


def complaint(directory: Path) -> str:
    """Return the one line with which loading fails, and check that it names the file."""
    with pytest.raises(ModelError) as caught:
        load_scorer(directory)
    message = str(caught.value)
    assert message.startswith(f"{directory / 'model.onnx'}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", ["wide_and_deep", "mlp", "logistic"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("count", [0, 1, BLOCK, BLOCK + 1])
def test_answers_are_the_networks(tmp_path: Path, kind: str, activation: str, count: int) -> None:
    plan = small_plan(model={"kind": kind, "activation": activation})
    network = random_network(plan)
    scorer = load_scorer(write_model(tmp_path, plan, network))
    assert scorer.schema == plan.schema_
    logits, scores = scorer.predict(rows(count))
    with torch.no_grad():
        expected = network(torch.from_numpy(rows(count)))
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(scores, torch.sigmoid(expected), atol=1e-6)
    assert logits.dtype == scores.dtype == np.float32


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "m", PLAN, graph())
    model = directory / "model.onnx"
    whole = model.read_bytes()
    for damaged in (b"", b"no model", whole[: len(whole) // 2]):
        model.write_bytes(damaged)
        assert "damaged or no ONNX model: export it again" in complaint(directory)
    model.unlink()
    assert "no such file" in complaint(directory)
    (directory / "plan.toml").unlink()
    with pytest.raises(PlanError, match=r"plan.toml: no such file"):
        load_scorer(directory)


def test_model_larger_than_its_plan_is_not_even_parsed(tmp_path: Path) -> None:
    directory = write_model(tmp_path, PLAN, graph())
    with (directory / "model.onnx").open("ab") as file:
        file.write(bytes(BESIDES + 1_000))
    assert "the most that the plan's network takes" in complaint(directory)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (HONEST | {"plan_sha256": "0" * 64}, "is the model of plan 000000000000, and plan.toml is"),
        ({"features": HONEST["features"]}, "is the model of plan unknown"),
        (HONEST | {"features": json.dumps(FEATURES[::-1])}, "its features are not those"),
        (HONEST | {"features": "["}, "its features are not those"),
        ({"plan_sha256": HONEST["plan_sha256"]}, "its features are not those"),
    ],
)
def test_model_of_another_plan_is_refused(tmp_path: Path, said: dict[str, str], why: str) -> None:
    model = graph()
    helper.set_model_props(model, said)
    assert why in complaint(write_model(tmp_path, PLAN, model))


def test_plan_changed_beside_its_model_is_refused(tmp_path: Path) -> None:
    directory = write_model(tmp_path, PLAN, graph())
    plan = directory / "plan.toml"
    plan.write_text(plan.read_text().replace("hi = 1.0", "hi = 2.0", 1))
    assert "keep the files of one model together" in complaint(directory)


def to_other_file(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret")


def to_constant_in_other_file(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer.pop(0)
    model.graph.node.insert(0, helper.make_node("Constant", [], [weight.name], value=weight))
    inner = model.graph.node[0].attribute[0].t
    inner.data_location = TensorProto.EXTERNAL


def to_foreign_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node[1].domain = "com.microsoft"


def to_program(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(
        helper.make_node("If", ["logit"], ["x"], then_branch=branch, else_branch=branch)
    )


def to_functions(model: onnx.ModelProto) -> None:
    model.functions.append(
        helper.make_function("", "Odd", ["a"], ["b"], [], [helper.make_opsetid("", 17)])
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (to_other_file, "its weights lie in other files"),
        (to_constant_in_other_file, "its weights lie in other files"),
        (to_foreign_operator, "more than a network of ONNX's own operators"),
        (to_program, "more than a network of ONNX's own operators"),
        (to_functions, "more than a network of ONNX's own operators"),
    ],
)
def test_model_that_brings_more_than_a_network_is_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], why: str
) -> None:
    (tmp_path / "secret").write_bytes(bytes(4096))
    model = graph()
    change(model)
    assert why in complaint(write_model(tmp_path / "m", PLAN, model))


def renamed(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name


@pytest.mark.parametrize("name", ["features", "logit", "score"])
def test_model_with_another_interface_is_refused(tmp_path: Path, name: str) -> None:
    model = graph()
    renamed(model, name, "other")
    said = complaint(write_model(tmp_path, PLAN, model))
    assert "does not take 'features' and give 'logit' and 'score'" in said


def test_network_on_other_features_than_it_says_is_refused(tmp_path: Path) -> None:
    model = graph()
    weight = next(held for held in model.graph.initializer if held.name == "hidden.0.weight")
    weight.CopyFrom(numpy_helper.from_array(np.zeros((WIDTH + 1, 8), np.float32), weight.name))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "any"
    with pytest.raises(ModelError, match="damaged or no ONNX model: export it again"):
        load_scorer(write_model(tmp_path, PLAN, model)).predict(rows(3))


@pytest.fixture
def diverged(tmp_path: Path) -> Path:
    network = random_network(PLAN)
    network.flat[-1] = torch.nan
    return write_model(tmp_path, PLAN, graph(network))


def test_score_that_is_no_number_is_refused(diverged: Path) -> None:
    with pytest.raises(ModelError, match="does not answer each row with a finite number"):
        load_scorer(diverged).predict(rows(3))
