"""How much a model's quality depends on the seed: by ``fedprune-sim compare``, or by runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from common.errors import ConfigError
from common.plan import Plan, load_plan
from server.report.files import PLAN, SUMMARY, json_of, reading
from server.report.quality import RIVALS

COMPARED, PRUNED = "compare.json", "pruned"
LEAST = 2
"""Seeds without which nothing is seen of a spread."""

AXES = ("score", "granularity", "allocation", "schedule", "penalty")


@dataclass(frozen=True, slots=True)
class Study:
    """Exact test ROC-AUC by model, each as long as ``seeds``; "pruned" is among them."""

    seeds: tuple[int, ...]
    models: Mapping[str, tuple[float, ...]]

    def spread(self, model: str = PRUNED) -> tuple[float, float]:
        """Return mean and standard deviation over the seeds."""
        return fmean(self.models[model]), stdev(self.models[model])


def read_study(directory: Path, plan: Plan) -> Study:
    """Return what a folder tells of this plan over seeds.

    It holds what ``compare`` wrote, or a simulated run of the plan in each of its folders.

    Raises `ConfigError` when it holds neither, is of another plan, or of fewer than two seeds.
    """
    compared = (directory / COMPARED).is_file()
    study = _compared(directory, plan) if compared else _runs(directory, plan)
    if len(study.seeds) < LEAST or len({*study.seeds}) < len(study.seeds):
        raise ConfigError(
            f"{directory}: holds seeds {', '.join(map(str, study.seeds)) or 'none'}: name a folder"
            f" of {LEAST} different ones or more"
        )
    return study


def _compared(directory: Path, plan: Plan) -> Study:
    base = load_plan(directory / PLAN)
    private = base.privacy.model_copy(update={"epsilon": plan.privacy.epsilon})
    update = {"pruning": plan.pruning, "privacy": private, "name": plan.name}
    if base.model_copy(update=update) != plan:
        raise ConfigError(
            f"{directory}: compares models of another plan: have it compare the run's plan.toml"
        )
    found = json_of(directory / COMPARED)
    with reading(directory / COMPARED):
        models = {
            PRUNED if _is_ours(row, plan) else str(row["kind"]): tuple(
                map(float, row["auc_test_by_seed"])
            )
            for row in found["table"]
            if row["epsilon"] == plan.privacy.epsilon and (_is_ours(row, plan) or _rivals(row))
        }
        seeds = tuple(map(int, found["seeds"]))
    if PRUNED not in models:
        raise ConfigError(
            f"{directory}: compares no model that is pruned as this run's: have it compare"
            f" {plan.pruning.score} at sparsity {plan.pruning.sparsity}"
        )
    return Study(seeds, models)


def _is_ours(row: Mapping[str, Any], plan: Plan) -> bool:
    asked = {axis: getattr(plan.pruning, axis) for axis in AXES}
    same = {axis: row[axis] for axis in AXES} == asked
    return same and row["sparsity_asked"] == plan.pruning.sparsity


def _rivals(row: Mapping[str, Any]) -> bool:
    return row["kind"] in RIVALS


def _runs(directory: Path, plan: Plan) -> Study:
    by_seed: dict[int, Mapping[str, Any]] = {}
    for path in sorted(directory.glob(f"*/{SUMMARY}")):
        with reading(path):
            summary = json.loads(path.read_bytes())
            seed, of = int(summary["seed"]), str(summary["plan_sha256"])
            float(summary["auc"])
        if of != plan.digest():
            raise ConfigError(
                f"{path}: is a run of plan {of[:16]}, not {plan.digest()[:16]}: run the same"
                " plan.toml with each --seed"
            )
        if summary["interrupted"]:
            raise ConfigError(f"{path}: the run was cut short: run that seed again")
        by_seed[seed] = summary
    columns = {PRUNED: "auc", **{name: f"auc_{name}" for name in RIVALS}}
    return Study(
        tuple(sorted(by_seed)),
        {
            name: tuple(float(by_seed[seed][column]) for seed in sorted(by_seed))
            for name, column in columns.items()
            if by_seed and all(column in summary for summary in by_seed.values())
        },
    )
