"""What the page shows of one run, as plain values: files, log, processes and nodes put together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from common.plan import Plan
from server.live.log import LogStory, Trips
from server.live.story import Part, Story

STAGES: Final = {
    "waiting": "has not begun",
    "began": "institutions join",
    "tried": "institutions train and send masked vectors",
    "opening": "the sum is opened",
    "kept": "the sum is in, the next round begins",
    "finished": "finished",
    "interrupted": "interrupted: finished rounds are kept",
}
"""The stage of a run in words, by the last line of its journal."""

ENDED: Final = ("finished", "interrupted", "stopped", "failed")


@dataclass(frozen=True, slots=True)
class Node:
    """An institution's connection as SuperLink knows it; ``since`` is ISO 8601."""

    status: str
    since: str


@dataclass(frozen=True, slots=True)
class Process:
    """One of the processes of `up`."""

    name: str
    well: bool
    said: str


@dataclass(frozen=True, slots=True)
class Server:
    """The server beside a run, if there is one: its log, its processes, who is connected.

    ``outcomes`` are SuperLink's words on runs that are over, by their directory's name.
    """

    audited: bool = False
    log: LogStory = field(default_factory=LogStory)
    processes: tuple[Process, ...] = ()
    nodes: Mapping[str, Node] | None = None
    outcomes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pages:
    """A run's directory: what its files tell, and its plan or why that cannot be read.

    ``changed`` is the Unix time of its newest file, ``unread`` counts lines nobody could read.
    """

    name: str
    story: Story = field(default_factory=Story)
    plan: Plan | None = None
    problem: str = ""
    simulated: bool = False
    changed: int = 0
    unread: int = 0


def viewed(pages: Pages, server: Server) -> dict[str, Any]:
    """Return all but the curves; the same files give the same value."""
    story, plan = pages.story, pages.plan
    if pages.simulated:
        # Its institutions are nobody's, whatever they are called.
        server = Server()
    trips = server.log.runs.get(story.run, Trips())
    phase, stage = _phase(pages, server, trips)
    return {
        "name": pages.name,
        "problem": pages.problem,
        "simulated": pages.simulated,
        "changed": pages.changed,
        "unread": pages.unread,
        "plan": plan and _plan(plan),
        "phase": phase,
        "stage": stage,
        "round": story.round if story.over or story.stage != "waiting" else None,
        "epoch": story.epoch,
        "done": _done(story, plan),
        "rounds": plan.training.rounds if plan else None,
        "latest": dict(story.latest),
        "evaluated": dict(story.evaluated),
        "test": dict(story.test),
        "groups": [asdict(group) for group in story.groups.values()],
        "counted": story.over,
        "institutions": _institutions(pages, server, trips, going=phase not in ENDED),
        "audited": server.audited,
        "audit": [asdict(entry) for entry in reversed(server.log.entries)],
        "refusals": [asdict(refusal) for refusal in reversed(server.log.refusals)],
        "refused": server.log.refused,
        "processes": [asdict(process) for process in server.processes],
        "connected": None if server.nodes is None else _online(server.nodes),
    }


def _done(story: Story, plan: Plan | None) -> int:
    """Return how many training rounds are over; the last row is of the final evaluation."""
    done = max(story.over, story.rows)
    return done if plan is None else min(done, plan.training.rounds)


def _phase(pages: Pages, server: Server, trips: Trips) -> tuple[str, str]:
    """Return the run's phase, which rarely changes, and its stage in words, which often does."""
    story = pages.story
    if story.stage in ENDED:
        return story.stage, STAGES[story.stage]
    outcome = server.outcomes.get(pages.name) or trips.outcome
    if outcome in ENDED:
        return outcome, f"{outcome}: {trips.error}" if trips.error else outcome
    last = story.round if story.over else int(story.latest.get("round") or 0)
    if story.stage in ("waiting", "kept") and pages.plan and last >= pages.plan.training.rounds:
        return "rounds", "all rounds are over, results are being written"
    if story.stage == "waiting" and story.rows:
        return "rounds", "rounds go on"
    if story.stage in ("waiting", "began"):
        return story.stage, STAGES[story.stage]
    return "rounds", STAGES[story.stage]


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "digest": plan.digest(),
        "epsilon": plan.privacy.epsilon,
        "delta": plan.privacy.delta,
        "unit": plan.privacy.unit,
        "noise": plan.privacy.noise,
        "aggregation": plan.aggregation.kind,
        "threshold": plan.threshold,
        "institutions": len(plan.institutions),
        "sparsity": plan.pruning.sparsity,
        "score": plan.pruning.score,
        "model": plan.model.kind,
    }


def _institutions(
    pages: Pages, server: Server, trips: Trips, *, going: bool
) -> Sequence[dict[str, Any]]:
    """Return a row an institution of the plan, in the order of their names."""
    if pages.plan is None:
        return []
    nodes = server.nodes or {}
    rows = []
    for institution in sorted(pages.plan.institutions, key=lambda one: one.name):
        name = institution.name
        part = pages.story.parts.get(name, Part())
        state, words = _state(name, part, pages.story, server.log, trips, going=going)
        node = nodes.get(name)
        rows.append(
            {
                "name": name,
                "size": institution.size,
                "state": state,
                "words": words,
                "rounds": part.rounds,
                "connection": node.status if node else "",
                "since": node.since if node else "",
                "refusal": server.log.last_refusals.get(name, ""),
            }
        )
    return rows


def _state(  # noqa: PLR0913
    name: str, part: Part, story: Story, log: LogStory, trips: Trips, *, going: bool
) -> tuple[str, str]:
    """Return an institution's state, for its mark, and in words."""
    if name in log.revoked:
        return "out", "revoked"
    asked = name in trips.cohort and trips.round == story.round
    over = story.round if story.stage in ("kept", *ENDED) else story.round - 1
    if story.over and part.last < over:
        return "missing", "in no sum yet" if part.last < 0 else f"last in round {part.last}"
    if going and asked and story.stage in ("tried", "opening"):
        return "working", f"in round {story.round}"
    if part.last >= 0:
        return "well", f"in the sum of round {part.last}"
    if name in trips.arrived:
        return "well", "arrived"
    return "unknown", "nothing known" if story.rows else "not seen yet"


def _online(nodes: Mapping[str, Node]) -> int:
    return sum(node.status == "online" for node in nodes.values())
