import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from client.cli import main
from common.encoding import encode
from common.model import Network
from common.plan import Plan
from tests.commands import ROOT, Outcome, ended, invoke, spawn, trial_plan
from tests.models import random_network, write_model
from tests.support import SIZES, WIDTH, small_plan

INPUTS = [f"x{index}" for index in range(WIDTH)]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return small_plan()


@pytest.fixture(scope="module")
def network(plan: Plan) -> Network:
    return random_network(plan)


@pytest.fixture
def model(tmp_path: Path, plan: Plan, network: Network) -> Path:
    return write_model(tmp_path / "model", plan, network)


def rows(count: int = 50) -> pd.DataFrame:
    cells = np.random.default_rng(1).uniform(-1, 1, (count, WIDTH)).round(6)
    return pd.DataFrame(cells, columns=INPUTS).assign(id=[f"k{row}" for row in range(count)])


def write(path: Path, frame: pd.DataFrame) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=7)
    else:
        frame.to_csv(path, index=False)
    return path


def read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def score(model: Path, data: Path, out: Path, *more: object) -> Outcome:
    """Score by a model that nobody released, which is said first; return what else is."""
    files = ("--model", model, "--data", data, "--out", out)
    return without_warning(invoke(main, "score", *files, "--unreleased", *more))


def without_warning(outcome: Outcome) -> Outcome:
    warning, _, rest = outcome.err.partition("\n")
    if not warning.startswith("WARNING: ") or "was not released" not in warning:
        return outcome
    assert "noted nowhere" in warning
    return replace(outcome, err=rest)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    files = ("--model", tmp_path / "gone", "--data", tmp_path / "t.csv", "--out", tmp_path / "o")
    outcome = invoke(main, "score", *files)
    assert (outcome.code, outcome.complaint) == (
        3,
        f"{tmp_path / 'gone'}: no such folder: check the path",
    )


def test_a_model_that_nobody_released_is_refused(tmp_path: Path, model: Path) -> None:
    data, out = write(tmp_path / "t.csv", rows()), tmp_path / "scores.csv"
    files = ("--model", model, "--data", data, "--out", out)
    outcome = invoke(main, "score", *files)
    assert outcome.code == 5
    assert outcome.complaint.startswith(f"{model}: was not released: it has no release.json")
    assert "--unreleased" in outcome.complaint
    assert not out.exists()
    assert "WARNING" in invoke(main, "score", *files, "--unreleased").err


@pytest.mark.parametrize("end", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("written", ["csv", "csv.gz", "parquet"])
def test_scores_are_the_networks_whatever_the_files(
    tmp_path: Path, model: Path, plan: Plan, network: Network, end: str, written: str
) -> None:
    data, out = write(tmp_path / f"t.{end}", rows()), tmp_path / f"scores.{written}"
    outcome = score(model, data, out, "--keep", "id", "--threads", 1)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == f"{out}: 50 rows, 0 of them without a score\n"
    found = read(out)
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(encode(rows(), plan.schema_))))
    assert list(found.columns) == ["id", "score"]
    assert found["id"].tolist() == rows()["id"].tolist()
    np.testing.assert_allclose(found["score"], expected, atol=1e-6)


def test_each_score_is_explained_on_request(tmp_path: Path, model: Path) -> None:
    data, out = write(tmp_path / "t.csv", rows()), tmp_path / "scores.csv"
    assert score(model, data, out, "--explain", "--pairs", 2).code == 0
    found = read(out)
    parts = [f"contribution:{name}" for name in INPUTS]
    assert list(found.columns) == ["row", "score", "logit", "base", *parts]
    assert found["row"].tolist() == list(range(1, 51))
    total = found[["base", *parts]].sum(axis=1)
    np.testing.assert_allclose(total, found["logit"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-total)), found["score"], atol=1e-6)


def test_row_that_does_not_fit_ends_it_or_is_blank(tmp_path: Path, model: Path) -> None:
    cells = rows().astype({"x2": object})
    cells.loc[20, "x2"] = "SECRET"
    data, out = write(tmp_path / "t.csv", cells), tmp_path / "scores.csv"
    outcome = score(model, data, out)
    assert (outcome.code, outcome.out) == (4, "")
    assert f"{data}: column 'x2': the cell in row 21 is no number" in outcome.complaint
    assert "SECRET" not in outcome.err
    assert not list(tmp_path.glob("scores*"))
    outcome = score(model, data, out, "--blank")
    assert outcome.code == 0
    assert outcome.err.splitlines() == [
        f"{out}: 50 rows, 1 of them without a score",
        "column 'x2': a cell is no number in 1 rows",
    ]
    assert read(out)["row"][read(out)["score"].isna()].tolist() == [21]


