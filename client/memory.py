"""What an institution remembers between the trips of a run.

It lives in Flower's ``Context.state`` on the institution's own machine, which is saved only
after the reply has left and dies with the SuperNode: a dropout, not a loss. What protects
records must outlive both, so it stands in the ledger (`client.ledger`).
"""

from dataclasses import asdict, dataclass
from typing import Any

from flwr.app import ConfigRecord, RecordDict

RECORD = "fedprune"


@dataclass(frozen=True, slots=True)
class Memory:
    """State of one run; every default means "nothing yet".

    ``secrets`` is the stored `common.crypto.stages.State` of the current epoch.
    """

    run: str = ""
    secrets: bytes = b""

    def save(self, state: RecordDict) -> None:
        """Write into a Flower context's state."""
        state[RECORD] = ConfigRecord(asdict(self))

    @classmethod
    def load(cls, state: RecordDict) -> "Memory":
        """Read from a Flower context's state; an empty state is a fresh memory."""
        record = state.get(RECORD)
        if not isinstance(record, ConfigRecord):
            return cls()
        fields: dict[str, Any] = dict(record)
        return cls(**fields)

    def __repr__(self) -> str:
        """Show the run and nothing secret."""
        return f"Memory(run={self.run!r})"
