"""A comparison from start to results: cells, tables, files."""

import json
from collections.abc import Mapping
from pathlib import Path

from common.durable import write_atomically
from common.errors import AggregationError
from common.plan import Plan
from common.privacy.budgets import training_mechanism
from simulations.campaign import CELLS, CellStore, Failure, Runner, finish
from simulations.cells import Cell, Outcome, data_digest
from simulations.compare import PRUNED, Arm, Grid, arms_of
from simulations.compare_report import Budget, Comparison, csv_of, html_of, summary_of
from simulations.directory import claimed
from simulations.inputs import Federation
from simulations.ranking import Entry, RankBy, advise, entry_of, rank

NOTHING_TO_RANK = "its noise left nothing of the private metric: rank by --rank exact"


def planned(grid: Grid, base: Plan) -> tuple[list[Arm], dict[str, str]]:
    """Return what is compared, and what was left out and why.

    Raises `ConfigError` or `BudgetError` before anything is trained or given up.
    """
    arms, left_out = arms_of(grid, base)
    for epsilon in dict.fromkeys(arm.epsilon for arm in arms):
        training_mechanism(next(arm for arm in arms if arm.epsilon == epsilon).plans(base)[0])
    return arms, left_out


def carry_out(  # noqa: PLR0913  (what `compare` takes)
    federations: Mapping[int, Federation],
    grid: Grid,
    by: RankBy,
    runner: Runner,
    where: Path,
    *,
    fresh: bool,
    shown: bool = True,
) -> Comparison:
    """Compare, and leave the files in ``where``; with ``fresh`` nothing finished there counts."""
    # A wrong option must not cost the results that lie there.
    planned(grid, next(iter(federations.values())).plan)
    with claimed(where, kept=frozenset({CELLS})) as directory:
        store = CellStore(directory, fresh=fresh)
        comparison = compare(federations, grid, by, store, runner, shown=shown)
        write(comparison, directory)
    return comparison


def compare(  # noqa: PLR0913  (what is compared, and how)
    federations: Mapping[int, Federation],
    grid: Grid,
    by: RankBy,
    store: CellStore,
    runner: Runner,
    *,
    shown: bool = True,
) -> Comparison:
    """Train what is not trained yet; return the tables. ``federations`` are by seed.

    Raises `AggregationError` when some budget has no pruned model with an outcome for each seed.
    """
    base = next(iter(federations.values())).plan
    arms, left_out = planned(grid, base)
    digests = {seed: data_digest(one.splits) for seed, one in federations.items()}
    cells, keys = dict[str, Cell](), dict[tuple[Arm, int], str]()
    for seed, federation in federations.items():
        for arm in arms:
            cell = Cell(arm.plans(federation.plan), federation.splits, seed)
            keys[arm, seed] = cell.key(digests[seed])
            cells[keys[arm, seed]] = cell
    results = finish(cells, store, runner, "compared", shown=shown)
    found = {arm: {seed: results[keys[arm, seed]] for seed in federations} for arm in arms}
    failed: dict[str, str] = {}
    entries = [entry for arm in arms if (entry := _entry(arm, found[arm], by, failed)) is not None]
    return Comparison(
        plan=base,
        seeds=tuple(federations),
        by=by,
        budgets=_budgets(entries, arms, by, base.pruning.tolerance, failed),
        left_out=left_out,
        failed=failed,
    )


def _entry(
    arm: Arm, results: Mapping[int, Outcome | Failure], by: RankBy, failed: dict[str, str]
) -> Entry | None:
    """Return an arm's entry; without an outcome for each seed, say in ``failed`` why."""
    outcomes = [result for result in results.values() if isinstance(result, Outcome)]
    for seed, result in results.items():
        if isinstance(result, Failure):
            failed[f"{arm.name}, epsilon {arm.epsilon}, seed {seed}"] = result.reason
    if len(outcomes) < len(results):
        return None
    if (entry := entry_of(arm, outcomes, by)) is None:
        failed[f"{arm.name}, epsilon {arm.epsilon}"] = NOTHING_TO_RANK
    return entry


def _budgets(
    entries: list[Entry], arms: list[Arm], by: RankBy, tolerance: float, failed: Mapping[str, str]
) -> list[Budget]:
    budgets = []
    for epsilon in dict.fromkeys(arm.epsilon for arm in arms):
        mine = [entry for entry in entries if entry.arm.epsilon == epsilon]
        if not any(entry.arm.kind == PRUNED for entry in mine):
            name, reason = next(iter(failed.items()))
            raise AggregationError(
                f"no pruned model at epsilon {epsilon} can be ranked; {name}: {reason}"
            )
        table = rank(mine)
        budgets.append(Budget(epsilon, table, advise(table, by, tolerance)))
    return budgets


def write(comparison: Comparison, directory: Path) -> None:
    """Write the tables, the page, the plan that was varied and the recommended one, if any is.

    With several budgets the recommended plan is that of the first.
    """
    arm, base = comparison.budgets[0].advice.arm, comparison.plan
    summary = json.dumps(summary_of(comparison), indent=2, allow_nan=False)
    files = {
        "compare.csv": csv_of(comparison),
        "compare.json": summary + "\n",
        "compare.html": html_of(comparison),
        "plan.toml": base.to_toml(),
    }
    if arm is not None:
        files["recommended.toml"] = arm.plans(base)[0].to_toml()
    for name, text in files.items():
        write_atomically(directory / name, text.encode())
