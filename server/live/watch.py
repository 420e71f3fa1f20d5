"""Runs on the disk: which there are, and each as its files are now."""

import csv
import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, final

from common.errors import ConfigError
from common.plan import Plan, load_plan
from common.trail.examination import CURRENT
from common.trail.file import FOLDER
from common.trail.lines import parsed
from common.trail.refusals import MalformedLineError
from server.journal import JOURNAL
from server.live.link import Link, processes
from server.live.log import LogStory, told
from server.live.story import (
    Noted,
    Point,
    Story,
    counted_apart,
    noted,
    summed_up,
    tabled,
)
from server.live.tail import Tail
from server.live.view import Pages, Server, viewed

PLAN, SUMMARY, ROUNDS, GROUPS = "plan.toml", "summary.json", "rounds.csv", "groups.csv"
SIMULATED: Final = ".lock"
"""What a simulation's directory has and no other."""

TICK_SECONDS: Final = 0.4
"""A run's files are looked at this often at most, whoever asks."""

MOST_RUNS: Final = 200
"""Runs to choose from, the latest."""

MOST_WATCHED: Final = 8
"""Runs held in memory; one more, and the longest unasked-for is read anew when it is asked for."""

LOG_BYTES: Final = 512 << 10
"""Of the audit log's end, read when the page is opened first."""

SUMMARY_BYTES: Final = 4 << 20

_readings = itertools.count(1)
"""Of a run's files from their beginning: no two are taken for each other."""

T = TypeVar("T")
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Listed:
    """A run to choose: its name, the Unix time of its newest table, whether it is over."""

    name: str
    changed: int
    over: bool


@dataclass(frozen=True, slots=True)
class Look:
    """A run at one moment; ``version`` grows with each change.

    ``generation`` changes when points that were sent before no longer stand.
    """

    version: int
    generation: str
    view: dict[str, Any]
    points: tuple[Point, ...]