def test_table_that_does_not_fit_is_refused(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "scores.csv"
    data = write(tmp_path / "t.csv", rows().drop(columns=["x1", "x3"]))
    outcome = score(model, data, out)
    assert outcome.code == 4
    assert outcome.complaint.startswith(f"{data}: column 'x1' is missing: add it to the file (1")
    days = write(tmp_path / "t.parquet", rows().assign(x0=pd.Timestamp("2020-01-01")))
    outcome = score(model, days, out)
    assert outcome.code == 4
    assert "column 'x0' holds timestamp" in outcome.complaint
    assert score(model, data, tmp_path / "scores.xlsx").code == 4
    assert score(model, tmp_path / "gone.csv", out).code == 4
    assert not out.exists()


def test_another_models_plan_is_refused(tmp_path: Path, model: Path) -> None:
    data = write(tmp_path / "t.csv", rows())
    (model / "plan.toml").write_text(trial_plan().to_toml())
    outcome = score(model, data, tmp_path / "scores.csv")
    assert outcome.code == 3
    assert "keep the files of one model together" in outcome.complaint
    assert score(tmp_path / "nowhere", data, tmp_path / "scores.csv").code == 3


def test_files_of_others_are_left_alone(tmp_path: Path, model: Path) -> None:
    data, out = write(tmp_path / "t.csv", rows()), tmp_path / "scores.csv"
    out.write_text("mine")
    outcome = score(model, data, out)
    assert outcome.code == 3
    assert f"{out}: exists" in outcome.complaint
    assert out.read_text() == "mine"
    assert score(model, data, out, "--force").code == 0
    assert len(read(out)) == 50
    outcome = score(model, data, data, "--force")
    assert outcome.code == 3
    assert "is the table itself" in outcome.complaint
    assert len(read(data).columns) == WIDTH + 1


@pytest.mark.parametrize("typed", [(), ("--pairs", 0), ("--threads", -1), ("--model", "m")])
def test_wrong_usage_is_two(tmp_path: Path, typed: tuple[object, ...]) -> None:
    outcome = invoke(main, "score", "--data", tmp_path, *typed)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Traceback" not in outcome.err


def test_command_runs_by_itself(tmp_path: Path, model: Path) -> None:
    data, out = write(tmp_path / "t.parquet", rows()), tmp_path / "scores.parquet"
    arguments = ("score", "--model", model, "--data", data, "--out", out, "--explain")
    outcome = without_warning(ended(spawn("client.cli", *arguments, "--unreleased")))
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == f"{out}: 50 rows, 0 of them without a score\n"
    assert len(read(out)) == 50


def test_scoring_does_without_torch() -> None:
    modules = "client.cli, client.score, client.scorer"
    found = f"import sys, {modules}; sys.exit(bool({{'torch', 'opacus'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", found], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("end", ["csv", "parquet"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_what_is_cut_short_leaves_no_scores(
    tmp_path: Path, model: Path, end: str, sent: signal.Signals
) -> None:
    data, out = write(tmp_path / "t.parquet", rows(20_000)), tmp_path / f"scores.{end}"
    files = ("--model", model, "--data", data, "--out", out)
    process = spawn("client.cli", "score", *files, "--unreleased", "--explain", "--pairs", 1000)
    while not list(tmp_path.glob("scores*")):
        assert process.poll() is None, ended(process)
        time.sleep(0.05)
    process.send_signal(sent)
    outcome = ended(process)
    assert outcome.code == {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[sent]
    assert "Traceback" not in outcome.err
    left = [path.suffix for path in tmp_path.glob("scores*")]
    assert left == {signal.SIGINT: [], signal.SIGKILL: [".partial"]}[sent]
    assert score(model, data, out).code == 0
    assert len(read(out)) == 20_000


def test_real_table_is_scored(tmp_path: Path, shared_data: Path) -> None:
    plan = small_plan(
        schema="uci_default",
        institutions=[{"name": name, "size": 10 * size} for name, size in SIZES.items()],
        privacy={"delta": 1e-5},
    )
    network = random_network(plan, scale=0.1)
    model = write_model(tmp_path / "m", plan, network)
    data = shared_data / "uci_default" / "UCI_Credit_Card.csv.gz"
    out = tmp_path / "scores.parquet"
    assert score(model, data, out, "--keep", "ID").code == 0
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(encode(pd.read_csv(data), plan.schema_))))
    found = read(out)
    assert found["ID"].astype(int).tolist() == list(range(1, 30_001))
    np.testing.assert_allclose(found["score"], expected, atol=1e-6)
