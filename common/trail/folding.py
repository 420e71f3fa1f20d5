"""Refusals folded, so that who is refused a thousand times cannot fill the disk by it.

The first of its kind stands in the log at once; those alike that follow are counted, and told in
one line a minute. Alike is what was asked and the reason that was told, both from fixed lists: the
reason in full may hold what the other side chose.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from common.errors import FedpruneError
from common.trail.events import Event, Refused, RefusedAgain
from common.trail.interface import Trail, Untold

log = logging.getLogger("fedprune.audit")

FOLD_SECONDS = 60.0
"""Between lines of refusals that are alike."""

Kind = tuple[str, str]
"""What was asked, and the reason that was told."""

Later = Callable[[float, Callable[[], None]], None]


def in_a_thread(seconds: float, act: Callable[[], None]) -> None:
    """Act after so many seconds, unless the process has ended."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


@final
class Folding:
    """What was refused lately, for as long as the process lives."""

    def __init__(self, later: Later = in_a_thread) -> None:
        """``later`` calls a function after so many seconds."""
        self._later, self._lock = later, threading.Lock()
        self._times: dict[Kind, int] = {}

    def onto(self, trail: Trail) -> Trail:
        """Return a trail whose refusals are folded before they stand in ``trail``."""
        return trail if isinstance(trail, Untold) else _Folded(self, trail)

    def note(self, trail: Trail, event: Refused) -> None:
        """Write a refusal, or count it; raise as `Trail.append`."""
        kind = event.what, event.told
        with self._lock:
            if kind in self._times:
                self._times[kind] += 1
                return
            trail.append(event)
            self._times[kind] = 0
        self._later(FOLD_SECONDS, lambda: self._tell(trail, kind))

    def _tell(self, trail: Trail, kind: Kind) -> None:
        """Write how often it came again; if it did not, the next one is a first one."""
        with self._lock:
            if not (times := self._times[kind]):
                del self._times[kind]
                return
            what, told = kind
            try:
                trail.append(RefusedAgain(what=what, told=told, times=times))
                self._times[kind] = 0
            except FedpruneError as unwritten:
                # The count is kept for the next minute.
                log.error("refusals were not noted: %s", unwritten)
        self._later(FOLD_SECONDS, lambda: self._tell(trail, kind))


@final
@dataclass(frozen=True)
class _Folded:
    folding: Folding
    trail: Trail

    def append(self, *events: Event) -> None:
        """Write events, in order, refusals folded."""
        for event in events:
            if isinstance(event, Refused):
                self.folding.note(self.trail, event)
            else:
                self.trail.append(event)

    @property
    def head(self) -> bytes:
        """The head of the log below."""
        return self.trail.head
