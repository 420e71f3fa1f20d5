"""`fedprune-client ledger`: what the institution's own account says, whether it holds, a copy."""

import csv
import sys
import time
from dataclasses import asdict, fields
from datetime import UTC, datetime
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.table import Table

from client.book import Book
from client.config import load_config, open_ledger
from client.entries import Entry
from client.ledger import Ledger
from client.limits import YEAR, Limits, Spent, table_epsilon
from client.trail_cli import CLIENT_FILE
from common.console import HERE, AsJson, Force, Home, errors, new_app, show_table, tell_json
from common.durable import write_atomically
from common.errors import ConfigError

app = new_app("The institution's own account of what its tables lost.")


def _open(home: Path) -> tuple[Ledger, Limits, str]:
    config = load_config(home / CLIENT_FILE)
    settings = config.ledger
    if not (home / settings.file).is_file():
        raise ConfigError(f"{home / settings.file}: no ledger here: it begins with a run")
    return open_ledger(settings, home), settings.limits, settings.table


@app.command()
def show(home: Home = HERE, as_json: AsJson = False) -> None:
    """Show each run, and what all of them together took from the table, beside the limits."""
    ledger, limits, table = _open(home)
    (book, _), now = ledger.read(), int(time.time())
    runs = _runs(book, table, limits.accountant)
    totals = _totals(book.spent(table, now), limits, now)
    if as_json:
        tell_json(
            {"table": table, "runs": runs, "spent": totals, "line": book.sequence}
            | {"head": book.head}
        )
        return
    shown = Table("run", "plan", "began", "unit", "rounds", "epsilon", "state", title=table)
    for run in runs:
        cells = run | {"plan": run["plan"][:12]}
        shown.add_row(*map(_cell, cells.values()))
    show_table(shown)
    composed = Table("epsilon, open runs in full", "spent", "limit")
    for total in totals:
        composed.add_row(*map(_cell, total.values()))
    show_table(composed)
    typer.echo(f"line={book.sequence} head={book.head}")


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _runs(book: Book, table: str, accountant: str) -> list[dict[str, Any]]:
    return [
        {
            "run": name,
            "plan": account.plan_hash,
            "began": datetime.fromtimestamp(account.began, UTC).strftime("%Y-%m-%d %H:%M"),
            "unit": ", ".join(sorted({release.unit for release in account.reserved.values()})),
            "rounds": len({entry.round for entry in account.charged}),
            "epsilon": _known(table_epsilon(account.released, accountant)),
            "state": "over" if account.over else "open",
        }
        for name, account in book.accounts.items()
        if account.table == table
    ]


def _known(epsilon: float) -> float | str:
    return epsilon if isfinite(epsilon) else "none"


def _totals(spent: list[Spent], limits: Limits, now: int) -> list[dict[str, Any]]:
    """Compose all runs; an open one counts with all it reserved."""
    plans = sorted({plan_hash for _, plan_hash, *_ in spent})
    windows = {
        f"plan {plan_hash[:12]}": ([item for item in spent if item[1] == plan_hash], limits.plan)
        for plan_hash in plans
    }
    windows["year"] = ([item for item in spent if item[0] > now - YEAR], limits.year)
    windows["ever"] = (spent, limits.ever)
    return [
        {
            "window": name,
            "spent": _known(table_epsilon(window, limits.accountant)),
            "limit": limit,
        }
        for name, (window, limit) in windows.items()
    ]


@app.command()
def verify(home: Home = HERE, as_json: AsJson = False) -> None:
    """Prove that no line was altered or removed, and that all that is stored is what was noted."""
    lines = _open(home)[0].verify()
    if as_json:
        tell_json({"lines": lines})
    else:
        typer.echo(f"{lines} lines hold")


@app.command()
def export(
    home: Home = HERE,
    out: Annotated[Path | None, typer.Option(help="CSV file [default: standard output].")] = None,
    force: Force = False,
) -> None:
    """Write every line as CSV, with its hash; no vector and no record is among them."""
    ledger, _, _ = _open(home)
    entries = ledger.read()[1]
    if out is None:
        _write(entries, sys.stdout)
        return
    if out.exists() and not force:
        raise ConfigError(f"{out}: exists: name another file with --out, or replace it by --force")
    text = StringIO(newline="")
    _write(entries, text)
    write_atomically(out, text.getvalue().encode())
    errors.print(f"{out}: {len(entries)} lines")


def _write(entries: list[Entry], target: TextIO) -> None:
    writer = csv.DictWriter(target, [*(field.name for field in fields(Entry)), "hash"])
    writer.writeheader()
    writer.writerows(asdict(entry) | {"hash": entry.hash} for entry in entries)


@app.command()
def close(
    run: Annotated[str, typer.Argument(help="The run's full name.")], home: Home = HERE
) -> None:
    """End a run for good: it is refused from now on, and what it did not charge is free again."""
    ledger, _, _ = _open(home)
    ledger.close(run, int(time.time()))
    typer.echo(f"run {run} is over")
