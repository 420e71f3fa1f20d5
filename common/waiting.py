"""How long to wait before asking again: in proportion to how long nothing has come.

Whoever asks late by a fifth of what he has waited anyway adds a fifth at most to any trip, and
asks a hundred times as seldom in an idle hour as in a busy second.
"""

from collections.abc import Callable
from dataclasses import dataclass

SHARE = 0.2
"""The next pause, as a part of the time since something came last."""


OBJECT_SECONDS = 0.5
"""The longest pause between looks for an object; Flower's is 10, which a process waits to end."""


@dataclass(slots=True)
class Pause:
    """Pauses that grow from ``first`` to ``longest`` seconds until something comes."""

    first: float
    longest: float
    waited: float = 0.0

    def next(self) -> float:
        """Return the seconds to wait now."""
        seconds = min(self.longest, max(self.first, SHARE * self.waited))
        self.waited += seconds
        return seconds

    def over(self) -> None:
        """Begin anew: something came."""
        self.waited = 0.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """When a process that ended is started again, for ever: an institution waits for its server.

    The pause doubles from ``first`` to ``longest`` seconds while a process lives for less than
    ``calm`` seconds. A SuperNode killed is refused by the SuperLink until its last heartbeat has
    expired, for a minute, so nothing may be given up before that.
    """

    first: float = 0.5
    longest: float = 15.0
    calm: float = 60.0

    def after(self, failures: int, lived: float) -> tuple[int, float]:
        """Return the new count of early ends in a row, and the seconds to wait.

        ``failures`` is the count before this end, which came ``lived`` seconds after its start.
        """
        if lived >= self.calm:
            return 0, self.first
        # Without a limit, a power of two would leave the range of a float after a week.
        return failures + 1, min(self.longest, self.first * 2.0 ** min(failures, 30))


def look_again_after(pull: Callable[..., object], seconds: float) -> None:
    """Have Flower's ``pull`` look again after ``seconds`` for an object that is still on its way.

    Its pauses double from there to `OBJECT_SECONDS`. A message can be seen before its objects have
    come, more so by whoever looks often; Flower then waits for a second, up to three times a trip,
    and no setting changes that.

    Raises:
        TypeError: it is no such function of the Flower that is pinned.
    """
    defaults = getattr(pull, "__kwdefaults__", None) or {}
    if not {"initial_backoff", "backoff_cap"} <= defaults.keys():
        raise TypeError(f"{pull} has no such pauses: install the flwr that is pinned")
    defaults |= {"initial_backoff": seconds, "backoff_cap": OBJECT_SECONDS}
