"""A long run watched: memory, handles and files by round, of every process, and their slopes.

In process the whole federation is one process, with the durable parts that a deployment has: run
record, ledgers in SQLite, audit logs. On Flower's engine each process stands for itself.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from statistics import median

from flwr.app import Context, RecordDict
from scipy.stats import theilslopes

from client.app import build_app as build_client
from client.ledger import Ledger
from client.ledger_file import SqliteStore
from client.trail import institution_trail
from common.entropy import SeededEntropy
from common.plan import Plan
from common.processes import read_standings
from server.app import Task
from server.app import build_app as build_server
from server.model import GlobalModel
from server.record import RunRecord
from server.rounds import RoundReport
from server.store import stored_adverts
from server.tables import ROUNDS
from server.trail import server_trail
from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from tests.deployment.federation import (
    CLIENT,
    SERVER,
    await_health,
    found,
    make_plan,
    tails,
    up,
)
from tests.deployment.loopback import operate
from tests.support import SIZES, roster_of, small_institution, small_plan

PAGE = os.sysconf("SC_PAGE_SIZE")
MEBI = float(1 << 20)

WARM_UP = 0.3
"""Of a run's rounds: until then caches fill, allocators settle and the model shrinks.

Flower keeps what its processes were signed by for 305 s: a run that is done sooner shows a slope.
"""

BAR = 1.0
"""MiB of resident memory that a process may gain in 100 rounds after that."""

LOOK_SECONDS = 0.5
STALLED_SECONDS = 120.0
"""Without another round on Flower's engine; then the soak fails."""

OWN = "federation"
"""The one process of a soak in process."""

RUN = "soak"


@dataclass(frozen=True)
class Sample:
    """What a process held after so many rounds: resident bytes, open handles."""

    round: int
    resident: int
    handles: int


@dataclass(frozen=True)
class Slope:
    """What 100 rounds add after the warm-up, beside what there was at the end."""

    memory_mib: float
    handles: float
    resident_mib: float
    handles_open: int


@dataclass
class Soak:
    """Samples by process, bytes by kind of file and seconds by round, of one run.

    In process the seconds are the processor's, which others on the machine do not change much.
    """

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    files: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def look(self, done: int, processes: Iterable[tuple[str, int]], folder: Path) -> None:
        """Take a sample of each (name, process id), and of the files below ``folder``."""
        for name, number in processes:
            with suppress(FileNotFoundError, ProcessLookupError):
                self.samples.setdefault(name, []).append(sample(done, number))
        for kind, size in sizes(folder).items():
            self.files.setdefault(kind, []).append((done, size))

    @property
    def rounds(self) -> int:
        """How many were watched: a soak may end early."""
        return len(self.seconds)

    @property
    def slopes(self) -> dict[str, Slope]:
        """The slope of each process that was seen often enough after the warm-up."""
        return {
            name: slope_of(settled)
            for name, seen in sorted(self.samples.items())
            if len(settled := self._settled(seen)) > 2
        }

    @property
    def growth(self) -> dict[str, float]:
        """Bytes that 100 rounds add to each kind of file after the warm-up."""
        since = WARM_UP * self.rounds
        settled = {
            kind: [one for one in seen if one[0] >= since] for kind, seen in self.files.items()
        }
        return {kind: steepness(seen) for kind, seen in sorted(settled.items()) if len(seen) > 2}

    @property
    def slowing(self) -> float:
        """Median seconds of the last tenth of the rounds, over those of the second tenth."""
        tenth = max(1, len(self.seconds) // 10)
        return median(self.seconds[-tenth:]) / median(self.seconds[tenth : 2 * tenth])

    def _settled(self, seen: list[Sample]) -> list[Sample]:
        return [one for one in seen if one.round >= WARM_UP * self.rounds]


def sample(done: int, number: int) -> Sample:
    """Look at a process by its id; raise `ProcessLookupError` when it is gone."""
    process = Path("/proc") / str(number)
    resident = int((process / "statm").read_text().split()[1]) * PAGE
    if not resident:
        raise ProcessLookupError(number)  # A zombie holds nothing.
    return Sample(done, resident, len(os.listdir(process / "fd")))


def slope_of(seen: list[Sample]) -> Slope:
    """Return the slope through samples."""
    memory = steepness([(one.round, one.resident) for one in seen])
    handles = steepness([(one.round, one.handles) for one in seen])
    return Slope(memory / MEBI, handles, seen[-1].resident / MEBI, seen[-1].handles)


def steepness(seen: list[tuple[int, int]]) -> float:
    """Return what 100 rounds add by the median of all pairs' slopes (Theil 1950, Sen 1968).

    An allocator's single step, up or down, moves it little; a leak moves every pair.
    """
    rounds, values = zip(*seen, strict=True)
    return 100 * float(theilslopes(values, rounds).slope)


def sizes(folder: Path) -> dict[str, int]:
    """Return bytes below ``folder`` by kind of file: its name, summed over institutions."""
    found: dict[str, int] = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and (size := path.stat().st_size):
                side = "server" if "server" in path.relative_to(folder).parts else "institution"
                audit = "audit/" if path.parent.name == "audit" else ""
                key = f"{side}: {audit}{path.name}"
                found[key] = found.get(key, 0) + size
    return found


def soak_plan(rounds: int) -> Plan:
    """Return a plan whose institutions take milliseconds a round."""
    return small_plan(
        institutions=[{"name": name, "size": size} for name, size in list(SIZES.items())[:3]],
        training={"rounds": rounds, "steps": 1, "sample_rate": 0.05},
        evaluation={"rounds": 3, "bins": 10, "noise": "none"},
    )


class EnoughError(Exception):
    """The time that a soak was given is over."""


def in_process(
    folder: Path,
    rounds: int,
    limit: float = inf,
    every: int = 10,
    leak: Callable[[], object] = lambda: None,
) -> Soak:
    """Run a federation in this process, which must be this soak's alone, for ``limit`` seconds.

    ``leak`` is called after each round.
    """
    soak, plan, began = Soak(), soak_plan(rounds), time.monotonic()
    homes = {name: folder / name for name in plan.names}
    server, roster = folder / "server", roster_of(plan)
    for home in (server, *homes.values()):
        home.mkdir(parents=True)
    (server / "server.toml").touch()
    members = {
        node: replace(
            small_institution(plan, name),
            ledger=Ledger(SqliteStore(home / "ledger.sqlite"), "loans"),
            trail=institution_trail(home, name),
        )
        for node, (name, home) in enumerate(homes.items(), start=SERVER_NODE + 1)
    }
    trail = server_trail(server)
    record = RunRecord(server / "runs" / RUN, plan, roster, trail)
    clock = [time.process_time()]

    def keep(model: GlobalModel, report: RoundReport) -> None:
        record.keep(model, report)
        leak()
        soak.seconds.append(time.process_time() - clock[0])
        if report.round % every == 0:
            soak.look(report.round, [(OWN, os.getpid())], folder)
        if time.monotonic() > began + limit:
            raise EnoughError
        clock[0] = time.process_time()

    adverts = stored_adverts(server / "state", plan.digest())
    task = Task(plan, keep, roster, adverts, record=record, trail=trail)
    grid = InProcessGrid(build_client(lambda context: members[context.node_id]), members)
    app = build_server(lambda _: task, SeededEntropy(0))
    with suppress(EnoughError):
        app(grid, Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {}))
    return soak


