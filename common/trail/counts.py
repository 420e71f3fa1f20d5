"""Refusals alike, counted: who is refused a thousand times cannot fill the disk by it.

The first of its kind stands in the log at once; those alike that follow are counted, and told in
one line a minute. Alike is who refused, what was asked and the reason that was told, all three from
fixed lists: what the other side chose is counted as one kind. Pure: events and the time in, what is
to be written and what is counted out. Counts outlive the process that made them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Self

from pydantic import Field, TypeAdapter, ValidationError

from common.crypto.body import Body
from common.reasons import known_reason
from common.trail.events import (
    Event,
    Refused,
    RefusedAgain,
    RunEnded,
    Text,
    WasRefused,
    WasRefusedAgain,
)
from common.trail.refusals import TrailError

FOLD_SECONDS: Final = 60.0
"""Between lines of refusals that are alike."""


class Kind(Body):
    """What refusals that are alike have in common; ``institution`` is None for one's own."""

    institution: Text | None
    what: Text
    told: Text

    @classmethod
    def of(cls, event: Event) -> Self | None:
        """Return the kind of a refusal; None for whatever else happened."""
        match event:
            case Refused():
                return cls(institution=None, what=event.what, told=event.told)
            case WasRefused():
                told = known_reason(event.told)
                return cls(institution=event.institution, what=event.what, told=told)
        return None

    def again(self, times: int) -> Event:
        """Return what tells that so many more came."""
        if self.institution is None:
            return RefusedAgain(what=self.what, told=self.told, times=times)
        return WasRefusedAgain(**self.model_dump(), times=times)


class Counted(Body):
    """How many ``times`` a kind came again since it was told, in Unix seconds."""

    kind: Kind
    since: Annotated[float, Field(allow_inf_nan=False)]
    times: Annotated[int, Field(ge=0)]


_FILE: Final = TypeAdapter(tuple[Counted, ...])


@dataclass(frozen=True)
class Counts:
    """What came again lately and is not told yet."""

    kinds: Mapping[Kind, Counted] = field(default_factory=dict)

    @property
    def waiting(self) -> bool:
        """Whether anything is left to tell."""
        return any(one.times for one in self.kinds.values())

    def told(self, now: float, *, over: bool = False) -> tuple[list[Event], "Counts"]:
        """Return the lines that are due at ``now``, all if it is ``over``, and what is left."""
        # A clock that was set back makes nothing wait for it.
        due = [
            one for one in self.kinds.values() if over or not 0 <= now - one.since < FOLD_SECONDS
        ]
        kinds = {kind: one for kind, one in self.kinds.items() if one not in due}
        # What came again may come again; what did not is a first one then.
        kinds |= {
            one.kind: Counted(kind=one.kind, since=now, times=0)
            for one in due
            if one.times and not over
        }
        return [one.kind.again(one.times) for one in due if one.times], Counts(kinds)

    def folded(self, events: Iterable[Event], now: float) -> tuple[list[Event], "Counts"]:
        """Return which of ``events`` are to be written at ``now``, and what is counted by then."""
        written, kinds = list[Event](), dict(self.kinds)
        for event in events:
            if (kind := Kind.of(event)) is None:
                written.append(event)
            elif known := kinds.get(kind):
                kinds[kind] = known.model_copy(update={"times": known.times + 1})
            else:
                written.append(event)
                kinds[kind] = Counted(kind=kind, since=now, times=0)
        return written, Counts(kinds)

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        return _FILE.dump_json(tuple(self.kinds.values()))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Counts":
        """Parse what `to_bytes` returned; raise `TrailError` on anything else."""
        try:
            return cls({one.kind: one for one in _FILE.validate_json(data)})
        except (ValidationError, ValueError):
            raise TrailError(
                "the log's file of counts was altered: remove it, which loses refusals that came"
                " again"
            ) from None


def ends(events: Iterable[Event]) -> bool:
    """Whether a run ends by these: whatever was counted is told before."""
    return any(isinstance(event, RunEnded) for event in events)
