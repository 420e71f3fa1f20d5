"""Tampering with an institution's privacy ledger, whose length its last advert says."""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from client.entries import Budget, Place, Release, Shrunk
from client.ledger import Ledger
from client.ledger_file import SqliteStore
from common.errors import FedpruneError
from simulations.tampering.edits import TARGETS, Edit, Files, Target, cut, flip

NOON = 1_700_000_000
HASH = "5a" * 32


LEDGER = "ledger.sqlite"
_RELEASE = Release("train", 1.1, 0.05, 5, 1e-5)


def _with_database(files: Files, change: Callable[[sqlite3.Connection], None]) -> Files:
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / LEDGER
        path.write_bytes(files[LEDGER])
        # What the tables themselves refuse is no edit.
        database = sqlite3.connect(path, isolation_level=None)
        with closing(database), suppress(sqlite3.IntegrityError):
            change(database)
        return {LEDGER: path.read_bytes()}


def alter_cell(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Give one cell of one table another value."""
    table, column, number, old = _cell(files, draw)
    fresh: object = draw.bytes(16).hex()
    if isinstance(old, float):
        fresh = old * float(draw.uniform(0.1, 0.9)) + 0.01
    elif isinstance(old, int):
        fresh = old + int(draw.integers(1, 9))
    elif isinstance(old, bytes):
        fresh = draw.bytes(len(old) + 1)
    return _with_database(
        files,
        lambda database: database.execute(
            f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?',  # noqa: S608
            (fresh, number),
        ).close(),
    )


def drop_row(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Delete a row of one table."""
    table, _column, number, _old = _cell(files, draw)
    return _with_database(
        files,
        lambda database: database.execute(
            f"DELETE FROM {table} WHERE rowid = ?",  # noqa: S608
            (number,),
        ).close(),
    )


def drop_last(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Delete the last lines, as an old copy lacks them."""
    lines = int(draw.integers(1, 9))
    return _with_database(
        files,
        lambda database: database.execute(
            "DELETE FROM entries WHERE sequence > (SELECT MAX(sequence) FROM entries) - ?",
            (lines,),
        ).close(),
    )


def swap_rows(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Let two lines change places by their numbers."""
    one, two = (int(number) for number in draw.choice(np.arange(1, 20), 2, replace=False))

    def change(database: sqlite3.Connection) -> None:
        for before, after in ((one, -1), (two, one), (-1, two)):
            database.execute(
                "UPDATE entries SET sequence = ? WHERE sequence = ?", (after, before)
            ).close()

    return _with_database(files, change)


def other_ledger(files: Files, others: Files, draw: np.random.Generator) -> Files:
    """Put lines of another institution's ledger in the place of one's own."""
    number = int(draw.integers(1, 20))

    def rows(files: Files) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        _with_database(
            files,
            lambda database: found.extend(
                database.execute("SELECT * FROM entries WHERE sequence = ?", (number,))
            ),
        )
        return found

    (row,) = rows(others)
    marks = ", ".join("?" for _ in row)
    return _with_database(
        files,
        lambda database: database.execute(
            f"INSERT OR REPLACE INTO entries VALUES ({marks})",  # noqa: S608
            row,
        ).close(),
    )


LEDGER_EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (flip, cut, alter_cell, drop_row, drop_last, swap_rows, other_ledger)
}


def _cell(files: Files, draw: np.random.Generator) -> tuple[str, str, int, object]:
    """Draw a cell: its table, column, row and value."""
    found: list[tuple[str, str, int, object]] = []

    def look(database: sqlite3.Connection) -> None:
        table = str(draw.choice(["entries", "entries", "vectors", "rosters"]))
        rows = database.execute(f"SELECT rowid, * FROM {table}").fetchall()  # noqa: S608
        names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        number, *cells = rows[draw.integers(len(rows))]
        place = int(draw.integers(len(cells)))
        found.append((table, names[place], int(number), cells[place]))

    _with_database(files, look)
    return found[0]


def _dump(files: Files) -> object:
    """Return all that a ledger's tables hold, or its bytes where they cannot be read."""
    found: list[object] = []

    def read(database: sqlite3.Connection) -> None:
        for table in ("entries", "vectors", "rosters"):
            found.append(database.execute(f"SELECT * FROM {table}").fetchall())  # noqa: S608

    try:
        _with_database(files, read)
    except (sqlite3.Error, UnicodeDecodeError):
        return files[LEDGER]
    return found


def _ledger_file(folder: Path, run: str) -> Files:
    path = folder / f"{run}.sqlite"
    ledger = Ledger(SqliteStore(path), "loans")
    budget = Budget("by cells", (Release("train", 1.1, 0.05, 40, 1e-5),))
    ledger.revoke(Place(run, HASH, 0, 0), Shrunk(HASH, b"roster"), NOON)
    for number in range(8):
        place = Place(run, HASH, number, number + 1)
        ledger.mark("epoch", place, NOON, HASH)
        ledger.charge(place, (_RELEASE,), budget, NOON + number)
        ledger.store(place, "binding", b"mask", b"vector", NOON + number)
        ledger.mark("opened", place, NOON, HASH)
    return {LEDGER: path.read_bytes()}


@TARGETS.register("ledger")
def ledger(seed: int) -> Target:
    """Return an institution's privacy ledger, whose length its last advert says."""
    with tempfile.TemporaryDirectory() as made:
        files, others = (_ledger_file(Path(made), f"run-{seed}-{one}") for one in ("a", "b"))
        (Path(made) / LEDGER).write_bytes(files[LEDGER])
        advertised = Ledger(SqliteStore(Path(made) / LEDGER), "loans").sequence

    def found(files: Files) -> list[str]:
        with tempfile.TemporaryDirectory() as made:
            path = Path(made) / LEDGER
            path.write_bytes(files[LEDGER])
            try:
                opened = Ledger(SqliteStore(path), "loans")
                opened.verify()
                opened.require_current(advertised)
            except FedpruneError as error:
                return [f"{type(error).__name__}: {error}"]
        return []

    return Target(files, others, found, LEDGER_EDITS, _dump)