@final
class RunWatch:
    """Follows one run's directory."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self._folder = folder
        self._begin()

    def _begin(self) -> None:
        self._reading = next(_readings)
        self._journal = Tail(self._folder / JOURNAL)
        self._tables = {name: Tail(self._folder / name) for name in (ROUNDS, GROUPS)}
        self._heads: dict[str, list[str]] = {}
        self._story, self._unread = Story(), 0
        self._plan: Plan | None = None
        self._problem = ""
        self._stamps: dict[str, tuple[int, int]] = {}

    def pages(self) -> Pages:
        """Return what the files tell now."""
        if not self._followed():
            # The directory holds another run than before.
            self._begin()
            self._followed()
        if self._stamp(PLAN):
            self._read_plan()
        if self._stamp(SUMMARY):
            self._read_summary()
        return Pages(
            name=self._folder.name,
            story=self._story,
            plan=self._plan,
            problem=self._problem,
            simulated=(self._folder / SIMULATED).exists(),
            changed=changed_at(self._folder),
            unread=self._unread,
        )

    @property
    def generation(self) -> str:
        """What the points of the curves hang on."""
        return f"{self._reading}.{self._story.stride}"

    def _followed(self) -> bool:
        """Fold what is new; return whether the files are still of the same run."""
        fresh = self._journal.read()
        self._fold(map(Noted.model_validate_json, fresh.lines), noted)
        again = fresh.again
        for name, fold in ((ROUNDS, tabled), (GROUPS, counted_apart)):
            rows = self._tables[name].read()
            again = again or rows.again
            self._fold((self._row(name, line) for line in rows.lines), fold)
        return not again

    def _fold(self, facts: Iterable[T | None], fold: Callable[[Story, T], Story]) -> None:
        """Fold facts as they are read; a line that cannot be is counted and passed over."""
        facts = iter(facts)
        while True:
            try:
                fact = next(facts)
                if fact is not None:
                    self._story = fold(self._story, fact)
            except StopIteration:
                return
            except (ValueError, csv.Error):
                self._unread += 1

    def _row(self, name: str, line: bytes) -> dict[str, str] | None:
        cells = next(csv.reader([line.decode(errors="replace")]))
        if name not in self._heads:
            self._heads[name] = cells
            return None
        return dict(zip(self._heads[name], cells, strict=False))

    def _stamp(self, name: str) -> bool:
        """Return whether a small file has changed since the last look."""
        try:
            now = (self._folder / name).stat()
        except OSError:
            return False
        stamp = now.st_mtime_ns, now.st_size
        changed = self._stamps.get(name) != stamp
        self._stamps[name] = stamp
        return changed

    def _read_plan(self) -> None:
        try:
            self._plan, self._problem = load_plan(self._folder / PLAN), ""
        except ConfigError as error:
            self._problem = str(error)

    def _read_summary(self) -> None:
        try:
            with (self._folder / SUMMARY).open("rb") as file:
                summary = json.loads(file.read(SUMMARY_BYTES))
        except (OSError, ValueError):
            self._unread += 1
            return
        if isinstance(summary, dict):
            self._story = summed_up(self._story, summary)


@final
class ServerWatch:
    """Follows the server in whose home the runs lie: its log, processes and nodes."""

    def __init__(self, home: Path) -> None:
        """Read nothing yet."""
        self._home, self._link, self._log = home, Link(home), LogStory()
        self._tail = Tail(home / FOLDER / CURRENT, last=LOG_BYTES)

    def server(self) -> Server:
        """Return how it stands now."""
        for line in self._tail.read().lines:
            try:
                self._log = told(self._log, parsed(line))
            except MalformedLineError:
                continue  # `audit verify` names it; a page that shows the rest shows enough.
        answer = self._link.latest()
        return Server(
            audited=(self._home / FOLDER / CURRENT).exists(),
            log=self._log,
            processes=processes(self._home),
            nodes=answer.nodes,
            outcomes=answer.outcomes,
        )

    def close(self) -> None:
        """Ask nobody any more."""
        self._link.close()


@final
class Runs:
    """All runs of one place: a home with ``runs/``, a folder of runs, or one run's directory.

    Used by one thread at a time.
    """

    def __init__(self, place: Path, clock: Clock = time.monotonic, *, single: bool = False) -> None:
        """Read nothing yet; ``single`` says that ``place`` is one run, which may not have begun."""
        self._place, self._clock, self._single = place, clock, single
        self._server = ServerWatch(place)
        self._watched: OrderedDict[str, tuple[RunWatch, float, Look]] = OrderedDict()

    def listed(self) -> list[Listed]:
        """Return the runs, the one that changed last first."""
        found = [
            Listed(name, changed_at(folder), is_over(folder))
            for name, folder in self._folders().items()
        ]
        return sorted(found, key=lambda one: (-one.changed, one.name))[:MOST_RUNS]

    def look(self, name: str) -> Look | None:
        """Return a run as it is, or as it was less than a tick ago; None if there is none."""
        watch, due, before = self._watched.pop(name, (None, 0.0, None))
        if watch is None:
            folder = self._folders().get(name)
            if folder is None:
                return None
            watch = RunWatch(folder)
        now = self._clock()
        if before is None or now >= due:
            pages = watch.pages()
            before = _looked(before, watch, pages, self._server.server())
            due = now + TICK_SECONDS
        self._watched[name] = watch, due, before
        if len(self._watched) > MOST_WATCHED:
            self._watched.popitem(last=False)
        return before

    def close(self) -> None:
        """Ask nobody any more."""
        self._server.close()

    def _folders(self) -> dict[str, Path]:
        """Return the directories of runs by name; a name never becomes a path."""
        if self._single or (self._place / ROUNDS).is_file():
            return {self._place.name: self._place}
        inner = self._place / "runs"
        parent = inner if inner.is_dir() else self._place
        try:
            return {path.name: path for path in parent.iterdir() if (path / PLAN).is_file()}
        except OSError:
            return {}


def _looked(before: Look | None, watch: RunWatch, pages: Pages, server: Server) -> Look:
    """Return the next look, which is the one before if nothing has changed."""
    view, points = viewed(pages, server), pages.story.points
    generation = watch.generation
    if before is None:
        return Look(1, generation, view, points)
    same = before.view == view and before.points == points and before.generation == generation
    return before if same else Look(before.version + 1, generation, view, points)


def changed_at(folder: Path) -> int:
    """Return the Unix time at which a run last wrote a table, its journal, plan or summary."""
    times = [0]
    for name in (ROUNDS, JOURNAL, SUMMARY, PLAN):
        try:
            times.append(int((folder / name).stat().st_mtime))
        except OSError:
            continue
    return max(times)


def is_over(folder: Path) -> bool:
    """Say whether a run has ended: what is written at its end is there."""
    return (folder / SUMMARY).exists() or (folder / "model.onnx").exists()
