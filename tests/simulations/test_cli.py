import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from common.plan import load_plan
from simulations import execute, inputs
from simulations.cli import main, shortfall
from simulations.consortium import consortium, pooled
from tests.commands import ROOT, Outcome, invoke, trial_file

FAST = ("--epsilon", "none", "--no-baselines")


@pytest.fixture(scope="module")
def loans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "loans.csv"
    pooled(consortium(institutions=3, loans=500)).to_csv(path, index=False)
    return path


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return trial_file(tmp_path)


def run(*arguments: object) -> Outcome:
    return invoke(main, "run", *arguments)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What is typed, the exit code, and what the one line says. PLAN, OUT, DATA stand for good paths.
WRONG: dict[str, tuple[list[str], int, str]] = {
    "missing plan": (["gone.toml"], 3, "gone.toml: no such file: check the path"),
    "missing data": (["PLAN", "--data", "gone.csv"], 4, "gone.csv: no such file: check the path"),
    "data of no known kind": (["PLAN", "--data", "a.xlsx"], 4, "unknown kind of file"),
    "data without schema": (["--data", "DATA"], 3, "name a shipped schema or a TOML file"),
    "data of another schema": (["--data", "DATA", "--schema", "uci_default"], 4, "'LIMIT_BAL'"),
    "unknown schema": (["--schema", "nope"], 3, "unknown schema 'nope'; known: bank_marketing"),
    "missing schema": (["--schema", "my.toml"], 3, "my.toml: no such file: check the path"),
    "sparsity 1.2": (["PLAN", "--sparsity", "1.2"], 3, "pruning.sparsity 1.2"),
    "sparsity below 0": (["PLAN", "--sparsity", "-0.1"], 3, "pruning.sparsity -0.1"),
    "sparsity out of reach": (["PLAN", "--sparsity", "0.99"], 3, "lower pruning.sparsity"),
    "epsilon abc": (["PLAN", "--epsilon", "abc"], 3, "'abc' is neither a number nor none"),
    "epsilon -1": (["PLAN", "--epsilon", "-1"], 3, "privacy.epsilon"),
    "epsilon 0": (["PLAN", "--epsilon", "0"], 3, "must be above 0"),
    "epsilon inf": (["PLAN", "--epsilon", "inf"], 3, "must be at most 50"),
    "epsilon nan": (["PLAN", "--epsilon", "nan"], 3, "privacy.epsilon"),
    "epsilon too small": (["PLAN", "--epsilon", "1e-7"], 7, "cannot be met in 8 steps"),
    "delta too large": (
        ["PLAN", "--delta", "0.01"],
        3,
        "delta 0.01 is not below 1 / declared size",
    ),
    "unknown partition": (["PLAN", "--partition", "foo"], 3, "unknown partition 'foo'; known: nat"),
    "too few institutions": (["--institutions", "2"], 3, "2 institutions are fewer than 3"),
    "rounds 0": (["PLAN", "--rounds", "0"], 3, "the options: training.rounds 0: "),
    "unknown engine": (["PLAN", "--engine", "rya"], 3, "unknown engine 'rya'; known: inprocess"),
    "aggregation foo": (["PLAN", "--aggregation", "foo"], 3, "must be 'secure' or 'plain'"),
    "out is a file": (["PLAN", "--out", "DATA"], 3, "is a file: name another directory"),
    "out is foreign": (["PLAN", "--out", "FOREIGN"], 3, "holds 'trial.toml', which no run wrote"),
    "out is below a file": (["PLAN", "--out", "DATA/a"], 1, "Not a directory"),
}


