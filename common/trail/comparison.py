"""Whether the two sides of a run tell the same: the server's log beside an institution's.

Each line speaks for its own side, so a difference shows that one of the logs is wrong, not which.
A head that its owner signed proves more: the owner's log did hold that line.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from common.errors import ProtocolError
from common.reasons import known_reason
from common.trail.events import (
    Approved,
    Arrived,
    Asked,
    Contributed,
    Event,
    Joined,
    ModelWritten,
    Objected,
    Opened,
    Published,
    Refused,
    RefusedAgain,
    ReleaseFinal,
    ReleaseOffered,
    ReleaseReceived,
    RoundOver,
    RunBegan,
    SignedOff,
    VerdictTaken,
    WasRefused,
    WasRefusedAgain,
)
from common.trail.examination import Examined
from common.trail.lines import Head
from common.trail.refusals import MalformedLineError, TrailError

E = TypeVar("E", bound=Event)
Attempt = tuple[str, int, int]
"""Run, round and epoch."""


@dataclass(frozen=True)
class _Side:
    """One log, its events by kind in order."""

    log: Examined

    def of(self, kind: type[E], run: str = "") -> list[E]:
        """Return the events of a kind, of one run if it is named."""
        events = (line.event for line in self.log.lines)
        return [
            event
            for event in events
            if isinstance(event, kind) and run in ("", getattr(event, "run", run))
        ]

    @property
    def name(self) -> str:
        """Whose log it is."""
        if self.log.author is None:
            raise TrailError("a log without its first line cannot be compared")
        return self.log.author.name


def differences(server: Examined, institution: Examined, run: str = "") -> Iterator[str]:
    """Yield each point in which an institution's log contradicts the server's.

    ``run`` keeps to one run; "" takes all that the server's log knows, and what precedes runs.

    Raises:
        TrailError: the two are not a server's and an institution's logs.
    """
    there, here = _Side(server), _Side(institution)
    roles = [side.log.author.role for side in (there, here) if side.log.author is not None]
    if roles != ["server", "institution"]:
        raise TrailError("give the server's log first, then institutions' logs")
    runs = {event.run for event in there.of(RunBegan)}
    if run and run not in runs:
        raise TrailError(f"run {run!r} is not in the server's log; known: {_listed(runs)}")
    if not run:
        for other in sorted({event.run for event in here.of(Contributed)} - runs):
            yield f"{here.name} contributed to run {other!r}, which the server's log does not know"
        yield from _charters(there, here)
        yield from _refusals(there, here)
    for one in [run] if run else sorted(runs):
        yield from _rounds(there, here, one)
        yield from _continuity(there, one)
        yield from _verdicts(there, here, one)
    yield from _releases(there, here, run)
    yield from _heads(there, here, run)


def _charters(there: _Side, here: _Side) -> Iterator[str]:
    published = {event.charter: event for event in there.of(Published)}
    for event in here.of(Approved):
        known = published.get(event.charter)
        if known is None:
            yield (
                f"{here.name} approved charter {event.charter[:16]}, which the server's log does"
                " not know"
            )
        elif (event.plan, event.roster) != (known.plan, known.roster):
            yield f"charter {event.charter[:16]}: plan or roster differ between the logs"


def _refusals(there: _Side, here: _Side) -> Iterator[str]:
    # Folded, reasons that one side does not know are one; the other may be of another release.
    told = Counter((event.what, known_reason(event.told)) for event in here.of(Refused))
    for event in here.of(RefusedAgain):
        told[event.what, known_reason(event.told)] += event.times
    heard = Counter(
        (event.what, known_reason(event.told))
        for event in there.of(WasRefused)
        if event.institution == here.name
    )
    for again in there.of(WasRefusedAgain):
        if again.institution == here.name:
            heard[again.what, known_reason(again.told)] += again.times
    for (what, reason), times in sorted((heard - told).items()):
        yield (
            f"the server heard {here.name} refuse {what!r} for {reason!r} {times} times more than"
            " its log says"
        )


def _rounds(there: _Side, here: _Side, run: str) -> Iterator[str]:
    asked = {_attempt(event): event for event in there.of(Asked, run)}
    gave = {_attempt(event): event for event in here.of(Contributed, run)}
    over = {_attempt(event): event for event in there.of(RoundOver, run)}
    arrived = any(event.institution == here.name for event in there.of(Arrived, run))
    joined = bool(here.of(Joined, run))
    if arrived and not joined:
        yield f"run {run!r}: the server says that {here.name} joined, its log does not"
    for attempt, contribution in sorted(gave.items()):
        request = asked.get(attempt)
        if request is None or here.name not in request.cohort:
            yield f"{_where(attempt)}: {here.name} contributed, and the server did not ask it to"
            continue
        for what in ("plan", "descriptor", "model", "mask"):
            if getattr(request, what) != getattr(contribution, what):
                yield (
                    f"{_where(attempt)}: the server sent {what} {getattr(request, what)[:16]},"
                    f" {here.name} received {getattr(contribution, what)[:16]}"
                )
    for attempt, outcome in sorted(over.items()):
        if here.name in outcome.survivors and attempt not in gave:
            yield (
                f"{_where(attempt)}: the server counts {here.name} among the survivors, whose log"
                " has no contribution"
            )
    for event in here.of(Opened, run):
        ended = over.get(_attempt(event))
        # A lost round has no survivors: what was opened did not suffice.
        if ended is not None and ended.survivors and ended.survivors != event.survivors:
            yield (
                f"{_where(_attempt(event))}: {here.name} opened a sum over"
                f" {_listed(event.survivors)}, the server says {_listed(ended.survivors)}"
            )


def _continuity(there: _Side, run: str) -> Iterator[str]:
    """Hold the server to itself: what a round ended with, the next one sends."""
    last: RoundOver | None = None
    for line in there.log.lines:
        match line.event:
            case RunBegan() as event if event.run == run:
                last = None  # It goes on from its checkpoint, whatever was noted before.
            case RoundOver() as event if event.run == run:
                last = event
            case Asked() as event if event.run == run and last is not None:
                if (event.model, event.mask) != (last.model, last.mask):
                    yield (
                        f"{_where(_attempt(event))}: the server sent another model or mask than"
                        f" round {last.round} ended with"
                    )
                last = None


def _releases(there: _Side, here: _Side, run: str) -> Iterator[str]:
    """Hold what came as a release to what was offered, and that to the model that was written."""
    written: dict[str, ModelWritten] = {}
    offered: dict[tuple[str, str], ReleaseOffered] = {}
    for line in there.log.lines:
        match line.event:
            case ModelWritten() as event:
                written[event.run] = event
            case ReleaseOffered() as event if run in ("", event.run):
                offered[event.run, event.release] = event
                # What a guard went back to is written as it is.
                last = written.get(event.run)
                if last is None or (event.model, event.mask) != (last.model, last.mask):
                    said = "the server offered another model or mask than it wrote"
                    yield f"{_release(event)}: {said}"
    for came in here.of(ReleaseReceived, run):
        offer = offered.get((came.run, came.release))
        if offer is None:
            yield f"{_release(came)}: {here.name} received it, and the server did not offer it"
            continue
        for what in ("plan", "model", "mask"):
            if getattr(offer, what) != getattr(came, what):
                yield (
                    f"{_release(came)}: the server offered {what} {getattr(offer, what)[:16]},"
                    f" {here.name} received {getattr(came, what)[:16]}"
                )
    signed = {(event.run, event.release) for event in here.of(SignedOff, run)}
    for side in (there, here):
        for final in side.of(ReleaseFinal, run):
            if here.name in final.signed and (final.run, final.release) not in signed:
                yield (
                    f"{_release(final)}: final by {side.name}'s log with the sign-off of"
                    f" {here.name}, whose log has none"
                )


def _verdicts(there: _Side, here: _Side, run: str) -> Iterator[str]:
    """Hold what the server says it was told of a release to what this institution signed."""
    said = {(one.release, "sign-off") for one in here.of(SignedOff, run)}
    said |= {(one.release, "objection") for one in here.of(Objected, run)}
    for event in there.of(VerdictTaken, run):
        if event.institution == here.name and (event.release, event.word) not in said:
            yield (
                f"{here.name}'s log does not say that it said {event.word!r} of release"
                f" {event.release[:16]}, which the server took"
            )


def _heads(there: _Side, here: _Side, run: str) -> Iterator[str]:
    """Look for each side's heads, as the other noted them, in its own log."""
    noted = [(event.institution, event.head, "when it joined") for event in there.of(Arrived, run)]
    noted += [
        (name, head, f"with its vector of round {event.round}")
        for event in there.of(RoundOver, run)
        for name, head in event.heads.items()
    ]
    for name, head, when in noted:
        if name == here.name and head:
            yield from _sought(here, head, f"the server noted {when}")
    for joined in here.of(Joined, run):
        yield from _sought(there, joined.head, f"{here.name} noted when it joined {joined.run!r}")
    for gave in here.of(Contributed, run):
        yield from _sought(there, gave.head, f"{here.name} noted in {_where(_attempt(gave))}")


def _sought(owner: _Side, text: str, noted: str) -> Iterator[str]:
    if not text or owner.log.author is None:
        return
    try:
        head = Head.from_bytes(bytes.fromhex(text))
        head.require_signed(owner.log.author, owner.log.key)
    except (MalformedLineError, ProtocolError):
        yield f"a head of {owner.name}'s log that {noted} is not signed by that log's key"
        return
    if head.hash not in owner.log.hashes:
        yield (
            f"{owner.name}'s log lacks its own line {head.sequence}, whose signed head {noted}:"
            " it was cut or begun anew since"
        )


def _attempt(event: Asked | Contributed | RoundOver | Opened) -> Attempt:
    return event.run, event.round, event.epoch


def _where(attempt: Attempt) -> str:
    run, round_number, epoch = attempt
    return f"run {run[:12]!r}, round {round_number}, epoch {epoch}"


def _release(event: ReleaseOffered | ReleaseReceived | ReleaseFinal) -> str:
    return f"run {event.run[:12]!r}, release {event.release[:16]}"


def _listed(names: "set[str] | tuple[str, ...]") -> str:
    return ", ".join(sorted(names)) or "none"
