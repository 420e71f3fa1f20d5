import re
from pathlib import Path
from typing import Any

import pytest

from common.facts import facts_of
from common.plan import load_plan
from common.privacy.budgets import learning_rate, training_mechanism
from server.cli import main
from tests.commands import Outcome, invoke, trial_file


def facts(outcome: Outcome) -> dict[str, str]:
    """Return what is shown, a fact a line."""
    return dict(re.split(r" {2,}", line) for line in outcome.out.splitlines())


def test_good_plan_is_shown_with_its_hash(tmp_path: Path) -> None:
    path = trial_file(tmp_path)
    agreed = load_plan(path)
    outcome = invoke(main, "plan", path)
    assert (outcome.code, outcome.err) == (0, "")
    shown = facts(outcome)
    assert (shown["plan"], shown["plan_sha256"]) == ("trial", agreed.digest())
    assert shown["institutions"] == "3, threshold 3"
    assert shown["model"] == "wide_and_deep, 251 weights on 26 features"
    assert (shown["planned_epsilon"], shown["delta"]) == ("2.0", "1e-05")
    assert shown["noise_source"] == facts_of(agreed)["noise_source"]
    noise = training_mechanism(agreed).noise_multiplier
    assert shown["noise multiplier"] == f"{noise:.4f}, 8 steps"
    assert shown["learning rate"] == f"{learning_rate(agreed):.4g}"
    assert (shown["aggregation"], shown["ring"]) == ("secure", "24 bits")
    assert shown["pruning"] == "0.6 of weights by magnitude, global allocation, cubic schedule"
    assert shown["evaluation rounds"] == "2, 4"


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        ("privacy", {"epsilon": "none"}, "epsilon is none: NO differential privacy"),
        ("aggregation", {"kind": "plain"}, "aggregation is plain: the server sees every"),
    ],
)
def test_missing_protection_is_told_loudly(
    tmp_path: Path, section: str, values: dict[str, Any], told: str
) -> None:
    assert told in invoke(main, "plan", trial_file(tmp_path, **{section: values})).err


def test_who_is_counted_apart_is_shown_with_what_it_costs(tmp_path: Path) -> None:
    shown = facts(invoke(main, "plan", trial_file(tmp_path, evaluation={"groups": ["age_band"]})))
    assert shown["counted apart"] == "age_band; 1.41 times the noise on each count"
    assert shown["evaluation"].endswith(", once, groups and pools included")
    assert "counted apart" not in facts(invoke(main, "plan", trial_file(tmp_path)))


def test_hash_follows_the_plan(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {"privacy": {"epsilon": "none"}}
    hashes = [
        facts(invoke(main, "plan", trial_file(tmp_path, **quiet, **sections)))["plan_sha256"]
        for sections in ({}, {}, {"name": "other"})
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("sections", "code", "complaint"),
    [
        ({"training": {"epochs": 3}}, 3, "training.epochs"),
        ({"training": {"rounds": 0}}, 3, "training.rounds"),
        ({"pruning": {"sparsity": 1.2}}, 3, "pruning.sparsity"),
        ({"pruning": {"score": "luck"}}, 3, "unknown pruning score 'luck'; known: "),
        ({"schema": "../secrets"}, 3, "unknown schema"),
        ({"institutions": [{"name": "ash", "size": 500}]}, 3, "1 institutions are fewer than 3"),
        ({"privacy": {"epsilon": 1e-7}}, 7, "cannot be met in 8 steps"),
        ({"pruning": {"sparsity": 0.99}}, 3, "would prune protected weights"),
    ],
)
def test_bad_plan_is_one_line(
    tmp_path: Path, sections: dict[str, Any], code: int, complaint: str
) -> None:
    outcome = invoke(main, "plan", trial_file(tmp_path, **sections))
    assert (outcome.code, outcome.out) == (code, "")
    assert complaint in outcome.complaint


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    outcome = invoke(main, "plan", tmp_path / "gone.toml")
    assert outcome.code == 3
    assert outcome.complaint.endswith("gone.toml: no such file: check the path")
    (tmp_path / "plan.toml").write_text("name = ")
    outcome = invoke(main, "plan", tmp_path / "plan.toml")
    assert outcome.code == 3
    assert "not readable as TOML" in outcome.complaint
    assert "Traceback" in invoke(main, "plan", tmp_path / "plan.toml", "--debug").err


def test_wrong_usage_is_two() -> None:
    outcome = invoke(main, "plan")
    assert (outcome.code, outcome.out) == (2, "")
    assert "FILE" in outcome.err


def test_a_log_cannot_steer_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "superlink.log").write_text(
        "first\n\x1b[92mINFO\x1b[0m : up\x1b]0;owned\x07\x1b[2J\n"
    )
    shown = invoke(main, "logs", "superlink", "--home", tmp_path, "-n", "1")
    assert (shown.code, shown.out) == (0, "INFO : up ]0;owned  [2J\n")
