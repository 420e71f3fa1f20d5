"""`fedprune-client score`: a finished model on a table, on the institution's own machine."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from client.releases import require_scorable
from client.tables import new_table, rows_at_once, rows_of, stream
from common.console import HERE, AsJson, Force, errors, progress_bars, tell_json, warn
from common.errors import ConfigError


def score(  # noqa: PLR0913, PLR0917  (a command's options are its parameters)
    model: Annotated[Path, typer.Option(help="Folder of a final release: releases/RUN.")],
    data: Annotated[Path, typer.Option(help="CSV or Parquet table; needs no label.")],
    out: Annotated[Path, typer.Option(help="CSV or Parquet file of scores.")],
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="Column to copy beside the score; repeatable. [default: rows are numbered]"
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Add what each column contributes, in log-odds.")
    ] = False,
    pairs: Annotated[
        int, typer.Option(min=1, max=1_000, help="Pairs of orders that an explanation averages.")
    ] = 4,
    blank: Annotated[
        bool,
        typer.Option("--blank", help="Leave a row that does not fit without a score."),
    ] = False,
    force: Force = False,
    threads: Annotated[
        int, typer.Option(min=0, max=1_024, help="Threads of the network; 0 is one a core.")
    ] = 0,
    unreleased: Annotated[
        bool,
        typer.Option(
            "--unreleased",
            help="Score by a model that is no final release, such as a simulation's; the audit log"
            " of --home notes it.",
        ),
    ] = False,
    home: Annotated[
        Path, typer.Option("--home", help="The institution's folder: what it approved decides.")
    ] = HERE,
    as_json: AsJson = False,
) -> None:
    """Score a table by a released model, one row for each row, in order.

    The table may be larger than memory; only the columns that the model and --keep name are
    read. Without --blank the first cell that does not fit the model's schema ends it, and
    nothing is written. Kept text is copied as it is: open CSV as text where a cell could begin
    with "=".
    """
    # Half a second of imports, which the other commands can do without.
    from client.score import Wishes, score_chunks  # noqa: PLC0415
    from client.scorer import open_scorer  # noqa: PLC0415

    files, warning = require_scorable(model, home, unreleased=unreleased)
    if warning:
        warn([warning])
    scorer = open_scorer(files, model, threads)
    schema, source = scorer.schema, str(data)
    if out.exists() and data.exists() and out.samefile(data):
        raise ConfigError(f"{out}: is the table itself: name another file with --out")
    wishes = Wishes(tuple(dict.fromkeys(keep or ())), blank, pairs * explain)
    inputs = [column.name for column in schema.inputs]
    held = rows_at_once(schema.width + len(inputs) + len(wishes.kept))
    rows, unscored, faults = 0, 0, Counter[tuple[str, str]]()
    with (
        new_table(out, schema.file, force=force) as write,
        progress_bars() as progress,
    ):
        task = progress.add_task("scored", total=rows_of(data), state="rows")
        chunks = stream(data, schema.file, inputs, wishes.kept, held)
        for scored in score_chunks(chunks, scorer, wishes, source):
            write(scored.table)
            rows, unscored = rows + len(scored.table), unscored + scored.unscored
            faults.update(scored.faults)
            progress.update(task, completed=rows)
    if as_json:
        found = [{"column": c, "problem": p, "rows": n} for (c, p), n in faults.items()]
        tell_json({"out": str(out), "rows": rows, "unscored": unscored, "faults": found})
        return
    errors.print(f"{out}: {rows:,} rows, {unscored:,} of them without a score", markup=False)
    for (column, problem), count in faults.items():
        errors.print(f"column {column!r}: a cell {problem} in {count:,} rows", markup=False)
