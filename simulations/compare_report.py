"""What a comparison leaves behind: one table, as CSV, JSON and a page that needs no network."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from common.facts import facts_of
from common.plan import Plan
from server.report.page import rendered
from simulations.compare import AXES, DENSE, Epsilon
from simulations.compare_figures import plots_of
from simulations.ranking import MEASURES, Advice, RankBy, Standing, bytes_to, spread_of

SUMMED = (
    "Cells were summed in the plain for speed, which gives the bits of a secure sum; bytes are"
    " those of the masked vector of a secure round."
)
SIMULATED = "Simulated from seeds, so it protects nobody."
CHOICE = (
    "Ranks and recommendation come from validation rows alone. Test rows were read once by each"
    " model, exactly, for this table. Baselines run at the best of three learning rates by exact"
    " validation ROC-AUC. p is of paired t-tests over seeds, adjusted over the table (Holm)."
)


@dataclass(frozen=True, eq=False)
class Budget:
    """The table of one budget and what follows from it."""

    epsilon: Epsilon
    table: Sequence[Standing]
    advice: Advice


@dataclass(frozen=True, eq=False)
class Comparison:
    """A whole comparison: the plan it varies, a table a budget, and what is not in them."""

    plan: Plan
    seeds: Sequence[int]
    by: RankBy
    budgets: Sequence[Budget]
    left_out: Mapping[str, str]
    failed: Mapping[str, str]


def rows_of(comparison: Comparison, budget: Budget) -> list[dict[str, Any]]:
    """Return a budget's table, a row a model; None where nothing can be said.

    ``bytes_to_dense`` are an institution's vectors until validation ROC-AUC came within the
    plan's tolerance of what the dense model ends with.
    """
    by, tolerance = comparison.by, comparison.plan.pruning.tolerance
    dense = [one.entry.mean for one in budget.table if one.entry.arm.kind == DENSE]
    target = dense[0] - tolerance if dense else 1.0
    rows = []
    for standing in budget.table:
        entry, arm = standing.entry, standing.entry.arm
        outcomes, test = entry.outcomes, [outcome.test for outcome in entry.outcomes]
        exact = [outcome.final.exact for outcome in outcomes]
        rows.append(
            {
                "epsilon": budget.epsilon,
                "rank": standing.rank,
                "model": arm.name,
                "kind": arm.kind,
                **{axis: dict(arm.pruning).get(axis) for axis in AXES},
                "sparsity_asked": arm.sparsity if arm.pruning else None,
                "weights": outcomes[0].weights,
                "weights_kept": entry.kept,
                "auc_validation": entry.mean,
                "auc_validation_spread": entry.spread,
                "auc_validation_noise": entry.noise,
                "to_first": standing.first,
                "to_first_p": standing.first_p,
                "to_dense": standing.dense,
                "to_dense_p": standing.dense_p,
                "auc_validation_exact": fmean(exact),
                "auc_test": fmean(test),
                "auc_test_spread": spread_of(test),
                "pr_auc_test": fmean(outcome.test_pr for outcome in outcomes),
                "learning_rate": fmean(outcome.learning_rate for outcome in outcomes),
                "bytes_first_round": fmean(outcome.bytes_first for outcome in outcomes),
                "bytes_last_round": fmean(outcome.bytes_last for outcome in outcomes),
                "bytes_to_dense": bytes_to(entry, by, target),
                "recommended": arm == budget.advice.arm,
            }
        )
    return rows


def csv_of(comparison: Comparison) -> str:
    """Return ``compare.csv``: a row a model and budget, by rank; an unknown is an empty cell."""
    rows = [row for budget in comparison.budgets for row in rows_of(comparison, budget)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def summary_of(comparison: Comparison) -> dict[str, Any]:
    """Return ``compare.json``: the tables with every seed's values, and what to take."""
    return {
        "ranked_by": MEASURES[comparison.by],
        "seeds": list(comparison.seeds),
        **facts_of(comparison.plan),
        "planned_epsilon": [budget.epsilon for budget in comparison.budgets],
        "summed": SUMMED,
        "plan_sha256": comparison.plan.digest(),
        "recommended": [
            {
                "epsilon": budget.epsilon,
                "model": arm and arm.name,
                "sparsity": arm and arm.sparsity,
                **(dict(arm.pruning) if arm else dict.fromkeys(AXES)),
                "reason": budget.advice.reason,
                "notes": list(budget.advice.notes),
            }
            for budget in comparison.budgets
            for arm in [budget.advice.arm]
        ],
        "table": [
            row
            | {
                "auc_validation_by_seed": list(standing.entry.values),
                "auc_test_by_seed": [outcome.test for outcome in standing.entry.outcomes],
            }
            for budget in comparison.budgets
            for row, standing in zip(rows_of(comparison, budget), budget.table, strict=True)
        ],
        "left_out": dict(comparison.left_out),
        "failed": dict(comparison.failed),
    }


def html_of(comparison: Comparison) -> str:
    """Return ``compare.html``: everything inside, nothing fetched, light and dark."""
    plan, seeds = comparison.plan, comparison.seeds
    facts = facts_of(plan)
    span = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    lead = (
        f"{len(plan.institutions)} institutions, {plan.training.rounds} rounds, seeds {span},"
        f" unit {facts['unit']}, delta {facts['delta']}. Ranked by {MEASURES[comparison.by]};"
        f" evaluation: {facts['evaluation']}."
    )
    budgets = [
        {
            "epsilon": budget.epsilon,
            "advice": budget.advice,
            "rows": [(row["recommended"], cells_of(row)) for row in rows_of(comparison, budget)],
            "plots": plots_of(budget.table, budget.advice, comparison.by),
        }
        for budget in comparison.budgets
    ]
    return rendered(
        "compare.html",
        Path(__file__).parent,
        name=plan.name,
        lead=lead,
        heads=HEADS,
        budgets=budgets,
        absent={**comparison.left_out, **comparison.failed},
        footer=(CHOICE, f"{SUMMED} {SIMULATED}"),
    )


HEADS = (
    "rank",
    "model",
    "validation",
    "test",
    "weights",
    "to the first",
    "p",
    "to dense",
    "p",
    "test PR",
    "kB first / last round",
    "kB to near dense",
)


def cells_of(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the table as it is shown, under `HEADS`."""
    near = row["bytes_to_dense"]
    return [
        str(row["rank"]),
        row["model"],
        _with_spread(row["auc_validation"], row["auc_validation_spread"]),
        _with_spread(row["auc_test"], row["auc_test_spread"]),
        f"{row['weights_kept']:,.0f}",
        f"{row['to_first']:+.4f}" if row["rank"] > 1 else "",
        _chance(row["to_first_p"]),
        f"{row['to_dense']:+.4f}" if row["kind"] != DENSE else "",
        _chance(row["to_dense_p"]),
        f"{row['pr_auc_test']:.4f}",
        f"{row['bytes_first_round'] / 1000:,.1f} / {row['bytes_last_round'] / 1000:,.1f}",
        "never" if near is None else f"{near / 1000:,.0f}",
    ]


def _with_spread(mean: float, spread: float | None) -> str:
    return f"{mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}")


def _chance(p: float | None) -> str:
    if p is None:
        return ""
    return f"{p:.2g}" if p >= 0.001 else "<.001"
