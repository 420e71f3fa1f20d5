"""`fedprune-client ledger`: what the institution's own account says, whether it holds, a copy."""

import csv
import sys
import time
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.table import Table

from client.book import Book
from client.config import load_config, open_ledger
from client.entries import Entry
from client.ledger import Ledger
from client.limits import YEAR, Limits, Spent, table_epsilon
from common.console import errors, new_app
from common.errors import ConfigError

app = new_app("The institution's own account of what its tables lost.")

File = Annotated[Path, typer.Argument(help="The institution's client.toml.")]


def _open(file: Path) -> tuple[Ledger, Limits, str]:
    config = load_config(file)
    settings = config.ledger
    if not (file.parent / settings.file).is_file():
        raise ConfigError(f"{file.parent / settings.file}: no ledger here: it begins with a run")
    return open_ledger(settings, file.parent), settings.limits, settings.table


@app.command()
def show(file: File) -> None:
    """Show each run, and what all of them together took from the table, beside the limits."""
    ledger, limits, table = _open(file)
    (book, _), now = ledger.read(), int(time.time())
    console = Console(highlight=False, soft_wrap=True)
    console.print(_runs(book, table, limits.accountant))
    console.print(_totals(book.spent(table, now), limits, now))
    console.print(f"line={book.sequence} head={book.head}")


def _runs(book: Book, table: str, accountant: str) -> Table:
    shown = Table("run", "plan", "began", "unit", "rounds", "epsilon", "state", title=table)
    for name, account in book.accounts.items():
        if account.table == table:
            shown.add_row(
                name[:12],
                account.plan_hash[:12],
                datetime.fromtimestamp(account.began, UTC).strftime("%Y-%m-%d %H:%M"),
                ", ".join(sorted({release.unit for release in account.reserved.values()})),
                str(len({entry.round for entry in account.charged})),
                f"{table_epsilon(account.released, accountant):.4g}",
                "over" if account.over else "open",
            )
    return shown


def _totals(spent: list[Spent], limits: Limits, now: int) -> Table:
    """Compose all runs; an open one counts with all it reserved."""
    shown = Table("epsilon, open runs in full", "spent", "limit")
    plans = sorted({plan_hash for _, plan_hash, *_ in spent})
    windows = {
        f"plan {plan_hash[:12]}": ([item for item in spent if item[1] == plan_hash], limits.plan)
        for plan_hash in plans
    }
    windows["year"] = ([item for item in spent if item[0] > now - YEAR], limits.year)
    windows["ever"] = (spent, limits.ever)
    for name, (window, limit) in windows.items():
        shown.add_row(name, f"{table_epsilon(window, limits.accountant):.4g}", str(limit))
    return shown


@app.command()
def verify(file: File) -> None:
    """Prove that no line was altered or removed, and that all that is stored is what was noted."""
    ledger, _, _ = _open(file)
    print(f"{ledger.verify()} lines hold")


@app.command()
def export(file: File, out: Annotated[Path | None, typer.Option(help="CSV file.")] = None) -> None:
    """Write every line as CSV, with its hash; no vector and no record is among them."""
    ledger, _, _ = _open(file)
    entries = ledger.read()[1]
    if out is None:
        _write(entries, sys.stdout)
        return
    with out.open("w", encoding="utf-8", newline="") as target:
        _write(entries, target)
    errors.print(f"{out}: {len(entries)} lines")


def _write(entries: list[Entry], target: TextIO) -> None:
    writer = csv.DictWriter(target, [*(field.name for field in fields(Entry)), "hash"])
    writer.writeheader()
    writer.writerows(asdict(entry) | {"hash": entry.hash} for entry in entries)


@app.command()
def close(file: File, run: Annotated[str, typer.Argument(help="The run's full name.")]) -> None:
    """End a run for good: it is refused from now on, and what it did not charge is free again."""
    ledger, _, _ = _open(file)
    ledger.close(run, int(time.time()))
    print(f"run {run} is over")
