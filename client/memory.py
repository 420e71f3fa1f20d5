"""What an institution remembers between the trips of a run.

It lives in Flower's ``Context.state`` on the institution's own machine and dies with the
SuperNode, which is a dropout, not a loss. What must never be forgotten stands in the journal.
"""

from dataclasses import asdict, dataclass
from typing import Any

from flwr.app import ConfigRecord, RecordDict

RECORD = "fedprune"


@dataclass(frozen=True, slots=True)
class Memory:
    """State of one run; every default means "nothing yet".

    ``vector`` is the encoded, unmasked vector of ``round``, kept to be sent again bit for bit;
    ``binding`` says what it was computed from. ``epoch`` is the last one that keys were made
    for, ``opened`` the last round for which openings left the institution. ``roster`` is the
    approved one after revocations, ``secrets`` the stored `common.crypto.stages.State`.
    """

    run: str = ""
    round: int = -1
    epoch: int = -1
    opened: int = -1
    mask: bytes = b""
    vector: bytes = b""
    binding: str = ""
    roster: bytes = b""
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
        """Show where the run stands and nothing secret."""
        return f"Memory(run={self.run!r}, round={self.round}, epoch={self.epoch})"
