"""`fedprune-client`: what an institution does on its own machine."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from client import backup_cli, consent_cli, ledger_cli, release_cli, score_cli, trail_cli
from client.databases import Database
from client.operate_cli import add_commands
from common.console import AsJson, command_line, errors, new_app, printable, tell_json, working
from common.errors import ConfigError, DataError, TableError
from common.parsing import validated
from common.schema import load_schema

app = new_app(
    "An institution of a federation: its data, its plan, its last word.", "fedprune-client"
)
app.add_typer(ledger_cli.app, name="ledger")
app.add_typer(trail_cli.app, name="audit")
app.add_typer(release_cli.app, name="release")
app.command()(score_cli.score)
app.command()(release_cli.validate)
for command in (*consent_cli.COMMANDS, *backup_cli.COMMANDS):
    app.command()(command)
add_commands(app)


@app.callback()
def _commands() -> None:
    """Take part in a federation."""


@app.command()
def check(  # noqa: PLR0913, PLR0917  (a command's options are its parameters)
    schema: Annotated[str, typer.Option(help="Shipped schema or TOML file.")],
    data: Annotated[Path | None, typer.Argument(help="CSV or Parquet table.")] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Database in place of a file, as in [data] of client.toml."),
    ] = None,
    query: Annotated[str | None, typer.Option(help="Its SELECT.")] = None,
    ca: Annotated[Path | None, typer.Option(help="Certificates its server is known by.")] = None,
    cap: Annotated[
        int | None,
        typer.Option("--rows-per-customer", min=1, help="As in a plan whose unit is a customer."),
    ] = None,
    batch: Annotated[float, typer.Option(min=1, help="Rows a batch holds on average.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Check a table against a schema and show what cleaning would do; nothing leaves here.

    A database's password is taken from FEDPRUNE_DATA_PASSWORD.
    """
    # pandas and pandera cost a second, which `up` does without.
    from client.data import load_table, prepare, require_trainable  # noqa: PLC0415

    declared = load_schema(schema)
    try:
        with working("reading the table"):
            table = load_table(_source(data, {"url": url, "query": query, "ca": ca}), declared)
            splits = prepare(table, declared, cap)
    except TableError as error:
        raise _all_told(error) from error
    require_trainable(splits, batch)
    report = table.report
    parts = {name: len(getattr(splits, name)) for name in ("train", "validation", "test")}
    if as_json:
        tell_json({"source": table.source, **asdict(report), **parts})
        return
    shown = Table("what", "column", "rows")
    shown.add_row("read", "", f"{report.rows_read:,}")
    shown.add_row("duplicates", "", f"{report.duplicates:,}")
    for what, counts in (("missing", report.missing), ("out of range", report.out_of_range)):
        for column, count in counts.items():
            shown.add_row(what, column, f"{count:,}")
    shown.add_row("kept", "", f"{report.rows_kept:,}")
    if cap is not None:
        shown.add_row("used of customers", str(declared.customer), f"{sum(parts.values()):,}")
    for part, rows in parts.items():
        shown.add_row(part, "", f"{rows:,}")
    out = Console(highlight=False, markup=False, emoji=False)
    out.print(table.source, soft_wrap=True)
    out.print(shown)


def _all_told(error: TableError) -> DataError:
    """Print every problem where there are several, and return what then ends the command."""
    if len(error.problems) == 1:
        return error
    for problem in error.problems:
        errors.print(printable(f"{error.source}: {problem}"), markup=False)
    return DataError(
        f"{error.source}: {len(error.problems)} problems, a line each above: mend them, then check"
        " again"
    )


def _source(data: Path | None, options: dict[str, object]) -> Path | Database:
    given = {name: value for name, value in options.items() if value is not None}
    if (data is None) != bool(given):
        raise ConfigError("give a table, or --url and --query of a database: one of them")
    return data or validated(Database.model_validate, given, "--url and --query", ConfigError)


def main() -> None:
    """Entry point of ``fedprune-client``."""
    command_line(app)


if __name__ == "__main__":
    main()
