"""What an institution must never forget, whatever happens to its process.

Epochs of a plan never repeat, and no round of a run is computed twice: an institution that
lost its memory between the two has to sit the round out.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from client.policy import RoundReplayedError


class Journal(Protocol):
    """The counters of an institution, kept before anything they count leaves it."""

    def last_epoch(self, plan_hash: str) -> int:
        """Return the last epoch that keys were made for under a plan, or -1."""
        ...

    def begin_epoch(self, plan_hash: str, epoch: int) -> None:
        """Note an epoch; raise `RoundReplayedError` unless it is later than all before."""
        ...

    def begin_round(self, run: str, round_number: int) -> None:
        """Note a vector to be computed; raise `RoundReplayedError` unless it is a later one."""
        ...


class NoJournal:
    """No counters: for simulations, whose institutions never lose their memory."""

    def last_epoch(self, plan_hash: str) -> int:
        """Return -1."""
        return -1

    def begin_epoch(self, plan_hash: str, epoch: int) -> None:
        """Note nothing."""

    def begin_round(self, run: str, round_number: int) -> None:
        """Note nothing."""


@dataclass
class VolatileJournal:
    """Counters that outlast an institution's memory but not the process."""

    _counters: dict[str, int] = field(default_factory=dict)

    def last_epoch(self, plan_hash: str) -> int:
        """Return the last epoch, or -1."""
        return self._counters.get(f"epoch/{plan_hash}", -1)

    def begin_epoch(self, plan_hash: str, epoch: int) -> None:
        """Note an epoch."""
        self._raise_to(f"epoch/{plan_hash}", epoch)

    def begin_round(self, run: str, round_number: int) -> None:
        """Note a round."""
        self._raise_to(f"round/{run}", round_number)

    def _raise_to(self, counter: str, value: int) -> None:
        require_later(counter, value, self._counters.get(counter, -1))
        self._counters[counter] = value


class DurableJournal:
    """Counters in a SQLite file, on the disk before the caller goes on."""

    def __init__(self, path: Path) -> None:
        """Open or create the file."""
        self._path = path
        with self._transaction() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER)"
            )

    def last_epoch(self, plan_hash: str) -> int:
        """Return the last epoch, or -1."""
        with self._transaction() as database:
            return _value(database, f"epoch/{plan_hash}")

    def begin_epoch(self, plan_hash: str, epoch: int) -> None:
        """Note an epoch."""
        self._raise_to(f"epoch/{plan_hash}", epoch)

    def begin_round(self, run: str, round_number: int) -> None:
        """Note a round."""
        self._raise_to(f"round/{run}", round_number)

    def _raise_to(self, counter: str, value: int) -> None:
        with self._transaction() as database:
            require_later(counter, value, _value(database, counter))
            database.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (counter, value))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        # A connection a call: the process of one message may be another's child.
        with closing(sqlite3.connect(self._path, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")


def require_later(counter: str, value: int, last: int) -> None:
    """Raise `RoundReplayedError` unless a counter grows."""
    if value <= last:
        raise RoundReplayedError(f"{counter} is already at {last}: {value} is in the past")


def _value(database: sqlite3.Connection, counter: str) -> int:
    row = database.execute("SELECT value FROM counters WHERE name = ?", (counter,)).fetchone()
    return int(row[0]) if row else -1
