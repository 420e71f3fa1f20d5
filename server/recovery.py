"""Which runs go on after their process died: by themselves while they get further, else by hand.

A run is a directory. Each time it is begun or resumed, SuperLink counts another run of its name,
here a try; the record in the directory says how far the tries before it came. A try that ended by
a named reason, as one that its operator stopped, waits for `fedprune-server resume`.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from flwr.supercore.control.control_http_client import ControlHttpClient

from server.control import COMPLETED, FAILED, RUNNING, RunState, runs, start_run, stop_run
from server.desk import RUN_NAME
from server.record import CHECKPOINT, is_finished

log = logging.getLogger("fedprune.server")

TRIES = 3
"""So often a run goes on by itself without finishing a round; then it waits for its operators."""

INTERRUPTED = "interrupted: "
"""How the executor's own words begin for an end that no rule of the federation asked for."""

NO_HEARTBEAT = "No heartbeat received from the task"
"""Flower's words for a process that died with nothing to say."""


class Standing(Enum):
    """Where a run stands: at work, over, about to go on, or waiting for `resume`."""

    GOING = "going"
    COMPLETED = "completed"
    AGAIN = "again"
    WAITING = "waiting"


def standing_of(tries: Sequence[RunState], folder: Path) -> Standing:
    """Return where the run in ``folder`` stands, from its tries, oldest first."""
    last = tries[-1]
    # The record knows before SuperLink: a death may come between.
    if last.outcome == COMPLETED or is_finished(folder):
        return Standing.COMPLETED
    if not last.finished:
        return Standing.GOING
    died = last.details.startswith((INTERRUPTED, NO_HEARTBEAT))
    if last.outcome == FAILED and died and fruitless(tries, folder) < TRIES:
        return Standing.AGAIN
    return Standing.WAITING


def fruitless(tries: Sequence[RunState], folder: Path) -> int:
    """Return how many tries began since the run in ``folder`` last got further."""
    path = folder / CHECKPOINT
    if not path.exists():
        return len(tries)
    saved = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return sum(datetime.fromisoformat(one.began) > saved for one in tries)


def tries_of(listed: Sequence[RunState]) -> dict[str, list[RunState]]:
    """Return the tries of each run, oldest first, the run begun first being the first."""
    named: dict[str, list[RunState]] = {}
    for one in listed:
        named.setdefault(one.name, []).append(one)
    return named


def resume_interrupted(control: ControlHttpClient, folder: Path) -> None:
    """Have the runs below ``folder`` go on that died with a process like the one that asks.

    It asks before it takes on anything, so that whatever is said to be running is not.
    """
    for name, tries in tries_of(runs(control)).items():
        last, home = tries[-1], folder / name
        dead = last.status == RUNNING
        ours = RUN_NAME.fullmatch(name) and (home / "plan.toml").is_file()
        standing = standing_of(tries, home) if ours else Standing.WAITING
        if standing is Standing.GOING and dead and fruitless(tries, home) < TRIES:
            standing = Standing.AGAIN
        if standing is Standing.AGAIN and tries_of(runs(control))[name][-1] == last:
            # The next try first: stopped and not begun again would look like an operator's wish.
            start_run(control, name)
            log.warning("run %s was interrupted and goes on", name)
        elif standing is Standing.GOING and dead:
            log.error("run %s went on %d times and finished no round: it waits", name, TRIES)
        if dead:
            stop_run(control, last.number)
