"""Refusals folded for as long as a process lives, so that no count waits much over a minute."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from common.errors import FedpruneError
from common.trail.counts import FOLD_SECONDS
from common.trail.events import Event
from common.trail.file import FileTrail
from common.trail.interface import Trail

log = logging.getLogger("fedprune.audit")

Later = Callable[[float, Callable[[], None]], None]


def in_a_thread(seconds: float, act: Callable[[], None]) -> None:
    """Act after so many seconds, unless the process has ended."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


@final
class Folding:
    """Has what was counted be told once its minute is over."""

    def __init__(self, later: Later = in_a_thread) -> None:
        """``later`` calls a function after so many seconds."""
        self._later, self._lock = later, threading.Lock()
        self._waiting: set[Path] = set()

    def onto(self, trail: Trail) -> Trail:
        """Return a trail whose refusals are folded before they stand in ``trail``, a file's."""
        return _Folded(self, trail) if isinstance(trail, FileTrail) else trail

    def note(self, trail: FileTrail, *events: Event) -> None:
        """Write events, or count them; raise as `Trail.append`."""
        if trail.fold(*events):
            self._tell_later(trail)

    def _tell_later(self, trail: FileTrail) -> None:
        with self._lock:
            if trail.folder in self._waiting:
                return
            self._waiting.add(trail.folder)
        self._later(FOLD_SECONDS, lambda: self._tell(trail))

    def _tell(self, trail: FileTrail) -> None:
        with self._lock:
            self._waiting.discard(trail.folder)
        waiting = True
        try:
            waiting = trail.fold()
        except FedpruneError as unwritten:
            # The count is kept for the next minute.
            log.error("refusals were not noted: %s", unwritten)
        if waiting:
            self._tell_later(trail)


@final
@dataclass(frozen=True)
class _Folded:
    folding: Folding
    trail: FileTrail

    def append(self, *events: Event) -> None:
        """Write events, in order, refusals folded."""
        self.folding.note(self.trail, *events)

    @property
    def head(self) -> bytes:
        """The head of the log below."""
        return self.trail.head
