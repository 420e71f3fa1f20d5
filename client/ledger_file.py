"""The ledger's lines in a SQLite file: on the disk before the caller goes on."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, fields
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from client.entries import Entry, Kept, Shrunk
from client.refusals import LedgerAlteredError, LedgerUnavailableError
from common.durable import sync_directory

PATIENCE = 60.0
"""Seconds to wait for another process's transaction."""

Row = TypeVar("Row", Entry, Kept, Shrunk)

_TYPES = {int: "INTEGER", float: "REAL", bytes: "BLOB"}


def _columns(kind: type) -> str:
    hints = get_type_hints(kind)
    names = [part.name for part in fields(kind)]
    return ", ".join(f'"{name}" {_TYPES.get(hints[name], "TEXT")} NOT NULL' for name in names)


SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS entries ({_columns(Entry)}, hash TEXT, PRIMARY KEY (sequence))",
    f"CREATE TABLE IF NOT EXISTS vectors (plan TEXT PRIMARY KEY, {_columns(Kept)})",
    f"CREATE TABLE IF NOT EXISTS rosters (plan TEXT PRIMARY KEY, {_columns(Shrunk)})",
)
_ENTRY = ", ".join("?" for _ in fields(Entry))
_KEPT = ", ".join("?" for _ in fields(Kept))
_ENTRIES = ", ".join(f'"{part.name}"' for part in fields(Entry))
_KEPTS = ", ".join(f'"{part.name}"' for part in fields(Kept))


class SqliteStore:
    """One file: a write-ahead log, synced at every commit; one writer at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create the file, for its owner alone.

        Raises `LedgerAlteredError` when there is a file but no ledger in it.
        """
        self._path = path
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            sync_directory(path.parent)
        with self._connection() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                database.execute(statement)
            database.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator["SqliteTransaction"]:
        """Begin at once, so that no two processes decide on the same lines."""
        with self._connection() as database:
            database.execute("BEGIN IMMEDIATE")
            yield SqliteTransaction(database)
            # Left out by an error: closing rolls back.
            database.execute("COMMIT")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        # A connection a transaction: the process of one message may be another's child.
        try:
            connection = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)
            with closing(connection) as database:
                database.execute("PRAGMA synchronous=FULL")
                database.execute("PRAGMA secure_delete=ON")
                yield database
        except sqlite3.OperationalError as error:
            raise LedgerUnavailableError(
                f"{self._path}: {error}: nothing can be released until the ledger can be written"
            ) from error
        except sqlite3.DatabaseError as error:
            raise LedgerAlteredError(
                f"{self._path}: {error}: restore the ledger from a copy that verifies"
            ) from error


class SqliteTransaction:
    """What may be read and written between BEGIN and COMMIT."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Use a connection that has begun."""
        self._database = database

    def entries(self, after: int) -> Iterable[Entry]:
        """Return the lines after a sequence number, in order."""
        rows = self._database.execute(
            f"SELECT {_ENTRIES}, hash FROM entries WHERE sequence > ? ORDER BY sequence",  # noqa: S608
            (after,),
        )
        entries = []
        for *row, noted in rows:
            entry = _read(Entry, row)
            # The next line proves all but the last one.
            if entry.hash != noted:
                raise LedgerAlteredError(
                    f"line {entry.sequence} of the ledger was altered: restore it from a copy that"
                    " verifies"
                )
            entries.append(entry)
        return entries

    def append(self, entries: Iterable[Entry]) -> None:
        """Write the next lines."""
        for entry in entries:
            self._database.execute(
                f"INSERT INTO entries VALUES ({_ENTRY}, ?)",  # noqa: S608
                (*astuple(entry), entry.hash),
            )

    def kept(self) -> Mapping[str, Kept]:
        """Return the last stored vector of each plan hash."""
        rows = self._database.execute(f"SELECT plan, {_KEPTS} FROM vectors")  # noqa: S608
        return {plan_hash: _read(Kept, row) for plan_hash, *row in rows}

    def keep(self, plan_hash: str, kept: Kept) -> None:
        """Replace the stored vector of a plan."""
        self._database.execute(
            f"INSERT OR REPLACE INTO vectors VALUES (?, {_KEPT})",  # noqa: S608
            (plan_hash, *astuple(kept)),
        )

    def shrunk(self) -> Mapping[str, Shrunk]:
        """Return the roster after revocations of each plan hash that had any."""
        rows = self._database.execute("SELECT plan, approved, roster FROM rosters")
        return {plan_hash: _read(Shrunk, row) for plan_hash, *row in rows}

    def shrink(self, plan_hash: str, shrunk: Shrunk) -> None:
        """Replace the roster of a plan."""
        self._database.execute(
            "INSERT OR REPLACE INTO rosters VALUES (?, ?, ?)",
            (plan_hash, shrunk.approved, shrunk.roster),
        )


def lines_in(path: Path) -> list[Entry]:
    """Return the lines of a ledger for a look, which writes nothing; none where there is no file.

    What a crash left beside the file is not among them: who works on the ledger opens it.

    Raises:
        LedgerAlteredError: a line was altered, or it is no ledger.
        LedgerUnavailableError: it cannot be read.
    """
    if not path.exists() or not path.stat().st_size:
        return []
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)
        with closing(connection) as database:
            return list(SqliteTransaction(database).entries(0))
    except sqlite3.OperationalError as error:
        raise LedgerUnavailableError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise LedgerAlteredError(
            f"{path}: {error}: restore the ledger from a copy that verifies"
        ) from error


def _read(kind: type[Row], values: Sequence[Any]) -> Row:
    """Return a row as what it is; SQLite keeps whatever was written, of any type."""
    hints = get_type_hints(kind)
    for part, value in zip(fields(kind), values, strict=True):
        expected: type[Any] = hints[part.name] if hints[part.name] in _TYPES else str
        if type(value) is not expected or (expected is float and not isfinite(float(value))):
            raise LedgerAlteredError(
                f"a {part.name} of the ledger is no {expected.__name__}: it was altered; restore it"
                " from a copy that verifies"
            )
    return kind(*values)
