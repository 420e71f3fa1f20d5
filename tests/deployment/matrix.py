"""Kill -9 of one process of a real federation at one moment of a run, and what must hold after.

Moments are seen from outside, in what the processes write before they go on: lines of the run's
journal and of the first institution's ledger. What was there last when the process was dead is
told, since a process may get on while it is being shot. Five institutions hold different rows and
count them exactly, by age, so that the numbers of a round say whose vectors are in its sum.
"""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import tomli_w

from client.config import load_config, load_institution, open_ledger
from common.errors import FedpruneError
from common.groups import groups_of
from common.plan import Plan, plan_from_dict
from server import control
from server.desk import find_desk
from server.recovery import Standing, standing_of, tries_of
from tests.commands import Outcome, invoke
from tests.deployment.federation import (
    Federation,
    await_health,
    found,
    make_plan,
    start_up,
    stop,
    tails,
    up,
)

NAMES = tuple(f"bank-{number:02d}" for number in range(5))
VICTIM = NAMES[0]
ROUNDS = 2
THRESHOLD = 4
BY = "age_band"

PROCESSES = {
    "SuperLink": ("server", "flower-superlink"),
    "ServerApp": ("server", "server.executor"),
    "SuperNode": (VICTIM, "client.supernode"),
    "executor": (VICTIM, "client.executor"),
}
"""Whose directory names a process, and what its command line holds."""

MOMENTS = {
    "join": ("journal", "began", None),
    "advertise": ("ledger", "epoch", 0),
    "request": ("journal", "tried", 1),
    "charge": ("ledger", "charged", 1),
    "train": ("ledger", "stored", 1),
    "mask": ("ledger", "masked", 1),
    "opening": ("journal", "opening", 1),
    "unmask": ("ledger", "opened", 1),
    "checkpoint": ("journal", "kept", 1),
    "evaluation": ("ledger", "charged", ROUNDS),
}
"""What is written when a moment has come: where, which kind of line, of which round."""

CASES = tuple(product(PROCESSES, MOMENTS))
RUN_SECONDS = 240.0

CALM_SECONDS = 0.5
"""Between looks that take a connection to SuperLink, which has the run itself to carry."""


class HangError(AssertionError):
    """A run neither ended nor said what it waits for."""


class WrongSumsError(AssertionError):
    """What a run kept is not what its survivors sent."""


class BrokenLedgerError(AssertionError):
    """An institution's ledger does not verify."""


def matrix_plan(timeout: float) -> Plan:
    """Return a small plan without noise whose every round but the first counts all rows."""
    fields = make_plan(rounds=ROUNDS).to_dict()
    return plan_from_dict(
        fields
        | {
            "institutions": [{"name": name, "size": 400} for name in NAMES],
            "privacy": {"epsilon": "none"},
            "aggregation": {"kind": "secure", "timeout": timeout},
            "evaluation": {"rounds": ROUNDS, "noise": "none", "groups": [BY]},
        }
    )


@dataclass(frozen=True)
class Ended:
    """How a case ended: the last lines before the kill, a named stop if any, lost rounds.

    ``exact`` is whether the process died before anybody wrote another line; ``least`` is the
    fewest survivors of a round that was not lost.
    """

    landed: str
    exact: bool
    stopped: str
    lost: tuple[int, ...]
    least: int
    seconds: float


