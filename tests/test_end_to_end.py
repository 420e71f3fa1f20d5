"""The researcher's command from start to results, as a process and on real data."""

import csv
import json
import math
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from sklearn.metrics import roc_auc_score

from client.cli import main as client
from common.encoding import encode
from common.export.runtime import onnxruntime
from common.export.sparse_file import read_sparse
from common.model import layout_of
from common.plan import Plan, load_plan
from common.pruning.masks import unpack_mask
from simulations.cli import main
from simulations.consortium import consortium, pooled
from simulations.inputs import Options, assemble
from simulations.run import Run, exact_metrics, simulate
from tests.commands import Outcome, ended, invoke, spawn, trial_file, trial_plan

SIMULATOR = "simulations.cli"
SUMMARY: dict[str, type] = {
    "auc": float,
    "auc_private": float,
    "auc_private_sd": float,
    "pr_auc": float,
    "epsilon": float,
    "epsilon_if_others_collude": float,
    "delta": float,
    "sparsity": float,
    "weights_total": int,
    "weights_kept": int,
    "rounds": int,
    "bytes_up_first_round": int,
    "bytes_up_last_round": int,
    "seconds": float,
    "aggregation": str,
    "noise": str,
    "noise_source": str,
    "evaluation": str,
    "seed": int,
    "plan_sha256": str,
}
FILES = {
    *("summary.json", "rounds.csv", "counts.csv", "plan.toml", "curves.svg", ".lock"),
    *("facts.json", "report.html", "model-card.md", "model-card.json", "validation.html"),
    *("model.safetensors", "compact.safetensors", "model.onnx", "model.sparse", "shrinkage.json"),
}


