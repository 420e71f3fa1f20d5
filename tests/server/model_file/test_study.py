import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConfigError
from common.plan import Plan
from server.model_file.study import read_study
from tests.cards import PLAN, write_seeds
from tests.support import small_plan

ARM = {
    "epsilon": PLAN.privacy.epsilon,
    "kind": "pruned",
    **{axis: getattr(PLAN.pruning, axis) for axis in ("score", "granularity", "allocation")},
    **{axis: getattr(PLAN.pruning, axis) for axis in ("schedule", "penalty")},
    "sparsity_asked": PLAN.pruning.sparsity,
    "auc_test_by_seed": [0.8, 0.82, 0.84],
}
NONE = dict.fromkeys(("score", "granularity", "allocation", "schedule", "penalty"))


def rival(kind: str, *aucs: float) -> dict[str, Any]:
    return ARM | NONE | {"kind": kind, "sparsity_asked": None, "auc_test_by_seed": list(aucs)}


def write_compared(folder: Path, table: list[dict[str, Any]], plan: Plan = PLAN) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "plan.toml").write_text(plan.to_toml())
    found = {"seeds": [0, 1, 2], "table": table}
    (folder / "compare.json").write_text(json.dumps(found))
    return folder


def refusal(folder: Path, plan: Plan = PLAN) -> str:
    with pytest.raises(ConfigError) as caught:
        read_study(folder, plan)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_comparison_tells_the_models_that_are_pruned_alike(tmp_path: Path) -> None:
    table = [
        rival("dense", 0.83, 0.84, 0.85),
        ARM | {"sparsity_asked": 0.5, "auc_test_by_seed": [0.1, 0.1, 0.1]},
        ARM,
        ARM | {"epsilon": 9.0, "auc_test_by_seed": [0.2, 0.2, 0.2]},
        rival("logistic", 0.8, 0.8, 0.8),
        rival("same size", 0.7, 0.7, 0.7),
    ]
    study = read_study(write_compared(tmp_path, table), PLAN)
    assert study.seeds == (0, 1, 2)
    assert set(study.models) == {"pruned", "dense", "logistic"}
    assert study.models["pruned"] == (0.8, 0.82, 0.84)
    assert study.spread() == pytest.approx((0.82, 0.02))


def test_a_comparison_of_another_plan_pruning_or_one_seed_is_refused(tmp_path: Path) -> None:
    other = write_compared(tmp_path / "other", [ARM], small_plan())
    assert "of another plan" in refusal(other)
    alone = write_compared(tmp_path / "alone", [rival("dense", 0.8, 0.8, 0.8)])
    assert "no model that is pruned as this run's" in refusal(alone)
    short = write_compared(tmp_path / "short", [ARM])
    text = json.dumps({"seeds": [4], "table": [ARM | {"auc_test_by_seed": [0.8]}]})
    (short / "compare.json").write_text(text)
    assert "holds seeds 4" in refusal(short)
    (short / "compare.json").write_text('{"seeds": [1, 2]}')
    assert "is not as a run wrote it" in refusal(short)


def test_runs_tell_what_all_of_them_recorded(tmp_path: Path) -> None:
    study = read_study(write_seeds(tmp_path, aucs=(0.9, 0.8, 0.85)), PLAN)
    assert study.seeds == (0, 1, 2)
    assert study.models["pruned"] == (0.9, 0.8, 0.85)
    path = tmp_path / "seed-1" / "summary.json"
    summary = json.loads(path.read_text())
    del summary["auc_dense"]
    path.write_text(json.dumps(summary))
    assert set(read_study(tmp_path, PLAN).models) == {"pruned", "logistic"}


def test_runs_of_another_plan_cut_short_or_of_one_seed_are_refused(tmp_path: Path) -> None:
    assert "holds seeds none" in refusal(tmp_path)
    assert f"not {small_plan().digest()[:16]}" in refusal(write_seeds(tmp_path), small_plan())
    path = tmp_path / "seed-1" / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"interrupted": True}))
    assert "was cut short" in refusal(tmp_path)
    path.write_text(json.dumps(summary | {"seed": 0}))
    assert "holds seeds 0" in refusal(tmp_path)
    path.write_text("{}")
    assert "is not as a run wrote it" in refusal(tmp_path)