@dataclass
class Matrix:
    """A federation that is up, for one case after the other."""

    federation: Federation
    server: "list[subprocess.Popen[bytes]]"
    counts: dict[str, Counter[tuple[str, str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Count every institution's rows, as it is to count them itself."""
        for name in NAMES:
            self.counts[name] = _counted(self.federation.institution(name), self.federation.plan)

    def play(self, run: str, *kills: tuple[str, str]) -> Ended:
        """Kill processes, each at a moment of one run, in their order; return how it ended."""
        started, landed, exact = time.monotonic(), [], True
        self.await_all()
        before = self._ledger()[-1][0] if self._ledger() else 0
        self.operate("start", "--run", run)
        for process, moment in kills:
            os.kill(self.await_moment(run, process, moment, before), signal.SIGKILL)
            landed.append(self._landed(run, before))
            assert not landed[-1].startswith("finished"), f"{run}: the moment was missed"
            exact &= _told(*MOMENTS[moment][1:]) in landed[-1].split(" | ")
        stopped = self.finish(run)
        lost, least = self.verify(run)
        return Ended("; ".join(landed), exact, stopped, lost, least, time.monotonic() - started)

    def await_moment(self, run: str, process: str, moment: str, before: int = 0) -> int:
        """Return the number of the process that is to die, once it has come that far."""
        where, kind, number = MOMENTS[moment]
        deadline, victim = time.monotonic() + RUN_SECONDS, 0
        while time.monotonic() < deadline:
            if not (begun := self._journal(run)) or not victim:
                # An executor performs one run: that of the run before may still be leaving.
                victim = next(iter(self.processes(process)), 0)
            if not begun:
                time.sleep(CALM_SECONDS / 10)
                continue
            lines = self._journal(run) if where == "journal" else self._since(before)
            if victim and (kind, number) in lines:
                return victim
            time.sleep(0.002)
        raise AssertionError(f"{run}: {moment} never came\n{self.tails()}")

    def finish(self, run: str) -> str:
        """Wait for the end of a run, resuming it where it waits; return what it waited for."""
        stopped, deadline = "", time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            tries = self.tries(run)
            match tries and standing_of(tries, self.out(run)):
                case Standing.COMPLETED:
                    return stopped
                case Standing.WAITING:
                    assert not stopped, f"{run} waits again: {tries[-1]}"
                    assert tries[-1].details, f"{run} waits for no named reason: {tries[-1]}"
                    assert f"fedprune-server resume {run}" in self.operate("status").out
                    stopped = tries[-1].details
                    self.await_all()
                    self.operate("resume", run)
            time.sleep(CALM_SECONDS)
        raise HangError(f"{run}: no end\n{self.tails()}")

    def tries(self, run: str) -> list[control.RunState]:
        """Return the tries of a run, once SuperLink is there to say."""
        desk = find_desk(self.federation.server)
        control.await_superlink(desk)
        with control.at(desk) as superlink:
            return tries_of(control.runs(superlink)).get(run, [])

    def verify(self, run: str) -> tuple[tuple[int, ...], int]:
        """Require the right sums and whole ledgers; return lost rounds, fewest of another."""
        out, plan = self.out(run), self.federation.plan
        events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
        assert (events[0]["event"], events[-1]["event"]) == ("began", "finished")
        (number,) = {event["run"] for event in events}
        tried = [event["epoch"] for event in events if event["event"] == "tried"]
        assert tried == sorted(set(tried)), "an epoch was used twice"
        opened = [event["round"] for event in events if event["event"] == "opening"]
        assert len(opened) == len(set(opened)), "a round was opened twice"
        kept = [event for event in events if event["event"] == "kept"]
        assert [event["round"] for event in kept] == list(range(ROUNDS + 1))
        model = (out / "model.safetensors").read_bytes()
        assert kept[-1]["model"] == sha256(model).hexdigest()
        assert (out / "model.onnx").is_file()
        rows = list(csv.DictReader((out / "rounds.csv").read_text().splitlines()))
        assert [int(row["survivors"]) for row in rows] == [len(one["survivors"]) for one in kept]
        masked = self._masked(number)
        for event in kept:
            survivors = event["survivors"]
            assert not survivors or len(survivors) >= THRESHOLD
            assert {(name, event["round"], event["epoch"]) for name in survivors} <= masked
            self._require_sums(event, plan)
        for name in NAMES:
            config = load_config(self.federation.institution(name) / "client.toml")
            try:
                lines = open_ledger(config.ledger, self.federation.institution(name)).verify()
            except FedpruneError as error:
                raise BrokenLedgerError(f"{run}, {name}: {error}") from error
            assert lines > 0
        lost = tuple(event["round"] for event in kept if not event["survivors"])
        return lost, min(len(event["survivors"]) for event in kept if event["survivors"])

    def _require_sums(self, event: dict[str, Any], plan: Plan) -> None:
        """Require that the counts of a round are those of its survivors' rows."""
        told: Counter[tuple[str, str, str]] = Counter()
        for row in event["rows"]["groups.csv"]:
            for outcome in ("positives", "negatives"):
                told[row["part"], row["group"], outcome] = row[outcome] or 0
        parts = {"validation"} if event["round"] else set()
        if event["round"] == plan.training.rounds:
            parts |= {"test"}
        expected: Counter[tuple[str, str, str]] = Counter()
        for name in event["survivors"]:
            expected += Counter(
                {key: count for key, count in self.counts[name].items() if key[0] in parts}
            )
        if {key: count for key, count in told.items() if count} != expected:
            raise WrongSumsError(f"round {event['round']} is not the sum of its survivors")

    def _masked(self, run: str) -> set[tuple[str, int, int]]:
        """Return which institution noted to have masked a vector, in which round and epoch."""
        query = "SELECT round, epoch FROM entries WHERE kind = 'masked' AND run = ?"
        return {(name, *place) for name in NAMES for place in self._query(name, query, run)}

    def operate(self, *arguments: object) -> Outcome:
        """Run ``fedprune-server`` on the server's directory; it has to succeed."""
        from server.cli import main  # noqa: PLC0415

        done = invoke(main, *arguments, "--home", self.federation.server)
        assert done.code == 0, done.err + self.tails()
        return done

    def refused(self, *arguments: object) -> str:
        """Run ``fedprune-server`` on the server's directory; return why it refuses."""
        from server.cli import main  # noqa: PLC0415

        done = invoke(main, *arguments, "--home", self.federation.server)
        assert done.code == 3, done.out + done.err
        return done.err

    def restart(self) -> None:
        """Stop ``fedprune-server up`` as an operator does, and start it again."""
        assert stop(self.server) == [0]
        self.server[:] = [start_up("server.cli", self.federation.server)]
        await_health(self.federation)

    def out(self, run: str) -> Path:
        """Return a run's directory."""
        return self.federation.server / "runs" / run

    def processes(self, process: str) -> list[int]:
        """Return the numbers of a process that runs; it may be away."""
        owner, command = PROCESSES[process]
        home = str(self.federation.folder / owner)
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                line = (folder / "cmdline").read_text()
                if command in line and home in line + (folder / "environ").read_text():
                    found.append((int(folder.name), line))
        return [number for number, line in found if "\0up\0" not in line]

    def await_all(self, seconds: float = 150.0) -> None:
        """Wait until every process is there and every institution connected."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            desk = find_desk(self.federation.server)
            control.await_superlink(desk)
            with control.at(desk) as superlink:
                nodes = control.nodes(superlink)
            online = {node.name for node in nodes if node.status == control.ONLINE}
            if online == set(NAMES) and all(map(self.processes, PROCESSES)):
                return
            time.sleep(0.2)
        raise AssertionError(f"not all are back\n{self.tails()}")

    def tails(self) -> str:
        """Return the ends of all logs."""
        homes = [self.federation.server, *map(self.federation.institution, NAMES)]
        return "\n".join(map(tails, homes))

    def _landed(self, run: str, before: int) -> str:
        """Say what the journal and the first institution's ledger said last."""
        ends = []
        for lines in (self._journal(run), self._since(before)):
            ends.append(_told(*lines[-1]) if lines else "nothing")
        return " | ".join(ends)

    def _journal(self, run: str) -> list[tuple[str, int | None]]:
        path = self.out(run) / "journal.jsonl"
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        events = [json.loads(line) for line in whole.splitlines()]
        return [(event["event"], event.get("round")) for event in events]

    def _since(self, before: int) -> list[tuple[str, int | None]]:
        return [(kind, number) for line, kind, number in self._ledger() if line > before]

    def _ledger(self) -> list[tuple[int, str, int]]:
        return self._query(VICTIM, "SELECT sequence, kind, round FROM entries ORDER BY sequence")

    def _query(self, name: str, query: str, *values: object) -> list[Any]:
        home = self.federation.institution(name)
        file = home / load_config(home / "client.toml").ledger.file
        # It begins with the first run.
        if not file.exists():
            return []
        database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        # A file that is being created has no table yet.
        with closing(database), suppress(sqlite3.OperationalError):
            return database.execute(query, values).fetchall()
        return []


def _told(kind: str, number: int | None) -> str:
    return kind if number is None else f"{kind} {number}"


def _counted(home: Path, plan: Plan) -> Counter[tuple[str, str, str]]:
    """Count an institution's held-out rows by part, group and outcome."""
    splits = load_institution(home / "client.toml").splits
    counts: Counter[tuple[str, str, str]] = Counter()
    names = groups_of(plan.schema_, (BY,), {})[BY]
    for part, examples in (("validation", splits.validation), ("test", splits.test)):
        ages = examples.protected[BY].tolist()
        for age, label in zip(ages, examples.labels.tolist(), strict=True):
            group = f"{BY}={age}"
            assert group in names
            counts[part, group, "positives" if label else "negatives"] += 1
    return counts


@contextmanager
def brought_up(folder: Path, timeout: float) -> Iterator[Matrix]:
    """Found a federation of five in ``folder`` and have it up until the block ends."""
    made = found(folder, matrix_plan(timeout))
    for name in NAMES:
        file = made.institution(name) / "client.toml"
        settings = tomllib.loads(file.read_text())
        # Forty runs of one plan on one table, some counts without noise: no sane limit allows it.
        limits = {"plan": "none", "year": "none", "ever": "none", "accountant": "rdp"}
        settings["ledger"] = settings.get("ledger", {}) | {"limits": limits}
        file.write_text(tomli_w.dumps(settings))
    with up(("server.cli", made.server)) as server:
        await_health(made)
        with up(*(("client.cli", made.institution(name)) for name in NAMES)):
            matrix = Matrix(made, server)
            matrix.await_all()
            yield matrix
