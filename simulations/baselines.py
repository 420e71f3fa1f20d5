"""What the pruned model is held against: the same budget, data and seed, but not pruned.

Baselines are summed in the plain: with the same seed a masked run gives the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from client.data import Splits
from common.plan import Plan, PruningPlan, plan_from_dict
from common.privacy.budgets import learning_rate
from simulations.engine import IN_PROCESS
from simulations.run import Run, Watch, exact_metrics, simulate

RATES = (0.5, 1.0, 2.0)
"""Learning rates tried for each baseline, as multiples of the pruned run's."""

BASELINES: dict[str, dict[str, Any]] = {"logistic": {"model": {"kind": "logistic"}}, "dense": {}}
"""What each is beside not being pruned."""


@dataclass(frozen=True)
class Baseline:
    """A baseline at the best of its rates by exact ROC-AUC on pooled validation rows."""

    name: str
    learning_rate: float
    auc: float
    pr_auc: float
    ks: float
    weights: int


def baseline_plans(plan: Plan, name: str) -> list[Plan]:
    """Return the plan of a baseline at each learning rate."""
    rate = learning_rate(plan)
    plans = []
    for multiple in RATES:
        fields = plan.to_dict()
        fields["aggregation"]["kind"] = "plain"
        fields["training"]["learning_rate"] = rate * multiple
        # All of the section: a guard, a penalty or neurons would make it another model.
        fields["pruning"] = PruningPlan(sparsity=0.0).model_dump()
        for section, values in BASELINES[name].items():
            fields[section] |= values
        plans.append(plan_from_dict(fields, f"baseline {name}"))
    return plans


def train_baseline(  # noqa: PLR0913, PLR0917  (what `simulate` takes)
    plan: Plan,
    name: str,
    splits: Mapping[str, Splits],
    seed: int,
    watch: Watch | None = None,
    engine: str = IN_PROCESS,
) -> Baseline:
    """Train a baseline at each rate; test rows are read for the chosen one alone."""
    runs = []
    for candidate in baseline_plans(plan, name):
        run = Run(candidate)
        simulate(run, splits, seed, watch=watch, engine=engine)
        validation = {member: part.validation for member, part in splits.items()}
        runs.append((exact_metrics(run.final, candidate, validation)[0], run))
    _, best = max(runs, key=lambda item: item[0])
    test = {member: part.test for member, part in splits.items()}
    found = exact_metrics(best.final, best.plan, test)
    return Baseline(name, learning_rate(best.plan), *found, best.final.mask.size)
