"""Kill a real server with signal 9 at a given point, start it again, and watch what it does.

The server is a forked process with its directory on disk; the institutions are the real ones, in
the parent behind a pipe, with their ledgers. As in Flower, a server that starts again is another
run to them, whose contexts begin empty. Points are before each request, before each file takes its
place, before each line of the journal and halfway through it. The server does one thing after the
other, so that the moment after one of them is the moment before the next.
"""

import csv
import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from client.app import build_app as build_client
from client.policy import RoundOpenedError
from client.stages import Institution
from common import messages as wire
from common.entropy import SeededEntropy
from common.errors import FedpruneError
from common.plan import Plan
from server import record as recording
from server import store, tables
from server.app import Task
from server.app import build_app as build_server
from server.journal import JOURNAL
from server.record import RunRecord
from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from tests.client.kill_nine import NEVER, Clockwork
from tests.support import FIELDS, roster_of, small_institution, small_plan

Break = Callable[[], None]


def harness_plan(kind: str = "secure") -> Plan:
    """Return three institutions, one of whom cannot be missed, and two rounds."""
    return small_plan(
        institutions=FIELDS["institutions"][:3],
        aggregation={"kind": kind},
        training={"rounds": 1, "steps": 1, "sample_rate": 0.3, "learning_rate": 0.1},
        evaluation={"rounds": 1, "bins": 4, "noise": "gaussian"},
        privacy={"epsilon": 8.0},
        pruning={"sparsity": 0.5, "end": 0.9},
    )


def nothing_broken() -> None:
    """Leave the server as it is."""


@dataclass
class Observed:
    """How often the server died, what it ended with, what institutions refused and opened."""

    kills: int = 0
    error: str = ""
    refusals: list[str] = field(default_factory=list)
    opened: set[tuple[int, int]] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    lost: list[int] = field(default_factory=list)
    model: bytes = b""


class Remote:
    """The institutions, from the server's process: each request dies with it or arrives."""

    def __init__(self, pipe: Connection, clockwork: Clockwork) -> None:
        self._pipe, self._clockwork = pipe, clockwork

    def __call__(self, message: Message, context: Context) -> Message:
        self._clockwork.tick()
        self._pipe.send_bytes(message_to_proto(message).SerializeToString())
        return message_from_proto(ProtoMessage.FromString(self._pipe.recv_bytes()))


def serve(folder: Path, plan: Plan, fatal: int, broken: Break, pipe: Connection) -> None:
    """Run the plan in ``folder``, or go on with it; send what it ends with."""
    clockwork = Clockwork(fatal)
    _tick_at_writes(clockwork)
    broken()
    cast(Any, store).latencies = lambda *_: {}
    cast(Any, recording).write_report = lambda _: None
    cast(Any, recording).write_model_file = lambda _: None
    nodes = range(SERVER_NODE + 1, SERVER_NODE + 1 + len(plan.names))
    roster = roster_of(plan) if plan.aggregation.kind == "secure" else None

    def task(_: Context) -> Task:
        record = RunRecord(folder, plan, roster)
        return Task(plan, record.keep, roster, finish=record.finish, record=record)

    grid = InProcessGrid(cast(ClientApp, Remote(pipe, clockwork)), nodes)
    ended = b"done"
    try:
        build_server(task, SeededEntropy(0))(
            grid, Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {})
        )
    except FedpruneError as error:
        ended = str(error).encode()
    pipe.send_bytes(b"")
    pipe.send_bytes(ended)


def _tick_at_writes(clockwork: Clockwork) -> None:
    write, replace = os.write, Path.replace

    def torn_write(file: int, data: bytes) -> int:
        clockwork.tick()
        done = write(file, data[: len(data) // 2])
        clockwork.tick()
        return done + write(file, data[len(data) // 2 :])

    def ticking_replace(path: Path, target: Path) -> Path:
        clockwork.tick()
        return replace(path, target)

    os.write = torn_write  # type: ignore[assignment]
    os.fsync = lambda fd: None  # A kill is no power cut, and disks are slow.
    Path.replace = ticking_replace  # type: ignore[assignment, method-assign]


def perform(
    folder: Path, fatal: int = NEVER, broken: Break = nothing_broken, kind: str = "secure"
) -> Observed:
    """Run the plan with the server killed at its point ``fatal``; return what was seen."""
    plan, observed = harness_plan(kind), Observed()
    members = {
        node: small_institution(plan, name)
        for node, name in enumerate(plan.names, start=SERVER_NODE + 1)
    }
    fork = multiprocessing.get_context("fork")
    while True:
        ours, theirs = fork.Pipe()
        arguments = (folder, plan, NEVER if observed.kills else fatal, broken, theirs)
        process = fork.Process(target=serve, args=arguments, daemon=True)
        process.start()
        theirs.close()
        with ours:
            ended = _answer(ours, members, observed)
        process.join()
        if ended:
            assert process.exitcode == 0
            break
        assert process.exitcode == -signal.SIGKILL
        observed.kills += 1
    observed.error = "" if ended == b"done" else ended.decode()
    for member in members.values():
        member.ledger.verify()
        observed.runs |= {entry.run for entry in member.ledger.read()[1]}
    if (folder / tables.MODEL).exists():
        observed.model = (folder / tables.MODEL).read_bytes()
    return observed


def _answer(pipe: Connection, members: dict[int, Institution], observed: Observed) -> bytes:
    """Answer requests until the server ends or dies; return what it ended with."""
    app = build_client(lambda context: members[context.node_id])
    contexts = {node: Context(RUN_ID, node, {}, RecordDict(), {}) for node in members}
    try:
        while data := pipe.recv_bytes():
            message = message_from_proto(ProtoMessage.FromString(data))
            facts = message.metadata
            reply = app(message, contexts[facts.dst_node_id])
            if wire.kind_of(reply.content) == wire.Refusal.kind:
                observed.refusals.append(wire.Refusal.from_record(reply.content).reason)
            elif facts.message_type == "train.unmask":
                number, epoch = facts.group_id.split("/")
                observed.opened.add((int(number), int(epoch)))
            pipe.send_bytes(message_to_proto(reply).SerializeToString())
        return pipe.recv_bytes()
    except (EOFError, ConnectionError):
        return b""


def events_of(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's journal."""
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def require_whole(folder: Path, observed: Observed, plan: Plan) -> None:
    """Raise unless the run came to its end as one run, and its files say the same of it."""
    assert not observed.error, observed.error
    assert len(observed.runs - {""}) <= 1, "another run began"
    assert RoundOpenedError.reason not in observed.refusals, "a round was to be opened twice"
    events = events_of(folder)
    kept = [event for event in events if event["event"] == "kept"]
    assert [event["round"] for event in kept] == list(range(plan.training.rounds + 1))
    assert [events[0]["event"], events[-1]["event"]] == ["began", "finished"]
    with (folder / "rounds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = [
        {name: str(value) for name, value in event["rows"]["rounds.csv"][0].items()}
        for event in kept
    ]
    assert rows == told, "journal and rounds.csv differ"
    assert kept[-1]["model"] == hashlib.sha256(observed.model).hexdigest()
    tried = [event["epoch"] for event in events if event["event"] == "tried"]
    assert tried == sorted(set(tried)), "an epoch was used twice"
    noted = {(event["round"], event["epoch"]) for event in events if event["event"] == "opening"}
    assert observed.opened <= noted, "an opening was not noted"
    assert len({number for number, _ in noted}) == len(noted), "a round was opened twice"
    observed.lost = [event["round"] for event in kept if not event["survivors"]]