def on_flower(folder: Path, rounds: int, limit: float = inf, every: int = 2) -> Soak:
    """Run a federation as `fedprune-server up` and three times `fedprune-client up` do.

    The run is stopped after ``limit`` seconds.
    """
    soak, began = Soak(), time.monotonic()
    federation = found(folder, make_plan(rounds=rounds))
    names = ("server", *federation.plan.names)
    homes = {name: folder / name for name in names}
    clients = [(CLIENT, homes[name]) for name in federation.plan.names]
    with up((SERVER, homes["server"])) as first:
        await_health(federation)
        with up(*clients) as rest:
            started = operate(homes["server"], "start", "--run", RUN)
            assert started.returncode == 0, started.stderr
            parents = dict(zip(names, [one.pid for one in (*first, *rest)], strict=True))
            table, looked, last = homes["server"] / "runs" / RUN / ROUNDS, 0, time.monotonic()
            while looked < rounds and time.monotonic() < began + limit:
                time.sleep(LOOK_SECONDS)
                done = rounds_over(table)
                assert time.monotonic() - last < STALLED_SECONDS, tails(homes["server"])
                if done >= min(looked + every, rounds):
                    looked, last = done, time.monotonic()
                    soak.look(done, processes(homes, parents), folder)
            soak.seconds = seconds_of(table)
    return soak


def processes(homes: dict[str, Path], parents: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yield name and id of every process of a federation that runs."""
    for name, home in homes.items():
        yield f"{name} up", parents[name]
        for child, standing in read_standings(home / "state").items():
            if standing.process is not None and standing.runs:
                yield f"{name} {child}", standing.process


def rounds_over(table: Path) -> int:
    """Return the rounds that stand in ``rounds.csv``."""
    return table.read_bytes().count(b"\n") - 1 if table.exists() else 0


def seconds_of(table: Path) -> list[float]:
    """Return the seconds of each round that stands in ``rounds.csv``."""
    header, *rows = table.read_text().splitlines()
    place = header.split(",").index("seconds")
    return [float(row.split(",")[place]) for row in rows]
