"""An institution's figures: its rounds and refusals by its audit log, and its own budget.

What is left of the budget is told here, on loopback, and never to the server.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, final

from client import budget
from client.consent import read_pin
from common import figures
from common.metrics import Metric, Sample, Source
from common.reasons import known_reason
from common.status import Board
from common.trail.events import Charged, Contributed, Joined, Opened, Refused, RefusedAgain
from common.trail.file import FOLDER
from common.trail.lines import Line

JOINED = Metric("runs_joined_total", "counter", "answers to a run that asked who this is")
CONTRIBUTED = Metric(
    "contributions_total",
    "counter",
    "vectors that left: `true` is a stored one of a repeated round",
    ("again",),
)
OPENED = Metric("openings_total", "counter", "sums that this institution helped to open")
CHARGED = Metric(
    "budget_charged_epsilon",
    "gauge",
    "epsilon that all rounds so far took from the table, an upper bound by RDP",
)
CONSENT_ENDS = Metric(
    "consent_expiry_timestamp_seconds", "gauge", "when what was approved ends, in Unix time"
)

METRICS: Final = (
    *figures.SHARED,
    JOINED,
    CONTRIBUTED,
    OPENED,
    CHARGED,
    *budget.METRICS,
    CONSENT_ENDS,
)
"""All that an institution tells."""


@final
class Told(figures.Told):
    """What the audit log has told so far."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet of the log in ``folder``."""
        vectors = ((CONTRIBUTED, again) for again in ("false", "true"))
        super().__init__(folder, [(JOINED, ""), (OPENED, ""), *vectors])

    def take(self, line: Line) -> None:
        """Count what a line tells."""
        last, count = self.last, self.count
        match line.event:
            case Joined():
                count[JOINED, ""] += 1
            case Contributed() as left:
                count[CONTRIBUTED, str(left.again).lower()] += 1
                last |= {figures.ROUND: left.round, figures.ROUND_TIME: line.seconds}
            case Opened():
                count[OPENED, ""] += 1
            case Refused(told=told):
                count[figures.REFUSALS, known_reason(told)] += 1
            case RefusedAgain(told=told, times=times):
                count[figures.REFUSALS, known_reason(told)] += times
            case Charged(epsilon=epsilon) if epsilon is not None:
                last[CHARGED] = epsilon


def sources(home: Path, board: Board) -> Mapping[str, Source]:
    """Return where the figures of the institution in ``home`` come from."""
    state = home / "state"
    return {
        "parts": lambda: figures.of_parts(board),
        "processes": lambda: figures.of_processes(state),
        "stages": lambda: figures.of_stages(state),
        "audit": Told(home / FOLDER),
        "budget": lambda: budget.of_budget(state),
        "consent": lambda: _consent(home),
    }


def _consent(home: Path) -> Iterator[Sample]:
    if (pin := read_pin(home)) is not None:
        yield Sample(CONSENT_ENDS, pin.expires)