def rows(directory: Path) -> list[dict[str, str]]:
    """Return the finished rounds, none of them cut off."""
    with (directory / "rounds.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert all(None not in row.values() and None not in row for row in found)
    return found


def model_of(directory: Path, plan: Plan) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the flat weights and the mask that a run left."""
    layout = layout_of(plan.model, plan.schema_.width)
    with safe_open(directory / "model.safetensors", framework="numpy") as file:
        assert file.metadata()["plan_sha256"] == plan.digest()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    mask = unpack_mask(tensors.pop("mask").tobytes(), layout.size)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        entry.name: entry.shape for entry in layout.entries
    }
    return np.concatenate([tensors[entry.name].ravel() for entry in layout.entries]), mask


def wait_for_rounds(directory: Path, process: "subprocess.Popen[str]", count: int) -> None:
    """Return once a run has finished ``count`` rounds."""
    deadline = time.monotonic() + 120
    while not (directory / "rounds.csv").exists() or len(rows(directory)) < count:
        assert process.poll() is None, ended(process)
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def processes(place: Path) -> "Iterator[dict[str, subprocess.Popen[str]]]":
    """Start three runs at once: one that ends, and two long ones."""
    plan = trial_file(place)
    long = ("--epsilon", "none", "--rounds", 10_000)
    started = {
        name: spawn(SIMULATOR, "run", plan, *options, "--json", "--out", place / name)
        for name, options in {
            "done": ("--no-baselines",),
            "stopped": long,
            "killed": long,
        }.items()
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def test_killed_run_leaves_readable_files_and_a_free_directory(
    processes: "dict[str, subprocess.Popen[str]]", place: Path
) -> None:
    process, directory = processes["killed"], place / "killed"
    wait_for_rounds(directory, process, 2)
    process.kill()
    outcome = ended(process)
    assert (outcome.code, outcome.out) == (-signal.SIGKILL, "")
    assert len(rows(directory)) >= 2
    weights, mask = model_of(directory, load_plan(directory / "plan.toml"))
    assert np.isfinite(weights).all()
    assert not weights[~mask].any()
    # Nobody says that the run was complete.
    assert not (directory / "summary.json").exists()
    # As if it had died while it wrote.
    (directory / "model.safetensors.partial").write_bytes(b"half a mo")
    again = invoke(
        main,
        "run",
        place / "trial.toml",
        *("--epsilon", "none", "--rounds", 1, "--no-baselines", "--out", directory),
    )
    assert again.code == 0
    assert {path.name for path in directory.iterdir()} == FILES


def test_directory_in_use_is_refused_and_ctrl_c_keeps_what_is_finished(
    processes: "dict[str, subprocess.Popen[str]]", place: Path
) -> None:
    process, directory = processes["stopped"], place / "stopped"
    wait_for_rounds(directory, process, 2)
    second = invoke(main, "run", place / "trial.toml", "--out", directory)
    assert (second.code, second.out) == (3, "")
    assert second.complaint == (
        f"{directory}: another run writes here: name another directory with --out"
    )
    # As a person would, press again: Python drops an interrupt that meets a library's callback.
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
            break
    outcome = ended(process)
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    summary = json.loads((directory / "summary.json").read_text())
    assert outcome.summary == summary
    assert (summary["interrupted"], summary["auc_private"]) == (True, None)
    assert 2 <= summary["rounds"] == len(rows(directory)) < 10_000
    assert f"interrupted: {summary['rounds']} finished rounds are kept" in outcome.err
    _, mask = model_of(directory, load_plan(directory / "plan.toml"))
    assert mask.sum() == summary["weights_kept"]
    assert {path.name for path in directory.iterdir()} == FILES


@pytest.fixture(scope="module")
def done(processes: "dict[str, subprocess.Popen[str]]") -> Outcome:
    return ended(processes["done"])


def test_process_ends_well(done: Outcome, place: Path) -> None:
    assert done.code == 0
    assert "Traceback" not in done.err
    assert {path.name for path in (place / "done").iterdir()} == FILES
    assert done.summary == json.loads((place / "done" / "summary.json").read_text())


def test_summary_has_every_key_in_its_range(done: Outcome) -> None:
    summary = done.summary
    assert {key: type(summary[key]) for key in SUMMARY} == SUMMARY
    assert all(math.isfinite(summary[key]) for key, kind in SUMMARY.items() if kind is float)
    plan = trial_plan()
    assert 0.6 < summary["auc"] < 0.9
    assert abs(summary["auc_private"] - summary["auc"]) < 0.03
    assert 0.1 < summary["pr_auc"] < summary["auc"]
    assert 0 < summary["epsilon"] <= 2.0
    assert summary["delta"] == 1e-5
    total = layout_of(plan.model, plan.schema_.width).size
    assert (summary["weights_total"], summary["weights_kept"]) == (total, round(0.4 * total))
    assert summary["sparsity"] == 1 - summary["weights_kept"] / total
    assert (summary["rounds"], summary["seed"]) == (4, 0)
    assert 0 < summary["bytes_up_last_round"] < summary["bytes_up_first_round"] < 10_000
    assert 0 < summary["seconds"] < 60
    assert (summary["aggregation"], summary["noise"]) == ("secure", "local")
    assert summary["noise_source"] == "csprng discrete gaussian"
    assert summary["evaluation"].startswith("discrete Gaussian counts: epsilon 1 for")
    assert summary["plan_sha256"] == plan.digest()
    assert summary["interrupted"] is False


def test_files_tell_of_the_same_run(done: Outcome, place: Path) -> None:
    summary, directory = done.summary, place / "done"
    plan = load_plan(directory / "plan.toml")
    assert plan.digest() == summary["plan_sha256"]
    found = rows(directory)
    assert [int(row["round"]) for row in found] == [0, 1, 2, 3, 4]
    kept = [int(row["weights_kept"]) for row in found]
    assert kept == sorted(kept, reverse=True)
    assert (kept[0], kept[-1]) == (summary["weights_total"], summary["weights_kept"])
    assert [bool(row["auc_validation"]) for row in found] == [False, False, True, False, True]
    assert [bool(row["auc_test"]) for row in found] == [False] * 4 + [True]
    weights, mask = model_of(directory, plan)
    assert mask.sum() == summary["weights_kept"]
    assert not weights[~mask].any()
    assert np.isfinite(weights).all()
    assert weights[mask].any()
    assert ET.parse(directory / "curves.svg").getroot().tag.endswith("svg")


def test_model_file_scores_as_the_summary_says(done: Outcome, place: Path) -> None:
    federation = assemble(Options(place / "done" / "plan.toml"))
    weights, mask = model_of(place / "done", federation.plan)
    run = Run(federation.plan)
    simulate(run, federation.splits, seed=0)
    # The seed gives the process's model again, bit for bit.
    assert np.array_equal(run.final.weights, weights)
    test = {name: part.test for name, part in federation.splits.items()}
    assert exact_metrics(run.final, federation.plan, test)[0] == done.summary["auc"]
    # Negative control: the file's weights without their signs score otherwise.
    other = replace(run.final, weights=np.abs(weights), mask=mask)
    assert exact_metrics(other, federation.plan, test)[0] < done.summary["auc"] - 0.02


def test_run_scores_a_table_from_its_raw_columns(done: Outcome, place: Path) -> None:
    assert done.code == 0
    loans, out = pooled(consortium(institutions=3, loans=50)), place / "scores.parquet"
    loans.to_csv(place / "loans.csv", index=False)
    files = ("--model", place / "done", "--data", place / "loans.csv", "--out", out)
    wishes = ("--unreleased", "--explain", "--keep", "institution")
    assert invoke(client, "score", *files, *wishes).code == 0
    scores = pd.read_parquet(out)
    features = encode(loans, load_plan(place / "done" / "plan.toml").schema_)
    model = read_sparse((place / "done" / "model.sparse").read_bytes()).model
    np.testing.assert_allclose(scores["logit"], model.forward(features), atol=1e-5)
    parts = scores.filter(regex="^(base|contribution:.*)$")
    np.testing.assert_allclose(parts.sum(axis=1), scores["logit"], atol=1e-9)
    assert scores["institution"].tolist() == loans["institution"].tolist()


def test_onnx_file_scores_as_the_summary_says(done: Outcome, place: Path) -> None:
    federation = assemble(Options(place / "done" / "plan.toml"))
    test = [part.test for part in federation.splits.values()]
    features = np.concatenate([part.features for part in test])
    labels = np.concatenate([part.labels for part in test])
    session = onnxruntime.InferenceSession(place / "done" / "model.onnx")
    logit, score = session.run(["logit", "score"], {"features": features})
    assert roc_auc_score(labels, logit) == pytest.approx(done.summary["auc"], abs=1e-4)
    assert roc_auc_score(labels, score) == pytest.approx(done.summary["auc"], abs=1e-4)
    assert session.get_modelmeta().custom_metadata_map["plan_sha256"] == federation.plan.digest()
    sparse = read_sparse((place / "done" / "model.sparse").read_bytes())
    np.testing.assert_allclose(sparse.model.forward(features), logit, rtol=0, atol=1e-5)
    # Negative control: the features in another order are other records.
    other, _ = session.run(["logit", "score"], {"features": features[:, ::-1].copy()})
    assert roc_auc_score(labels, other) < done.summary["auc"] - 0.02


def test_default_run_at_few_rounds(tmp_path: Path) -> None:
    typed = ("run", "--epsilon", "none", "--rounds", 4, "--no-baselines", "--json", "--out")
    pruned = invoke(main, *typed, tmp_path / "pruned").summary
    assert pruned["weights_kept"] == round(0.1 * pruned["weights_total"])
    first, last = pruned["bytes_up_first_round"], pruned["bytes_up_last_round"]
    assert last <= first / 10 + 4_000
    # Negative control: what is not pruned costs as much at the end as at first.
    dense = invoke(main, *typed, tmp_path / "dense", "--sparsity", 0).summary
    assert dense["bytes_up_first_round"] == pytest.approx(first, rel=0.01)
    assert dense["bytes_up_last_round"] > 0.95 * first
    assert pruned["auc"] > 0.7


def test_real_table_is_learnt(shared_data: Path, tmp_path: Path) -> None:
    table = shared_data / "uci_default" / "UCI_Credit_Card.csv.gz"
    typed = ("--data", table, "--schema", "uci_default", "--rounds", 6)
    options = ("--no-baselines", "--json", "--out", tmp_path / "uci")
    plan = trial_file(tmp_path, schema="uci_default", privacy={"epsilon": 1.0})
    outcome = invoke(main, "run", plan, *typed, *options, "--institutions", 10)
    assert outcome.code == 0
    summary = outcome.summary
    assert summary["auc"] > 0.75
    assert summary["epsilon"] <= 1.0
    sd = summary["auc_private_sd"]
    assert 0 < sd < 0.02
    assert abs(summary["auc_private"] - summary["auc"]) < 0.01 + 4 * sd
    # Negative control: the same pipeline on labels that mean nothing.
    federation = assemble(Options(tmp_path / "uci" / "plan.toml", table))
    draw = np.random.default_rng(0)
    shuffled = {
        name: replace(part, train=replace(part.train, labels=draw.permutation(part.train.labels)))
        for name, part in federation.splits.items()
    }
    run = Run(federation.plan)
    simulate(run, shuffled, seed=0)
    test = {name: part.test for name, part in federation.splits.items()}
    assert exact_metrics(run.final, federation.plan, test)[0] < 0.7
