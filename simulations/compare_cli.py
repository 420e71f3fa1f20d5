"""`fedprune-sim compare`: which pruned model to take, beside what it must beat."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from common.console import AsJson, log_to_console, tell_json, warn
from common.errors import AggregationError
from common.facts import warnings_of
from simulations import options

if TYPE_CHECKING:
    from simulations.compare_report import Comparison

COLUMNS = (0, 1, 4, 2, 6, 3)
"""Which columns of the page's table fit a terminal."""

WIDE = 120

NAMED = {"score": "--scores"}
"""Options whose name is not that of the axis."""


def compare(  # noqa: PLR0913, PLR0917  (a command's options are its parameters)
    plan: options.PlanFile = None,
    data: options.Data = None,
    schema: options.Schema = None,
    institutions: options.Institutions = None,
    partition: options.Partition = None,
    scores: options.Scores = None,
    granularity: options.Granularities = None,
    allocation: options.Allocations = None,
    schedule: options.Schedules = None,
    penalty: options.Penalties = None,
    sparsity: Annotated[
        str | None, typer.Option(help="Shares of zero weights, as 0.5,0.9 [default: the plan's]")
    ] = None,
    epsilon: Annotated[
        str | None, typer.Option(help="Budgets, as 1,none; a table each [default: the plan's]")
    ] = None,
    unit: options.Unit = None,
    rows_per_customer: options.RowsPerCustomer = None,
    delta: options.Delta = None,
    rounds: options.Rounds = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="How many seeds.")] = 3,
    seed: options.Seed = 0,
    rank: Annotated[
        Literal["private", "exact"],
        typer.Option(help="By which validation ROC-AUC: as a server sees it, or as nobody could."),
    ] = "private",
    jobs: options.Jobs = 1,
    engine: options.Engine = "inprocess",
    fresh: options.Fresh = False,
    out: options.Out = None,
    as_json: AsJson = False,
) -> None:
    """Train every combination, with baselines and a random mask; rank and recommend.

    Lists are separated by commas. Ranks come from validation rows; test rows are read once, for
    the table. The same command goes on where an interrupted one stopped.
    """
    import torch  # noqa: PLC0415

    from simulations.campaign import runner_of  # noqa: PLC0415
    from simulations.compare import Grid  # noqa: PLC0415
    from simulations.compare_report import summary_of  # noqa: PLC0415
    from simulations.compare_run import carry_out  # noqa: PLC0415
    from simulations.engine import engine_of  # noqa: PLC0415
    from simulations.inputs import Options, assemble_seeds  # noqa: PLC0415

    torch.set_num_threads(1)
    log_to_console()
    engine_of(engine)
    runner = runner_of(jobs, engine)
    typed = {
        "score": scores,
        "granularity": granularity,
        "allocation": allocation,
        "schedule": schedule,
        "penalty": penalty,
    }
    budgets = tuple(map(options.budget, options.listed("--epsilon", epsilon)))
    axes = {
        axis: options.listed(NAMED.get(axis, f"--{axis}"), text) for axis, text in typed.items()
    }
    shares = tuple(map(options.share, options.listed("--sparsity", sparsity)))
    grid = Grid(budgets, shares, axes)
    first = str(budgets[0]) if budgets else None
    settings = options.settings_of(first, delta, None, rounds, unit, rows_per_customer)
    federations = assemble_seeds(
        Options(plan, data, schema, institutions, partition, seed, settings), seeds
    )
    base = federations[seed].plan
    warn(warnings_of(base))
    directory = out or Path("runs") / f"{base.name}-compare-seed{seed}"
    comparison = carry_out(federations, grid, rank, runner, directory, fresh=fresh)
    if as_json:
        tell_json(summary_of(comparison))
    else:
        _show(comparison)
        typer.echo(f"results: {directory}/, the page: {directory / 'compare.html'}")
    if comparison.failed:
        name, reason = next(iter(comparison.failed.items()))
        raise AggregationError(
            f"{len(comparison.failed)} not in the tables, the first {name}: {reason}; the same"
            " command tries what failed again"
        )


def _show(comparison: "Comparison") -> None:
    from simulations.compare_report import (  # noqa: PLC0415
        CHOICE,
        HEADS,
        SIMULATED,
        SUMMED,
        cells_of,
        rows_of,
    )
    from simulations.ranking import MEASURES  # noqa: PLC0415

    out = Console(highlight=False, soft_wrap=True)
    # A table in a file or a pipe is as wide as it needs.
    out = out if out.is_terminal else Console(highlight=False, soft_wrap=True, width=WIDE)
    count = len(comparison.seeds)
    for budget in comparison.budgets:
        table = Table(
            title=f"epsilon {budget.epsilon}, {count} seed{'s'[: count != 1]},"
            f" ranked by {MEASURES[comparison.by]}",
            box=SIMPLE_HEAD,
        )
        for column in COLUMNS:
            table.add_column(
                HEADS[column], justify="left" if column == 1 else "right", no_wrap=True
            )
        for row in rows_of(comparison, budget):
            cells = cells_of(row)
            style = "bold" if row["recommended"] else ""
            cells[HEADS.index("test")] = f"{row['auc_test']:.4f}"
            table.add_row(*(cells[column] for column in COLUMNS), style=style)
        out.print(table)
        out.print(f"recommended: {budget.advice.reason}", style="bold", markup=False)
        for note in budget.advice.notes:
            out.print(f"  {note}", markup=False)
    for name, reason in comparison.left_out.items():
        out.print(f"left out: {name}: {reason}", markup=False)
    for line in (CHOICE, SUMMED, SIMULATED):
        out.print(line, markup=False)
