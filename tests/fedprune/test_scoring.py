from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import fedprune
from client.cli import main
from client.tables import chunks_of, rows_of
from common.encoding import encode
from common.errors import ConfigError, DataError, ModelError
from common.model import Network
from common.plan import Plan
from tests.commands import invoke
from tests.models import random_network, write_model
from tests.support import WIDTH, small_plan

INPUTS = [f"x{index}" for index in range(WIDTH)]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return small_plan()


@pytest.fixture(scope="module")
def network(plan: Plan) -> Network:
    return random_network(plan)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, plan: Plan, network: Network) -> fedprune.Model:
    return fedprune.load_model(write_model(tmp_path_factory.mktemp("model"), plan, network))


@pytest.fixture
def frame() -> pd.DataFrame:
    cells = np.random.default_rng(1).uniform(-1, 1, (50, WIDTH)).round(6)
    names = [f"k{row}" for row in range(50)]
    return pd.DataFrame(cells, columns=INPUTS, index=names).assign(note="kept")


def test_predictions_are_the_networks_by_the_frames_index(
    model: fedprune.Model, plan: Plan, network: Network, frame: pd.DataFrame
) -> None:
    found = model.predict(frame)
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(encode(frame, plan.schema_))))
    assert [*found.index] == [*frame.index]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, expected.flip(0), rtol=1e-5)
    assert (model.plan, model.schema) == (plan, plan.schema_)


def test_an_explanation_adds_up(model: fedprune.Model, frame: pd.DataFrame) -> None:
    told = model.explain(frame, pairs=1)
    parts = [f"contribution:{name}" for name in INPUTS]
    assert [*told.columns] == ["score", "logit", "base", *parts]
    np.testing.assert_allclose(told["base"] + told[parts].sum(axis=1), told["logit"], atol=1e-5)


def test_a_file_is_scored_as_the_command_does(
    model: fedprune.Model, frame: pd.DataFrame, tmp_path: Path
) -> None:
    data, out = tmp_path / "rows.csv", tmp_path / "scores.parquet"
    frame.to_csv(data, index=False)
    options = ("--data", data, "--out", out, "--keep", "note", "--explain", "--pairs", 2)
    assert invoke(main, "score", "--unreleased", "--model", model.directory, *options).code == 0
    found = fedprune.score(str(model.directory), data, keep=["note"], pairs=2)
    pd.testing.assert_frame_equal(found.table, pd.read_parquet(out), check_dtype=False)
    assert [*fedprune.score(model, data).table.index] == [*range(1, 51)]


def test_rows_that_do_not_fit_are_refused_or_left_blank(
    model: fedprune.Model, frame: pd.DataFrame
) -> None:
    frame.loc["k7", "x1"] = np.nan
    with pytest.raises(DataError, match="the frame: column 'x1': the cell in row 8 is missing"):
        fedprune.score(model, frame)
    found = fedprune.score(model, frame, blank=True)
    assert found.unscored == 1
    assert [*found.faults.items()] == [(("x1", "is missing"), 1)]
    assert [*found.table.index[found.table["score"].isna()]] == ["k7"]
    drawn = sum(bar.get_height() for bar in found.figure().axes[0].patches)  # type: ignore[attr-defined]
    assert drawn == 49


def test_without_faults_there_are_none(model: fedprune.Model, frame: pd.DataFrame) -> None:
    found = fedprune.score(model, frame)
    assert (found.unscored, len(found.faults)) == (0, 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda frame: frame.drop(columns="x2"), "column 'x2' is missing"),
        (lambda frame: pd.concat([frame, frame[["x0"]]], axis=1), "'x0' occurs more than once"),
        (lambda frame: frame.head(0), "has no rows"),
        (lambda frame: frame.assign(x0=[["secret"]] * 50), "column 'x0' holds list"),
        (lambda frame: frame.astype(object).assign(x0=["secret", 1.5] * 25), "numbers beside text"),
    ],
)
def test_a_frame_that_is_no_table_is_refused_without_its_cells(
    model: fedprune.Model, frame: pd.DataFrame, change: object, told: str
) -> None:
    assert callable(change)
    with pytest.raises(DataError, match=told) as caught:
        model.predict(change(frame))
    assert "secret" not in str(caught.value)


def test_chunks_give_the_frame_back(frame: pd.DataFrame) -> None:
    chunks = [*chunks_of(frame, INPUTS, ["note"], 7)]
    assert [len(chunk) for chunk in chunks] == [7] * 7 + [1]
    assert [chunks[1]["x0"][0].as_py()] == [frame["x0"].iloc[7]]


def test_rows_of_a_file_are_counted_without_reading_it(frame: pd.DataFrame, tmp_path: Path) -> None:
    for name, known in (("a.csv", 50), ("a.parquet", 50), ("a.csv.gz", None), ("gone.csv", None)):
        path = tmp_path / name
        if path.suffix == ".parquet":
            frame.to_parquet(path)
        elif "gone" not in name:
            frame.to_csv(path, index=False)
        assert rows_of(path) == known


def test_a_folder_without_a_model_is_refused(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(ConfigError, match=r"plan\.toml"):
        fedprune.load_model(tmp_path)
    (tmp_path / "plan.toml").write_text(plan.to_toml())
    with pytest.raises(ModelError, match="no such file"):
        fedprune.load_model(tmp_path)
