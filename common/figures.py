"""The figures that both roles tell: their parts and processes, their log, durations, bytes."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from common import __version__
from common.metrics import READABLE, Metric, Sample
from common.processes import read_standings
from common.reasons import OTHER, REASONS
from common.status import Board
from common.timings import read_tally
from common.trail.following import Follower
from common.trail.lines import Line
from common.versions import PROTOCOL_VERSION

BUILD = Metric("build_info", "gauge", "1, by what runs here", ("version", "protocol"))
PART = Metric("part_up", "gauge", "1 if a part is well, as `/healthz` has it", ("part",))
RESIDENT = Metric(
    "process_resident_memory_bytes", "gauge", "resident memory of a process of `up`", ("process",)
)
HANDLES = Metric("process_open_fds", "gauge", "open file handles of it", ("process",))
ENDS = Metric("process_early_ends", "gauge", "how often in a row it ended early", ("process",))
DISK = Metric("disk_free_bytes", "gauge", "room on the disk of the home")
LINES = Metric("audit_lines_total", "counter", "lines of the audit log, since it was begun")
REFUSALS = Metric(
    "refusals_total",
    "counter",
    'refusals by the reason that is told; at the server institutions\', "other" if unknown',
    ("reason",),
)
STAGE = Metric(
    "stage_duration_seconds",
    "histogram",
    "a trip to all institutions, or an institution's answer to it; at the server `round` too",
    ("stage",),
)
RECEIVED = Metric("received_bytes_total", "counter", "messages of rounds that came, serialised")
SENT = Metric("sent_bytes_total", "counter", "messages of rounds that left, serialised")
ROUND = Metric("round_number", "gauge", "the last round of the latest run that was done here")
ROUND_TIME = Metric(
    "round_timestamp_seconds",
    "gauge",
    "when that was, or at the server when a run began since, in Unix time",
)

SHARED: Final = (
    BUILD,
    PART,
    READABLE,
    RESIDENT,
    HANDLES,
    ENDS,
    DISK,
    LINES,
    REFUSALS,
    STAGE,
    RECEIVED,
    SENT,
    ROUND,
    ROUND_TIME,
)
"""What both roles tell, in the order of the table in the documentation."""


Counted = tuple[Metric, str]
"""A counter, and the value of its label if it has one."""


class Told:
    """Abstract: what an audit log has told so far; a role says what counts of an event."""

    def __init__(self, folder: Path, counters: Iterable[Counted] = ()) -> None:
        """Read nothing yet of the log in ``folder``; ``counters`` are a role's own.

        They begin at 0: `increase` sees no first event of a counter that begins at 1.
        """
        self._log = Follower(folder)
        refusals = ((REFUSALS, reason) for reason in (*REASONS, OTHER))
        self.count: Counter[Counted] = Counter(dict.fromkeys([*refusals, *counters], 0))
        self.last: dict[Metric, float] = {}

    def __call__(self) -> Iterator[Sample]:
        """Take in what is new; yield all that was told."""
        for line in self._log.new():
            self.last[LINES] = line.sequence
            self.take(line)
        for (metric, label), count in sorted(self.count.items(), key=lambda one: one[0][1]):
            yield Sample(metric, count, (label,) if metric.labels else ())
        for metric, value in self.last.items():
            yield Sample(metric, value)

    def take(self, line: Line) -> None:
        """Count what a line tells."""
        raise NotImplementedError


def of_parts(board: Board) -> Iterator[Sample]:
    """Yield the build, and each part as it was looked at last."""
    yield Sample(BUILD, 1, (__version__, str(PROTOCOL_VERSION)))
    for name, part in board.parts.items():
        yield Sample(PART, part.well, (name,))


def of_processes(state: Path) -> Iterator[Sample]:
    """Yield what the children of `up` take, and the disk's free room."""
    for name, standing in read_standings(state).items():
        yield Sample(ENDS, standing.failures, (name,))
        if standing.process is not None and standing.runs:
            with suppress(OSError):
                process = Path("/proc") / str(standing.process)
                pages = int((process / "statm").read_text().split()[1])
                yield Sample(RESIDENT, pages * os.sysconf("SC_PAGE_SIZE"), (name,))
                yield Sample(HANDLES, len(os.listdir(process / "fd")), (name,))
    yield Sample(DISK, shutil.disk_usage(state).free)


def of_stages(state: Path) -> Iterator[Sample]:
    """Yield durations and bytes."""
    tally = read_tally(state)
    for name, durations in sorted(tally.stages.items()):
        yield Sample(STAGE, durations, (name,))
    yield Sample(RECEIVED, tally.received)
    yield Sample(SENT, tally.sent)
