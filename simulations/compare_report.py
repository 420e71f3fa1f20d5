"""What a comparison leaves behind: one table, as CSV, JSON and a page that needs no network."""

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean
from typing import Any

from common.facts import facts_of
from common.plan import Plan
from simulations.compare import AXES, DENSE, Epsilon
from simulations.compare_figures import Plot, plots_of
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
                "model": budget.advice.arm.name,
                "sparsity": budget.advice.arm.sparsity,
                **dict(budget.advice.arm.pruning),
                "reason": budget.advice.reason,
                "notes": list(budget.advice.notes),
            }
            for budget in comparison.budgets
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
    sections = "".join(_section(comparison, budget) for budget in comparison.budgets)
    missing = {**comparison.left_out, **comparison.failed}
    absent = "".join(
        f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in missing.items()
    )
    rest = f"<h2>Not in the tables</h2><ul>{absent}</ul>" if absent else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(plan.name)}: comparison</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(plan.name)}: which model to take</h1><p>{escape(lead)}</p>{sections}{rest}"
        f"<footer><p>{escape(CHOICE)}</p><p>{escape(SUMMED)} {escape(SIMULATED)}</p></footer>"
        "</main></body></html>\n"
    )


def _section(comparison: Comparison, budget: Budget) -> str:
    advice = budget.advice
    notes = "".join(f"<li>{escape(note)}</li>" for note in advice.notes)
    figures = "".join(map(_figure, plots_of(budget.table, advice, comparison.by)))
    return (
        f"<section><h2>Epsilon {escape(str(budget.epsilon))}</h2>"
        f'<div class="advice"><p><strong>Recommended: {escape(advice.arm.name)}.</strong>'
        f" {escape(advice.reason)}</p><ul>{notes}</ul></div>"
        f"{_table(comparison, budget)}<div class=plots>{figures}</div></section>"
    )


def _figure(plot: Plot) -> str:
    data = base64.b64encode(plot.svg.encode()).decode()
    return (
        f"<figure><h3>{escape(plot.title)}</h3>"
        f'<img alt="{escape(plot.alt)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>"
    )


HEADS = (
    "",
    "model",
    "weights",
    "validation",
    "to the first",
    "p",
    "to dense",
    "p",
    "test",
    "test PR",
    "kB first / last round",
    "kB to near dense",
)


def _table(comparison: Comparison, budget: Budget) -> str:
    heads = "".join(f'<th scope="col">{head}</th>' for head in HEADS)
    body = "".join(
        f"<tr{' class=taken' if row['recommended'] else ''}>"
        + "".join(
            f'<th scope="row">{escape(cell)}</th>' if index == 1 else f"<td>{escape(cell)}</td>"
            for index, cell in enumerate(cells_of(row))
        )
        + "</tr>"
        for row in rows_of(comparison, budget)
    )
    return (
        '<div class="table" tabindex="0" role="region" aria-label="ranking"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def cells_of(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the table as it is shown, under `HEADS`."""
    near = row["bytes_to_dense"]
    return [
        str(row["rank"]),
        row["model"],
        f"{row['weights_kept']:,.0f}",
        _with_spread(row["auc_validation"], row["auc_validation_spread"]),
        f"{row['to_first']:+.4f}" if row["rank"] > 1 else "",
        _chance(row["to_first_p"]),
        f"{row['to_dense']:+.4f}" if row["kind"] != DENSE else "",
        _chance(row["to_dense_p"]),
        _with_spread(row["auc_test"], row["auc_test_spread"]),
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


_STYLE = """
:root{color-scheme:light dark;--ink:#1c2024;--soft:#5d6570;--page:#fff;--card:#f3f6fa;
--line:#d9dee5;--mark:#2f6fb0}
@media(prefers-color-scheme:dark){:root{--ink:#e4e7eb;--soft:#9aa4b1;--page:#14171b;
--card:#1d2228;--line:#333a43;--mark:#6fb0ee}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;line-height:1.2}h2{font-size:1.2rem;margin-top:2rem}h3{font-size:1rem;margin:0}
.advice{background:var(--card);border-left:4px solid var(--mark);padding:.6rem 1rem;
border-radius:4px}.advice p{margin:.2rem 0}.advice ul{margin:.4rem 0;padding-left:1.2rem;
color:var(--soft);font-size:.92rem}
.table{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.3rem .55rem;text-align:right;white-space:nowrap;
border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}
th:nth-child(2){text-align:left;font-weight:500}
tr.taken td,tr.taken th{background:var(--card);font-weight:700}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:1.5rem}
figure{margin:0;min-width:0}figure img{width:100%;max-width:600px;height:auto;display:block}
figcaption,footer{color:var(--soft);font-size:.86rem}footer{margin-top:2rem;
border-top:1px solid var(--line)}
""".replace("\n", "")
