"""The server that runs beside: its processes, and who is connected, asked of SuperLink."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, final

from common.errors import FedpruneError
from common.processes import STANDINGS, Standing, read_standings
from server.live.view import Node, Process

log = logging.getLogger("fedprune.live")

ASK_SECONDS: Final = 2.0
"""Between two questions to SuperLink."""

HIDDEN: Final = frozenset({"completed", ""})


class Answer(NamedTuple):
    """Nodes by institution and how runs ended by name; None while SuperLink does not answer."""

    nodes: dict[str, Node] | None
    outcomes: dict[str, str]


NOBODY: Final = Answer(None, {})


@final
class Link:
    """Asks SuperLink in a thread of its own, so that a slow answer holds up nothing."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Ask nobody yet: without a server's folder nobody ever."""
        self._home, self._clock = home, clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="superlink")
        self._asked: Future[Answer] | None = None
        self._due, self._latest = 0.0, NOBODY

    def latest(self) -> Answer:
        """Return the latest answer, at once; ask anew if it is time."""
        if self._asked is not None and self._asked.done():
            self._latest, self._asked = self._asked.result(), None
        if self._asked is None and self._clock() >= self._due:
            self._due = self._clock() + ASK_SECONDS
            if (self._home / "state" / "desk.json").is_file():
                self._asked = self._thread.submit(ask, self._home)
            else:
                self._latest = NOBODY
        return self._latest

    def close(self) -> None:
        """Ask no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def ask(home: Path) -> Answer:
    """Ask the SuperLink of ``home``; nobody is known while it does not answer."""
    # Not by the lock of `up`, which would keep one from starting just then.
    if not any(one.well for one in processes(home)):
        return NOBODY
    # Flower takes a second and 40 MiB, which a page about files can do without.
    from server import control  # noqa: PLC0415
    from server.desk import find_desk  # noqa: PLC0415

    try:
        with control.at(find_desk(home)) as superlink:
            nodes, runs = control.nodes(superlink), control.runs(superlink)
    except FedpruneError as error:
        log.info("%s", error)
        return NOBODY
    return Answer(
        {
            node.name: Node(
                node.status,
                node.last_activated_at if node.status == control.ONLINE else node.registered_at,
            )
            for node in nodes
        },
        {run.name: run.outcome for run in runs if run.finished and run.outcome not in HIDDEN},
    )


def processes(home: Path) -> tuple[Process, ...]:
    """Return how the processes of `up` stand by its own note; none where it never ran."""
    if not (home / "state" / STANDINGS).is_file():
        return ()
    return tuple(
        Process(name, one.runs, _told(one))
        for name, one in sorted(read_standings(home / "state").items())
    )


def _told(one: Standing) -> str:
    if one.runs:
        return "runs"
    often = f"; ended early {one.failures} times in a row" if one.failures else ""
    return f"does not run{often}"
