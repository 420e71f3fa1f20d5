"""The end of an audit log, and what it tells of runs, by a pure fold over its lines.

The live view shows the log and does not verify it: `fedprune-server audit verify` does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from common.trail.events import (
    Admitted,
    Arrived,
    Asked,
    Refused,
    Revoked,
    RunBegan,
    RunEnded,
    WasRefused,
    WasRefusedAgain,
)
from common.trail.lines import Line

MOST_LINES, MOST_REFUSALS, MOST_RUNS = 60, 60, 32
MOST_TEXT: Final = 240
_HEXADECIMAL: Final = re.compile("[0-9a-f]{32,}")
"""Ids of runs, hashes, keys and signatures."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line as it is shown: its number, ISO time, event, and what it says in short."""

    sequence: int
    time: str
    event: str
    said: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Who refused what, and the reason that was told."""

    time: str
    who: str
    what: str
    told: str


@dataclass(frozen=True, slots=True)
class Trips:
    """What the log says of a run: who arrived, who was asked last and for what, how it ended."""

    arrived: frozenset[str] = frozenset()
    cohort: frozenset[str] = frozenset()
    round: int = -1
    outcome: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class LogStory:
    """A log so far; ``refused`` counts all refusals that were read."""

    entries: tuple[Entry, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    refused: int = 0
    last_refusals: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, Trips] = field(default_factory=dict)
    revoked: frozenset[str] = frozenset()


def told(log: LogStory, line: Line) -> LogStory:
    """Return the log's story after one more line."""
    event = line.event
    fields = event.model_dump(mode="json")
    entry = Entry(line.sequence, line.time, event.kind, said(fields))
    log = replace(log, entries=(*log.entries, entry)[-MOST_LINES:])
    match event:
        case Refused():
            log = _refused(log, Refusal(line.time, "", event.what, event.told))
        case WasRefused():
            last = {**log.last_refusals, event.institution: event.told}
            refusal = Refusal(line.time, event.institution, event.what, event.told)
            log = _refused(replace(log, last_refusals=last), refusal)
        case WasRefusedAgain():
            log = replace(log, refused=log.refused + event.times)
        case Admitted():
            log = replace(log, revoked=log.revoked - {event.institution})
        case Revoked():
            log = replace(log, revoked=log.revoked | {event.institution})
        case RunBegan() | Arrived() | Asked() | RunEnded():
            log = _with(log, event.run, _trips(log.runs.get(event.run, Trips()), event))
    return log


def _trips(trips: Trips, event: RunBegan | Arrived | Asked | RunEnded) -> Trips:
    match event:
        case RunBegan():
            return Trips()
        case Arrived():
            return replace(trips, arrived=trips.arrived | {event.institution})
        case Asked():
            return replace(trips, cohort=frozenset(event.cohort), round=event.round)
        case RunEnded():
            return replace(trips, outcome=event.outcome, error=event.error)


def said(fields: Mapping[str, Any]) -> str:
    """Return an event's fields on one line: hashes by their beginning, many names by number."""
    parts = [f"{name} {short}" for name, value in fields.items() if (short := _short(value))]
    text = ", ".join(parts)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _short(value: object) -> str:
    match value:
        case str() if _HEXADECIMAL.fullmatch(value):
            return value[:12]
        case list() | dict():
            names = [*map(str, value)]
            # Keys say nothing here, nor do fifty names.
            few = len(names) <= 5 and not any(map(_HEXADECIMAL.fullmatch, names))
            return " ".join(names) if few else str(len(names))
        case None:
            return ""
        case _:
            return str(value)


def _refused(log: LogStory, refusal: Refusal) -> LogStory:
    kept = (*log.refusals, refusal)[-MOST_REFUSALS:]
    return replace(log, refusals=kept, refused=log.refused + 1)


def _with(log: LogStory, run: str, trips: Trips) -> LogStory:
    others = [(name, one) for name, one in log.runs.items() if name != run]
    return replace(log, runs=dict([*others, (run, trips)][-MOST_RUNS:]))
