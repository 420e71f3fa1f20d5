"""The server's figures: runs, rounds and members, by its audit log and what SuperLink knows."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, final

from cryptography import x509

from common import figures
from common.metrics import Metric, Sample, Source
from common.reasons import known_reason
from common.status import Board
from common.trail.events import (
    Admitted,
    Asked,
    Published,
    RoundOver,
    RunBegan,
    RunEnded,
    WasRefused,
    WasRefusedAgain,
)
from common.trail.file import FOLDER
from common.trail.lines import Line
from server.control import ONLINE, nodes
from server.desk import find_desk
from server.home import CERTIFICATE, ServerHome

NODES_SECONDS = 10.0
"""Between questions to SuperLink, however often somebody scrapes."""

RUNS = Metric("runs_begun_total", "counter", "runs that a process began, or went on with")
ENDED = Metric(
    "runs_ended_total", "counter", "how they ended: finished, stopped, failed", ("outcome",)
)
ACTIVE = Metric("run_active", "gauge", "1 while the latest run has not ended")
ROUNDS = Metric("rounds_total", "counter", "rounds that are over: kept or lost", ("outcome",))
ATTEMPTS = Metric("round_attempts_total", "counter", "attempts at rounds that asked for vectors")
COHORT = Metric("round_cohort", "gauge", "institutions that the latest attempt asked")
SURVIVORS = Metric("round_survivors", "gauge", "institutions in the sum of the last round")
KEPT = Metric("weights_kept", "gauge", "weights that the last round's model has left")
ONLINE_NOW = Metric(
    "institution_online", "gauge", "1 if SuperLink hears a member's node", ("institution",)
)
REFUSED_BY = Metric(
    "institution_refusals_total",
    "counter",
    "refusals of a member; of all whose name was not known yet under an empty name",
    ("institution",),
)
CHARTER_ENDS = Metric(
    "consent_expiry_timestamp_seconds", "gauge", "when the published charter ends, in Unix time"
)
CERTIFICATE_ENDS = Metric(
    "certificate_expiry_timestamp_seconds", "gauge", "when the public port's certificate ends"
)

METRICS: Final = (
    *figures.SHARED,
    RUNS,
    ENDED,
    ACTIVE,
    ROUNDS,
    ATTEMPTS,
    COHORT,
    SURVIVORS,
    KEPT,
    ONLINE_NOW,
    REFUSED_BY,
    CHARTER_ENDS,
    CERTIFICATE_ENDS,
)
"""All that a server tells."""


@final
class Told(figures.Told):
    """What the audit log has told so far."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet of the log in ``folder``."""
        ends = ((ENDED, outcome) for outcome in ("finished", "stopped", "failed"))
        rounds = ((ROUNDS, outcome) for outcome in ("kept", "lost"))
        super().__init__(folder, [(RUNS, ""), (ATTEMPTS, ""), (REFUSED_BY, ""), *ends, *rounds])

    def take(self, line: Line) -> None:
        """Count what a line tells."""
        last, count = self.last, self.count
        match line.event:
            case RunBegan():
                count[RUNS, ""] += 1
                # Else a run that has just begun would stand still since the one before.
                last |= {ACTIVE: 1, figures.ROUND_TIME: line.seconds}
            case RunEnded(outcome=outcome):
                count[ENDED, outcome] += 1
                last[ACTIVE] = 0
            case Asked(cohort=cohort):
                count[ATTEMPTS, ""] += 1
                last[COHORT] = len(cohort)
                self._know(*cohort)
            case RoundOver() as over:
                count[ROUNDS, "kept" if over.survivors else "lost"] += 1
                last |= {SURVIVORS: len(over.survivors), KEPT: over.kept}
                last |= {figures.ROUND: over.round, figures.ROUND_TIME: line.seconds}
            case WasRefused(told=told, institution=institution):
                count[figures.REFUSALS, known_reason(told)] += 1
                count[REFUSED_BY, institution] += 1
            case WasRefusedAgain(told=told, institution=institution, times=times):
                count[figures.REFUSALS, told] += times
                count[REFUSED_BY, institution] += times
            case Admitted(institution=institution):
                self._know(institution)
            case Published(members=members):
                self._know(*members)

    def _know(self, *members: str) -> None:
        """Let a member's refusals be counted from 0 on."""
        for name in members:
            self.count[REFUSED_BY, name] += 0


@final
class Members:
    """Which members SuperLink hears, asked at times."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Ask nothing yet."""
        self._home, self._clock = home, clock
        self._due, self._online = 0.0, dict[str, bool]()

    def __call__(self) -> Iterator[Sample]:
        """Yield each member by name."""
        if self._clock() >= self._due:
            with find_desk(self._home).control() as control:
                self._online = {node.name: node.status == ONLINE for node in nodes(control)}
            self._due = self._clock() + NODES_SECONDS
        for name, online in sorted(self._online.items()):
            yield Sample(ONLINE_NOW, online, (name,))


def sources(home: Path, board: Board) -> Mapping[str, Source]:
    """Return where the figures of the server in ``home`` come from."""
    state = home / "state"
    return {
        "parts": lambda: figures.of_parts(board),
        "processes": lambda: figures.of_processes(state),
        "stages": lambda: figures.of_stages(state),
        "audit": Told(home / FOLDER),
        "members": Members(home),
        "consent": lambda: _consent(home),
        "certificate": lambda: _certificate(home),
    }


def _certificate(home: Path) -> Iterator[Sample]:
    certificate = x509.load_pem_x509_certificate((home / CERTIFICATE).read_bytes())
    yield Sample(CERTIFICATE_ENDS, certificate.not_valid_after_utc.timestamp())


def _consent(home: Path) -> Iterator[Sample]:
    # From the bundle: the log's line may stand in a file that is read no more.
    server = ServerHome(home)
    if server.bundle is not None:
        yield Sample(CHARTER_ENDS, server.charter.expires)
