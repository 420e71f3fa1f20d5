"""Where events go: the one small interface that both sides, and every feature, write through."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, final

from common.errors import DiskError, FedpruneError, PolicyError
from common.trail.events import Event, Refused
from common.trail.refusals import TrailError

log = logging.getLogger("fedprune.audit")

TEXT = 300
"""Most characters of a reason that are kept: it may hold what the other side chose."""


class Trail(Protocol):
    """Where events go; once `append` returns, they are on the disk."""

    def append(self, *events: Event) -> None:
        """Write events, in order.

        Raises:
            DiskError: they could not be written, and none of them stands there.
            TrailError: the log is not what was written last.
        """
        ...

    @property
    def head(self) -> bytes:
        """The log's signed head, for others to hold; nothing where there is no log."""
        ...


@final
class Untold:
    """Keeps no log: what simulations have."""

    def append(self, *events: Event) -> None:
        """Write nothing."""

    @property
    def head(self) -> bytes:
        """Nothing."""
        return b""


@contextmanager
def refusals_noted(trail: Trail, what: str) -> Iterator[None]:
    """Note that ``what`` was refused, whatever the reason; the error goes on.

    A trail that cannot be written changes nothing of that: nothing is done anyway.
    """
    try:
        yield
    except (DiskError, TrailError):
        raise  # There is nowhere to note it.
    except Exception as error:
        # Only the texts of our own errors are known to hold no record.
        own = isinstance(error, FedpruneError)
        because = str(error)[:TEXT] if own else type(error).__name__
        told = error.reason if isinstance(error, PolicyError) else "failed"
        try:
            trail.append(Refused(what=what[:TEXT], told=told, because=because))
        except FedpruneError as unwritten:
            log.error("a refusal was not noted: %s", unwritten)
        raise
