"""How long the stages of rounds took and what passed in bytes, added up over processes' lives.

A bounded file beside a role's other state, replaced after each stage, so that the figures outlive
the process that works and are read by the one that tells them. Nothing waits for them: where they
cannot be written, work goes on.
"""

import json
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from common.errors import DiskError
from common.processes import write_secret

log = logging.getLogger("fedprune.status")

FILE: Final = "stages.json"
"""In ``state/``."""

BUCKETS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Upper bounds in seconds; one more bucket takes all above."""

TRIPS: Final = ("join", "advertise", "update", "sign", "unmask")
"""What institutions are asked for, as messages are named."""

ROUND: Final = "round"
"""At the server: a round from its beginning until its model is there."""

STAGES: Final = (*TRIPS, ROUND)
"""All that is timed; nothing else is, however a message is named."""


@dataclass
class Durations:
    """A histogram: how many ended in each bucket, and the sum of their seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


@dataclass
class Tally:
    """Everything so far: durations by stage, and bytes of messages."""

    stages: dict[str, Durations] = field(default_factory=dict)
    received: int = 0
    sent: int = 0


def read_tally(state: Path) -> Tally:
    """Return what stands in ``state``; nothing yet where there is none, or none that can be read.

    Counters of a monitor may begin anew at any time.
    """
    try:
        found = json.loads((state / FILE).read_bytes())
        stages = {name: Durations(**found["stages"][name]) for name in found["stages"]}
        tally = Tally(stages, int(found["received"]), int(found["sent"]))
        fits = all(len(one.counts) == len(BUCKETS) + 1 for one in stages.values())
    except (OSError, ValueError, TypeError, KeyError):
        return Tally()
    return tally if fits and stages.keys() <= set(STAGES) else Tally()


class Timings:
    """Adds to the tally in the folder ``state``; without one, to none that outlives it."""

    def __init__(
        self, state: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Go on from what stands there."""
        self._state, self._clock = state, clock
        self.tally = Tally() if state is None else read_tally(state)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage, however it ends."""
        began = self._clock()
        try:
            yield
        finally:
            self.note(stage, self._clock() - began)

    def moved(self, *, received: int = 0, sent: int = 0) -> None:
        """Add bytes; they are written with the next stage that ends."""
        self.tally.received += received
        self.tally.sent += sent

    def note(self, stage: str, seconds: float) -> None:
        """Add a stage that is over; an unknown one is left out."""
        if stage not in STAGES:
            return
        self.tally.stages.setdefault(stage, Durations()).add(seconds)
        if self._state is None:
            return
        try:
            write_secret(self._state / FILE, json.dumps(asdict(self.tally)).encode())
        except DiskError as error:
            log.debug("durations were not noted: %s", error)
