"""Records of runs for tests of the model file, complete or with one of them taken away."""

import json
from pathlib import Path
from typing import Any

from common.plan import Plan
from server.model_file.records import Beside, read_records
from server.model_file.shapes import Check, Fact, ModelFile
from server.model_file.story import file_of
from tests.reports import write_run
from tests.support import grouped_plan

PLAN = grouped_plan(evaluation={"noise": "gaussian", "epsilon": 20.0})
SUMMARY: dict[str, Any] = {
    "seed": 1,
    "auc": 0.88,
    "pr_auc": 0.6,
    "ks": 0.5,
    "weights_kept": 25,
    "auc_dense": 0.882,
    "pr_auc_dense": 0.61,
    "ks_dense": 0.51,
    "weights_dense": 85,
    "auc_logistic": 0.87,
    "pr_auc_logistic": 0.59,
    "ks_logistic": 0.49,
    "weights_logistic": 5,
}
FACTS = """\
intended_purpose = "Rank applicants for loans by the chance that they default."
decisions = "Limits and prices; an officer decides."
users = "Credit officers"
population = "Adults who apply for a loan"
out_of_scope = ["mortgages", "companies"]
owner = "Retail risk"
developer = "Consortium desk"
validator = "Model validation"
materiality = "high"
risk_class = "high risk, Annex III 5(b)"
oversight = "An officer may overrule each score."
data_source = "Loan books of the members"
data_period = "2019 to 2024"
outcome_window = "90 days past due within a year"
owner_limits = ["No year of a recession is in the data."]
review = "each June"
contact = "risk@example.org"

[thresholds]
least_auc = 0.7
"""


def write_simulated(folder: Path, plan: Plan = PLAN, **summary: Any) -> Path:
    """Write a simulated run with all that such a run records."""
    return write_run(folder, plan, **SUMMARY | summary)


def write_seeds(folder: Path, plan: Plan = PLAN, aucs: tuple[float, ...] = (0.88, 0.876)) -> Path:
    """Write what is read of simulated runs of the plan, a seed each."""
    for seed, auc in enumerate(aucs):
        (folder / f"seed-{seed}").mkdir(parents=True)
        summary = SUMMARY | {"seed": seed, "auc": auc, "interrupted": False}
        text = json.dumps(summary | {"plan_sha256": plan.digest()})
        (folder / f"seed-{seed}" / "summary.json").write_text(text)
    return folder


def write_audit(
    folder: Path, plan: Plan = PLAN, bound: float = 0.4, claim: float | None = 1.0, attacks: int = 1
) -> Path:
    """Write an audit of the plan with so many attacks, all alike."""
    folder.mkdir(parents=True)
    finding = {"attack": "canaries", "claim": claim, "bound": bound, "verdict": "not exceeded"}
    found = {"plan_sha256": plan.digest(), "findings": [finding] * attacks}
    (folder / "audit.json").write_text(json.dumps(found))
    return folder


def made(run: Path, **beside: Path) -> ModelFile:
    """Return the model file of a run."""
    return file_of(read_records(run, Beside(**beside)))


def fact(file: ModelFile, name: str) -> Fact:
    """Return a fact by ``chapter.key``."""
    chapter, _, key = name.partition(".")
    return file.chapters[chapter].facts[key]


def check(run: Path, name: str, **beside: Path) -> Check:
    """Return how a test of the validation came out."""
    return made(run, **beside).checks[name]


def unpruned(plan: Plan = PLAN) -> Plan:
    """Return the plan without its pruning."""
    pruning = plan.pruning.model_copy(update={"sparsity": 0.0})
    return plan.model_copy(update={"pruning": pruning})
