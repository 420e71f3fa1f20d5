"""A ledger's lines in Flower's ``Context.state``, which travels with an institution's messages.

Consecutive messages of a simulated institution may be served by different processes, on
different machines. Flower hands each the state that the last one left, and nothing else.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar, cast

from flwr.app import ConfigRecord, RecordDict

from client.entries import Entry, Kept, Shrunk

LINES, VECTOR, ROSTER = "ledger", "ledger/vector/", "ledger/roster/"

T = TypeVar("T", Kept, Shrunk)


@dataclass
class ContextStore:
    """A store in ``state``, which is replaced by the state that comes with each message.

    A ledger that reads it again takes in only lines it has not seen.
    """

    state: RecordDict = field(default_factory=RecordDict)

    @contextmanager
    def transaction(self) -> Iterator["ContextStore"]:
        """Return itself: an institution is asked one thing at a time."""
        yield self

    def entries(self, after: int) -> Iterable[Entry]:
        """Return the lines after a sequence number."""
        return [Entry(**json.loads(line)) for line in self._lines[after:]]

    def append(self, entries: Iterable[Entry]) -> None:
        """Add lines."""
        self._lines.extend(json.dumps(asdict(entry)) for entry in entries)

    def kept(self) -> Mapping[str, Kept]:
        """Return the stored vectors."""
        return self._found(VECTOR, Kept)

    def keep(self, plan_hash: str, kept: Kept) -> None:
        """Replace a stored vector."""
        self.state[VECTOR + plan_hash] = ConfigRecord(asdict(kept))

    def shrunk(self) -> Mapping[str, Shrunk]:
        """Return the rosters after revocations."""
        return self._found(ROSTER, Shrunk)

    def shrink(self, plan_hash: str, shrunk: Shrunk) -> None:
        """Replace a roster."""
        self.state[ROSTER + plan_hash] = ConfigRecord(asdict(shrunk))

    @property
    def _lines(self) -> list[str]:
        record = self.state.setdefault(LINES, ConfigRecord({LINES: list[str]()}))
        return cast(list[str], cast(ConfigRecord, record)[LINES])

    def _found(self, prefix: str, kind: type[T]) -> Mapping[str, T]:
        return {
            name.removeprefix(prefix): kind(**cast(dict[str, Any], dict(record)))
            for name, record in self.state.config_records.items()
            if name.startswith(prefix)
        }
