"""Options that the simulator's commands share: what to simulate, on which rows."""

from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import ConfigError

PlanFile = Annotated[Path | None, typer.Argument(help="Plan file; options override it.")]
Data = Annotated[
    Path | None, typer.Option(help="CSV or Parquet table [default: embedded consortium]")
]
Schema = Annotated[
    str | None, typer.Option(help="Shipped schema or TOML file; needed with --data.")
]
Institutions = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1000,
        help="How many institutions [default: 10, or one a value of the --partition COLUMN]",
    ),
]
Partition = Annotated[
    str | None,
    typer.Option(help="natural, iid, dirichlet, quantity or a COLUMN [default: iid with --data]"),
]
Epsilon = Annotated[
    str | None, typer.Option(help="A unit's budget over the run, or none [default: 1]")
]
Unit = Annotated[
    str | None, typer.Option(help="record, or the schema's customer column [default: record]")
]
RowsPerCustomer = Annotated[
    int | None, typer.Option(help="The most rows used of a customer as the unit [default: 1]")
]
Delta = Annotated[float | None, typer.Option(help="Below 1 / institution size [default: 1e-5]")]
Sparsity = Annotated[float | None, typer.Option(help="Final share of zero weights [default: 0.9]")]
Rounds = Annotated[int | None, typer.Option(help="Training rounds [default: 60]")]
Seed = Annotated[
    int,
    typer.Option(min=0, max=2**32 - 1, help="Drives everything random but the embedded loans."),
]
Engine = Annotated[
    str, typer.Option(help="inprocess, or ray for Flower's engine, on many machines.")
]
Scores = Annotated[
    str | None, typer.Option(help="Scores, as magnitude,displacement [default: the plan's]")
]
Granularities = Annotated[
    str | None, typer.Option(help="Any of weight,neuron,block [default: the plan's]")
]
Allocations = Annotated[
    str | None, typer.Option(help="Any of global,layer,erk [default: the plan's]")
]
Schedules = Annotated[
    str | None,
    typer.Option(help="Any of cubic,linear,one_shot,iterative [default: the plan's]"),
]
Penalties = Annotated[
    str | None, typer.Option(help="Any of none,l1,l2,group_lasso [default: the plan's]")
]
Jobs = Annotated[int, typer.Option(min=1, max=256, help="Processes at work.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Directory of results, in place of a run's there [default: one below runs/]"),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget what is finished; start over.")]


def settings_of(  # noqa: PLR0913, PLR0917  (the shared options)
    epsilon: str | None,
    delta: float | None,
    sparsity: float | None,
    rounds: int | None,
    unit: str | None,
    rows_per_customer: int | None,
) -> dict[tuple[str, str], Any]:
    """Return what was typed by plan section and key; None leaves a setting to the plan."""
    return {
        ("privacy", "epsilon"): None if epsilon is None else budget(epsilon),
        ("privacy", "delta"): delta,
        ("privacy", "unit"): unit,
        ("privacy", "rows_per_customer"): rows_per_customer,
        ("pruning", "sparsity"): sparsity,
        ("training", "rounds"): rounds,
    }


def budget(text: str) -> float | str:
    """Return an epsilon that was typed."""
    if text == "none":
        return text
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--epsilon {text!r} is neither a number nor none") from error


def share(text: str) -> float:
    """Return a sparsity that was typed."""
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--sparsity {text!r} is no number from 0 to below 1") from error


def listed(option: str, text: str | None) -> tuple[str, ...]:
    """Return what was typed between commas, each once; nothing for None."""
    words = () if text is None else tuple(word.strip() for word in text.split(","))
    if "" in words:
        raise ConfigError(f"{option} {text!r} has an empty name: separate names by single commas")
    return tuple(dict.fromkeys(words))