@pytest.mark.parametrize(("typed", "code", "complaint"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_one_line_and_its_exit_code(
    plan: Path,
    loans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    code: int,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"PLAN": plan, "DATA": loans, "DATA/a": loans / "a", "FOREIGN": tmp_path}
    arguments = [str(places.get(word, word)) for word in typed]
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert complaint in outcome.complaint
    # Nothing is left behind, not even a directory.
    assert files(tmp_path) == files(plan.parent) == {"trial.toml": plan.read_bytes()}


@pytest.mark.parametrize("typed", ["--epsilon abc", "--rounds 0", "--data gone.csv"])
def test_debug_adds_the_traceback(plan: Path, typed: str) -> None:
    short, long = run(plan, *typed.split()), run(plan, *typed.split(), "--debug")
    assert "Traceback" not in short.err
    assert "Traceback (most recent call last)" in long.err
    assert long.err.splitlines()[-1] == short.err.splitlines()[-1]
    assert (long.code, long.out) == (short.code, "")


def test_unknown_key_in_the_plan_is_named(tmp_path: Path) -> None:
    outcome = run(trial_file(tmp_path, training={"epochs": 3}))
    assert outcome.code == 3
    assert outcome.complaint.endswith("trial.toml: training.epochs 3: unknown key: remove it")


@pytest.mark.parametrize(
    "typed",
    ["--seed -1", "--seed 1e3", "--dropout 1.5", "--institutions 0", "--rounds x", "--epsilons 1"],
)
def test_wrong_usage_is_two(plan: Path, typed: str) -> None:
    outcome = run(plan, *typed.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert typed.split(maxsplit=1)[0] in outcome.err
    assert "Traceback" not in outcome.err


def test_wrong_input_leaves_earlier_results_alone(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    first = run(plan, *FAST, "--rounds", 1, "--out", out)
    assert (first.code, "replaces" in first.err) == (0, False)
    before = files(out)
    for typed in (("--epsilon", "1e-7"), ("--sparsity", "0.99"), ("--partition", "foo")):
        assert run(plan, *typed, "--out", out).code in {3, 7}
        assert files(out) == before
    again = run(plan, *FAST, "--rounds", 2, "--out", out)
    assert again.code == 0
    assert "replaces the earlier run in" in again.err
    assert files(out).keys() == before.keys()
    assert files(out)["rounds.csv"] != before["rounds.csv"]


def test_result_names_what_is_not_protected(plan: Path, tmp_path: Path) -> None:
    outcome = run(plan, "--out", tmp_path / "a")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    (budget,) = (line for line in lines if line.startswith("epsilon="))
    assert budget.endswith("at delta 1e-05  unit=record")
    assert "noise=local  noise_source=csprng discrete gaussian" in lines
    assert any(line.startswith("evaluation=discrete Gaussian counts") for line in lines)
    assert "aggregation=secure: two trips, signed keys" in lines
    assert re.search(r"\d s to train it, [\d.]+ s for all; simulated from a seed", outcome.out)
    assert f"results: {tmp_path / 'a'}/" in lines
    # What shrank, each figure beside that of the model before compaction.
    (neurons,) = (line for line in lines if line.startswith("compacted: "))
    assert re.fullmatch(
        r"compacted: \d of 8 neurons, [\d,]+ of [\d,]+ operations a record", neurons
    )
    (sizes,) = (line for line in lines if line.startswith("bytes: "))
    sparse, compacted, before = (int(word.replace(",", "")) for word in sizes.split()[1::2])
    assert sparse == (tmp_path / "a" / "model.sparse").stat().st_size < compacted <= before
    (times,) = (line for line in lines if line.startswith("ms in onnxruntime"))
    assert times.count(" / ") == 6
    # The three models stand side by side, each with its own measure and size.
    shown = [
        next(line for line in lines if name in line) for name in ("pruned 60", "dense", "logistic")
    ]
    assert all(line.count("0.") >= 2 for line in shown)
    assert "WARNING" not in outcome.err


@pytest.mark.parametrize(
    ("pruned", "dense", "logistic", "told"),
    [
        (0.6226, 0.6992, 0.7442, "WELL BELOW logistic: dense, by 0.0450 ROC-AUC; take a plan of"),
        (0.7000, 0.7400, 0.7442, "WELL BELOW logistic: pruned, by 0.0442 ROC-AUC; lower --spars"),
        (0.7000, 0.7500, 0.7442, "WELL BELOW dense: pruned, by 0.0500 ROC-AUC; lower --sparsity"),
        (0.7770, 0.7760, 0.7780, None),
        (0.7600, None, None, None),
    ],
)
def test_a_poor_model_is_told_with_what_to_do(
    pruned: float, dense: float | None, logistic: float | None, told: str | None
) -> None:
    beside = {"auc_dense": dense, "auc_logistic": logistic}
    known = {name: auc for name, auc in beside.items() if auc is not None}
    lines = shortfall({"auc": pruned, "epsilon": 1.0, **known})
    assert [line[: len(told or "")] for line in lines] == ([told] if told else [])
    assert all("larger --epsilon" in line for line in lines)
    # No larger budget than none can be had.
    unlimited = shortfall({"auc": pruned, "epsilon": "none", **known})
    assert not any("--epsilon" in line for line in unlimited)
    assert len(unlimited) == len(lines)


def test_groups_their_worst_and_the_guard_are_told(tmp_path: Path) -> None:
    plan = trial_file(
        tmp_path,
        evaluation={"groups": ["age_band"], "rounds": 3},
        pruning={"guard": "hold", "floor": 0.99},
    )
    outcome = run(plan, "--no-baselines", "--out", tmp_path / "a")
    assert outcome.code == 0
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    bands = [f"age_band={band}" for band in ("18-29", "30-44", "45-59", "60+")]
    assert list(summary["groups"]) == bands
    worst = summary["groups"][summary["worst_group"]]
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("worst group seen"))
    said = f"{summary['worst_group']}, {worst['auc']:.4f} (sd {worst['auc_sd']:.4f})"
    assert line == f"worst group seen by the server: {said}"
    assert f"guard, last: {summary['guard']}" in outcome.out
    assert "below the floor 0.9900; smallest detectable shortfall" in summary["guard"]
    assert "below the floor" in outcome.err
    assert ", groups and pools included" in outcome.out
    with (tmp_path / "a" / "groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == bands * 4
    last = {row["group"]: row["auc"] for row in rows[-4:]}
    assert float(last[summary["worst_group"]]) == pytest.approx(worst["auc"], abs=1e-6)
    # A plan without groups says nothing of them, and the file of the earlier run is gone.
    quiet = run(trial_file(tmp_path), "--no-baselines", "--out", tmp_path / "a")
    assert "worst group" not in quiet.out + quiet.err
    assert "guard, last" not in quiet.out
    assert not (tmp_path / "a" / "groups.csv").exists()


@pytest.mark.parametrize(
    ("typed", "warning", "key"),
    [
        (("--epsilon", "none"), "epsilon is none: NO differential privacy", "noise_source"),
        (("--aggregation", "plain"), "aggregation is plain: the server sees every", "aggregation"),
    ],
)
def test_missing_protection_is_told_loudly(
    plan: Path, tmp_path: Path, typed: tuple[str, str], warning: str, key: str
) -> None:
    outcome = run(plan, "--no-baselines", *typed, "--out", tmp_path / "a")
    assert f"WARNING: {warning}" in outcome.err
    assert f"{typed[0].removeprefix('--')}={typed[1]}" in outcome.out
    assert json.loads((tmp_path / "a" / "summary.json").read_text())[key] == typed[1]
    quiet = run(plan, "--no-baselines", "--out", tmp_path / "b")
    assert "WARNING" not in quiet.err
    assert json.loads((tmp_path / "b" / "summary.json").read_text())[key] != typed[1]


def test_json_is_the_summary_and_all_of_standard_output(plan: Path, tmp_path: Path) -> None:
    outcome = run(plan, *FAST, "--json", "--out", tmp_path / "a")
    assert len(outcome.out.splitlines()) == 1
    assert outcome.summary == json.loads((tmp_path / "a" / "summary.json").read_text())
    assert outcome.summary["evaluation"].startswith("discrete Gaussian counts")


def test_options_reach_the_plan_that_is_written(plan: Path, tmp_path: Path) -> None:
    typed = {"rounds": 2, "delta": 1e-6, "sparsity": 0.5, "aggregation": "plain", "epsilon": "none"}
    arguments = [word for name, value in typed.items() for word in (f"--{name}", value)]
    outcome = run(plan, *arguments, "--no-baselines", "--json", "--out", tmp_path / "a")
    written = load_plan(tmp_path / "a" / "plan.toml")
    assert written.digest() == outcome.summary["plan_sha256"]
    assert (written.training.rounds, written.privacy.delta) == (2, 1e-6)
    assert (written.pruning.sparsity, written.aggregation.kind) == (0.5, "plain")
    assert written.privacy.epsilon == "none"
    original = load_plan(plan)
    assert (written.model, written.evaluation, written.institutions) == (
        original.model,
        original.evaluation,
        original.institutions,
    )
    assert written.digest() != original.digest()


def results(plan: Path, out: Path, *arguments: object) -> dict[str, Any]:
    summary = run(plan, "--no-baselines", "--json", "--out", out, *arguments).summary
    del summary["seconds"]
    return summary


def test_seed_decides_everything(plan: Path, tmp_path: Path) -> None:
    first, again, other = (results(plan, tmp_path / "a", "--seed", seed) for seed in (0, 0, 1))
    assert first == again
    assert other["auc"] != first["auc"]
    assert other["plan_sha256"] == first["plan_sha256"]


def test_results_have_a_default_place(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(plan, *FAST, "--rounds", 1, "--seed", 3).code == 0
    assert (tmp_path / "runs" / "trial-seed3" / "summary.json").is_file()


def test_file_and_schema_alone_make_a_run(loans: Path, tmp_path: Path) -> None:
    typed = ("--data", loans, "--schema", "credit_consortium", "--institutions", 3, "--rounds", 2)
    outcome = run(*typed, *FAST, "--json", "--out", tmp_path / "a", "--partition", "age_band")
    assert outcome.code == 0
    declared = [entry.size for entry in load_plan(tmp_path / "a" / "plan.toml").institutions]
    assert len(set(declared)) == 3


def test_departures_are_survived_or_told(plan: Path, tmp_path: Path) -> None:
    typed = (*FAST, "--institutions", 7, "--json", "--out", tmp_path / "a")
    outcome = run(plan, *typed, "--dropout", 0.2)
    assert outcome.code == 0
    with (tmp_path / "a" / "rounds.csv").open(newline="") as file:
        survivors = [int(row["survivors"]) for row in csv.DictReader(file)]
    assert len(survivors) == 5
    assert min(survivors) < 7
    assert all(count == 0 or count >= 5 for count in survivors)
    # All gone: no round can be finished, which is an error and no result.
    outcome = run(plan, *typed, "--dropout", 1)
    assert (outcome.code, outcome.out) == (6, "")
    assert "Traceback" not in outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: 3 rounds in a row could not be completed by 5 institutions")
    assert not (tmp_path / "a" / "summary.json").exists()


@pytest.mark.parametrize(("module", "name"), [(inputs, "assemble"), (execute, "simulate")])
def test_ctrl_c_before_the_first_round_is_130(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    def press(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, name, press)
    outcome = run(plan, *FAST, "--out", tmp_path / "a")
    assert (outcome.code, outcome.out) == (130, "")
    assert "Traceback" not in outcome.err


def test_help_waits_for_no_heavy_import() -> None:
    script = "import sys, simulations.cli; print(*{'torch', 'flwr', 'typer'} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == ["typer"]
