import csv
import json
import time
from pathlib import Path

import pytest

from common.errors import AggregationError
from common.plan import load_plan
from simulations import campaign
from simulations.cells import Cell, Outcome, execute_cell
from simulations.cli import main
from simulations.directory import claimed
from tests.commands import ROOT, ended, invoke, spawn, trial_file
from tests.commands import Outcome as Ended

SMALL = ("--sparsity", "0.5", "--seeds", 2, "--rank", "exact")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return trial_file(tmp_path, training={"rounds": 1, "steps": 1})


def compare(*arguments: object) -> Ended:
    return invoke(main, "compare", *arguments)


def finished(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}


def test_comparison_ends_in_a_table_a_page_and_a_plan(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    outcome = compare(plan, *SMALL, "--scores", "magnitude,taylor", "--out", out)
    assert outcome.code == 0, outcome.err
    names = {path.name for path in out.iterdir()}
    files = {"compare.csv", "compare.json", "compare.html", "plan.toml", "recommended.toml"}
    assert names == files | {"cells", ".lock"}
    assert "exact validation ROC-AUC, which only a simulator sees" in outcome.out
    for shown in ("dense", "logistic", "random weight 50 %", "same size", "taylor weight 50 %"):
        assert shown in outcome.out
    assert "recommended: " in outcome.out
    assert "summed in the plain for speed" in outcome.out
    assert "so it protects nobody" in outcome.out
    # Two scores and chance, dense, logistic and one of the same size.
    with (out / "compare.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3 + 3
    summary = json.loads((out / "compare.json").read_text())
    (taken,) = summary["recommended"]
    recommended = load_plan(out / "recommended.toml")
    assert (recommended.pruning.score, recommended.pruning.sparsity) == (
        taken["score"],
        taken["sparsity"],
    )
    # What was asked for is written, not what was run for speed.
    assert load_plan(out / "plan.toml").digest() == load_plan(plan).digest()
    assert recommended.aggregation.kind == "secure"
    assert outcome.err == ""
    # A later mistake in the same directory costs nothing of this.
    assert compare(plan, *SMALL, "--sparsity", "1.5", "--out", out).code == 3
    assert {path.name for path in out.iterdir()} == files | {"cells", ".lock"}


def test_second_command_reads_what_the_first_found(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    first = compare(plan, *SMALL, "--json", "--out", out)
    before = finished(out)
    again = compare(plan, *SMALL, "--json", "--out", out)
    assert again.summary == first.summary
    assert finished(out) == before
    # A wider grid trains only what is new; another measure needs no training at all.
    compare(plan, *SMALL, "--rank", "private", "--out", out)
    assert finished(out) == before
    compare(plan, *SMALL, "--seeds", 3, "--out", out)
    assert {name: finished(out)[name] for name in before} == before
    assert len(finished(out)) > len(before)
    fresh = compare(plan, *SMALL, "--json", "--fresh", "--out", out)
    assert fresh.summary == first.summary
    assert finished(out).keys() == before.keys()
    assert set(finished(out).values()).isdisjoint(before.values())


def test_killed_comparison_goes_on(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    process = spawn("simulations.cli", "compare", plan, *SMALL, "--out", out)
    waited = 0.0
    while len(finished(out) if out.exists() else {}) < 3 and waited < 120:
        time.sleep(0.02)
        waited += 0.02
    process.kill()
    assert ended(process).code == -9
    before = finished(out)
    assert 3 <= len(before) < 10
    assert not (out / "compare.csv").exists()
    resumed = compare(plan, *SMALL, "--json", "--out", out)
    assert resumed.code == 0
    assert {name: finished(out)[name] for name in before} == before
    whole = compare(plan, *SMALL, "--json", "--out", tmp_path / "b")
    assert resumed.summary == whole.summary


def test_two_at_once_are_refused(plan: Path, tmp_path: Path) -> None:
    with claimed(tmp_path / "a"):
        outcome = compare(plan, *SMALL, "--out", tmp_path / "a")
    assert (outcome.code, outcome.out) == (3, "")
    assert "another run writes here" in outcome.complaint


def test_run_does_not_take_the_directory_of_a_comparison(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    assert compare(plan, *SMALL, "--seeds", 1, "--out", out).code == 0
    before = finished(out)
    outcome = invoke(main, "run", plan, "--no-baselines", "--out", out)
    assert outcome.code == 3
    assert "holds 'cells'" in outcome.complaint
    assert finished(out) == before
    assert (out / "compare.html").is_file()


def test_failed_cell_is_named_and_loses_no_other(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def broken(cell: Cell, engine: str) -> Outcome:
        if cell.plans[0].pruning.score == "taylor" and cell.seed == 1:
            raise AggregationError("the model has diverged")
        return execute_cell(cell, engine)

    monkeypatch.setattr(campaign, "execute_cell", broken)
    typed = (plan, *SMALL, "--scores", "magnitude,taylor", "--out", tmp_path / "a")
    outcome = compare(*typed)
    assert outcome.code == 6
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: 1 not in the tables, the first taylor weight 50 %, epsilon 2.0,")
    assert "seed 1: the model has diverged; the same command tries" in last
    assert "magnitude weight 50 %" in outcome.out
    assert "taylor weight 50 %" not in outcome.out
    assert "diverged" in (tmp_path / "a" / "compare.html").read_text()
    monkeypatch.undo()
    again = compare(*typed)
    assert again.code == 0
    assert "taylor weight 50 %" in again.out


def test_nothing_to_rank_is_an_error(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(cell: Cell, engine: str) -> Outcome:
        raise AggregationError("the model has diverged")

    monkeypatch.setattr(campaign, "execute_cell", broken)
    outcome = compare(plan, *SMALL, "--out", tmp_path / "a")
    assert (outcome.code, outcome.out) == (6, "")
    assert "no pruned model at epsilon 2.0 can be ranked" in outcome.err.splitlines()[-1]


WRONG: dict[str, tuple[list[str], int, str]] = {
    "unknown score": (["--scores", "l3"], 3, "unknown pruning score 'l3'; known: displacement"),
    "unknown granularity": (["--granularity", "row"], 3, "unknown pruning granularity 'row'"),
    "empty name": (
        ["--scores", "magnitude,,taylor"],
        3,
        "--scores 'magnitude,,taylor' has an empty",
    ),
    "sparsity x": (["--sparsity", "0.5,x"], 3, "--sparsity 'x' is no number from 0 to below 1"),
    "sparsity 1.5": (["--sparsity", "1.5"], 3, "nothing is left to compare"),
    "epsilon x": (["--epsilon", "1,x"], 3, "--epsilon 'x' is neither a number nor none"),
    "epsilon too small": (["--epsilon", "1,1e-7"], 7, "cannot be met in 1 steps"),
    "missing plan": (["--rounds", "0"], 3, "training.rounds 0"),
    "directory of others": (["--out", str(ROOT)], 3, "which no run wrote"),
}


@pytest.mark.parametrize(("typed", "code", "complaint"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_one_line_and_its_exit_code(
    plan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    code: int,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = compare(plan, "--seeds", 1, *typed)
    assert (outcome.code, outcome.out) == (code, "")
    assert complaint in outcome.complaint


@pytest.mark.parametrize("typed", ["--seeds 0", "--jobs 0", "--rank best", "--seed -1"])
def test_wrong_usage_is_two(plan: Path, typed: str) -> None:
    outcome = compare(plan, *typed.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert typed.split(maxsplit=1)[0] in outcome.err
