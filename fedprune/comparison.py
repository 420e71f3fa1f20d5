"""Many models side by side: which one to take, beside what it must beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from common.errors import ConfigError
from common.plan import Plan
from common.schema import FeatureSchema
from fedprune.settling import (
    PathLike,
    lent,
    one_thread,
    options_of,
    placed,
    settings_of,
    unnamed_removed,
)
from simulations.campaign import runner_of
from simulations.compare import Epsilon, Grid
from simulations.compare_figures import against_sparsity
from simulations.compare_report import Budget, rows_of, summary_of
from simulations.compare_report import Comparison as Found
from simulations.compare_run import carry_out
from simulations.engine import IN_PROCESS
from simulations.inputs import assemble_seeds
from simulations.ranking import RankBy


@dataclass(frozen=True, eq=False)
class Comparison:
    """A finished comparison; ``directory`` holds all its files, the page of plots among them."""

    directory: Path
    _found: Found = field(repr=False)

    @property
    def plan(self) -> Plan:
        """The plan that was varied."""
        return self._found.plan

    @property
    def table(self) -> pd.DataFrame:
        """A row a model and budget, by rank, as ``compare.csv`` has it."""
        found = self._found
        return pd.DataFrame([row for one in found.budgets for row in rows_of(found, one)])

    @property
    def advice(self) -> pd.DataFrame:
        """A row a budget: the model to take, or None where noise hides which, and why."""
        return pd.DataFrame(self.summary["recommended"]).set_index("epsilon")

    @property
    def recommended(self) -> Plan:
        """The plan of the model to take, at the first budget."""
        return self.recommended_at(self._found.budgets[0].epsilon)

    @property
    def summary(self) -> Mapping[str, Any]:
        """What ``compare.json`` holds, each seed's values and what failed among it."""
        return summary_of(self._found)

    def recommended_at(self, epsilon: Epsilon) -> Plan:
        """Return the plan of the model to take at a budget; `KeyError` for one not compared.

        Raises `ConfigError` where none is recommended, saying what would decide.
        """
        advice = self._budget(epsilon).advice
        if advice.arm is None:
            raise ConfigError(f"epsilon {epsilon}: recommended: {advice.reason}")
        (plan,) = advice.arm.plans(self.plan)
        return plan

    def figure(self, epsilon: Epsilon | None = None) -> Figure:
        """Return ROC-AUC against sparsity at a budget, the first unless one is named."""
        budget = self._found.budgets[0] if epsilon is None else self._budget(epsilon)
        return against_sparsity(budget.table, self._found.by)

    def _budget(self, epsilon: Epsilon) -> Budget:
        return {budget.epsilon: budget for budget in self._found.budgets}[epsilon]


def compare(  # noqa: PLR0913  (what a comparison may vary)
    plan: Plan | PathLike | None = None,
    *,
    data: pd.DataFrame | PathLike | None = None,
    schema: FeatureSchema | PathLike | None = None,
    institutions: int | None = None,
    partition: str | None = None,
    scores: Sequence[str] = (),
    granularities: Sequence[str] = (),
    allocations: Sequence[str] = (),
    schedules: Sequence[str] = (),
    penalties: Sequence[str] = (),
    sparsities: Sequence[float] = (),
    epsilons: Sequence[Epsilon] = (),
    rounds: int | None = None,
    settings: Mapping[str, object] | None = None,
    seeds: int = 3,
    seed: int = 0,
    rank: RankBy = "private",
    jobs: int = 1,
    engine: str = IN_PROCESS,
    fresh: bool = False,
    out: PathLike | None = None,
) -> Comparison:
    """Train every combination beside its rivals and rank them, as ``fedprune-sim compare`` does.

    With ``out`` the same call goes on where an interrupted one stopped, unless ``fresh``. Several
    ``jobs`` are processes that import the caller's main module: keep a script's calls under
    ``if __name__ == "__main__"``.

    Args:
        plan: a plan or its file; without one, its defaults.
        data: as in `simulate`, like ``schema``, ``institutions``, ``partition``, ``rounds``,
            ``settings``, ``engine`` and ``out``.
        schema: of ``data``.
        institutions: how many.
        partition: how rows are dealt.
        scores: by which weights are pruned; an axis without names stays as the plan has it.
        granularities: what is pruned.
        allocations: over the layers.
        schedules: over the rounds.
        penalties: while training.
        sparsities: shares of zero weights.
        epsilons: budgets, a table each.
        rounds: of training.
        settings: any other option of the plan.
        seeds: how many, from ``seed`` on.
        seed: the first.
        rank: by validation ROC-AUC as a server sees it ("private"), or exact.
        jobs: processes at work.
        engine: inprocess, or ray.
        fresh: forget what is finished.
        out: directory of results.

    Raises:
        FedpruneError: as the command says it. What failed beside a whole table is in `summary`.
    """
    axes = {
        "score": tuple(scores),
        "granularity": tuple(granularities),
        "allocation": tuple(allocations),
        "schedule": tuple(schedules),
        "penalty": tuple(penalties),
    }
    grid, runner = Grid(tuple(epsilons), tuple(sparsities), axes), runner_of(jobs, engine)
    chosen = settings_of(
        settings, privacy__epsilon=epsilons[0] if epsilons else None, training__rounds=rounds
    )
    options = options_of(plan, data, schema, institutions, partition, seed, chosen)
    place = placed(out)
    with unnamed_removed(out, place), one_thread():
        federations = assemble_seeds(options, seeds)
        found = carry_out(federations, grid, rank, runner, place, fresh=fresh, shown=False)
    return lent(Comparison(place, found), out, place)
