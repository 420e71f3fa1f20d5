import json
from pathlib import Path

import pytest

from client.training import LocalSteps
from common.plan import load_plan
from simulations.cli import main
from tests.commands import Outcome, invoke, trial_file

FAST = ("--canaries", 64, "--draws", 20_000)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    sections = {"model": {"hidden": [64]}, "training": {"rounds": 12, "steps": 5}}
    return trial_file(tmp_path, **sections)


def audit(*arguments: object) -> Outcome:
    return invoke(main, "audit", *arguments)


def test_bounds_stand_beside_claims(plan: Path, tmp_path: Path) -> None:
    outcome = audit(plan, *FAST, "--epsilon", 1, "--out", tmp_path / "a")
    assert (outcome.code, outcome.err.strip()) == (0, "")
    for shown in ("lower bound", "not exceeded", "confidence 0.95", "1.000", "one step"):
        assert shown in outcome.out
    summary = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert summary["passed"] is True
    assert summary["confidence"] == 0.95
    assert [one["verdict"] for one in summary["findings"]] == ["not exceeded"] * 5
    written = load_plan(tmp_path / "a" / "plan.toml")
    assert written.digest() == summary["plan_sha256"]
    assert written.privacy.epsilon == summary["epsilon"] == 1
    assert written.aggregation == load_plan(plan).aggregation


def test_failure_is_one_line_with_both_numbers_and_its_exit_code(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalSteps, "grid", lambda local, size: None)
    outcome = audit(plan, *FAST, "--epsilon", 1, "--json", "--out", tmp_path / "a")
    assert outcome.code == 8
    assert outcome.complaint.startswith("AUDIT FAILED (confidence 0.95): canaries: epsilon is at")
    for one in outcome.summary["findings"]:
        told = f"at least {one['bound']:.3f}, the claim is {one['claim']:.3f}"
        assert (told in outcome.complaint) == (one["verdict"] == "EXCEEDED")
    assert outcome.summary["passed"] is False
    assert outcome.summary == json.loads((tmp_path / "a" / "audit.json").read_text())


def test_nothing_claimed_is_nothing_refuted(plan: Path, tmp_path: Path) -> None:
    outcome = audit(plan, *FAST, "--epsilon", "none", "--json", "--out", tmp_path / "a")
    assert outcome.code == 0
    assert "NO differential privacy" in outcome.err
    assert outcome.summary["passed"] is None
    assert {one["claim"] for one in outcome.summary["findings"]} == {None}


@pytest.mark.parametrize("typed", ["--canaries 7", "--draws 10", "--confidence 1", "--seed -1"])
def test_wrong_usage_is_two(plan: Path, typed: str) -> None:
    outcome = audit(plan, *typed.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert typed.split(maxsplit=1)[0] in outcome.err


def test_directory_of_others_is_refused(plan: Path, tmp_path: Path) -> None:
    outcome = audit(plan, *FAST, "--out", plan.parent)
    assert (outcome.code, outcome.out) == (3, "")
    assert "which no run wrote" in outcome.complaint
