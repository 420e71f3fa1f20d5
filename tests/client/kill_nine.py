"""Kill a real institution with signal 9 at a given write, restart it, and watch what it says.

The server and the other institutions are the real ones, in the parent; the victim is a forked
process behind a pipe with its ledger in a file. As in Flower, its context is saved only after
its reply has left. A crash is an absence to the server, which goes on or repeats the round.
Round 1 is repeated in any case, because two others leave its first attempt after the victim has
sent its vector.
"""

import hashlib
import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    message_from_proto,
    message_to_proto,
)
from flwr.proto.message_pb2 import Context as ProtoContext
from flwr.proto.message_pb2 import Message as ProtoMessage

from client import update
from client.app import build_app as build_client
from client.entries import Entry, Shrunk
from client.ledger import Ledger, MemoryStore, Store
from client.ledger_file import SqliteStore
from client.limits import Limits, table_epsilon
from client.spending import budget_of
from client.stages import Institution, Membership
from common import messages as wire
from common.crypto import secagg
from common.crypto.session import Advert
from common.descriptor import RoundDescriptor
from common.entropy import SeededEntropy, SystemEntropy
from common.errors import AggregationError
from common.plan import Plan
from server.app import Task
from server.app import build_app as build_server
from server.rounds import RoundReport
from simulations.grid import RUN_ID, SERVER_NODE, Absent, InProcessGrid
from simulations.rehearsal import seeded_identity, seeded_roster
from tests.support import FIELDS, small_plan, small_splits

VICTIM = "ash"
NEVER = 10**9
LIMITS = Limits(plan=50, year=50, ever=50, accountant="rdp")


REVOKED = "oak"


def harness_plan() -> Plan:
    """Return two rounds, one that trains and one that evaluates: every kind of write happens.

    One member of five is revoked, which every institution hears of when keys are first asked for.
    """
    return small_plan(
        institutions=[*FIELDS["institutions"], {"name": REVOKED, "size": 200}],
        aggregation={"threshold": 3, "colluders": 0},
        training={"rounds": 1, "steps": 1, "sample_rate": 0.3, "learning_rate": 0.1},
        evaluation={"rounds": 1, "bins": 4, "noise": "gaussian"},
        privacy={"epsilon": 8.0},
        pruning={"sparsity": 0.0},
    )


@dataclass
class Observed:
    """What left the victim, as the server saw it, and what its ledger says at the end.

    ``released`` holds the run, round, epoch and hash of the unmasked vector behind each one that
    left; ``opened`` the run and round of each opening; ``refusals`` the reasons of refusals.
    ``advertised`` holds what its adverts said of the length of its ledger, ``rosters`` the hashes
    of the rosters that its vectors were masked under.
    """

    released: list[tuple[str, int, int, str]] = field(default_factory=list)
    advertised: list[int] = field(default_factory=list)
    rosters: set[str] = field(default_factory=set)
    opened: list[tuple[str, int]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    kills: int = 0
    completed: bool = False
    survived: list[int] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


class Clockwork:
    """Counts the points of a process and kills it at one of them."""

    def __init__(self, fatal: int) -> None:
        self.fatal, self.passed = fatal, 0

    def tick(self) -> None:
        self.passed += 1
        if self.passed == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def ticking(clockwork: Clockwork) -> type[sqlite3.Connection]:
    """Return connections that tick before each write, before its commit and after it."""

    class Ticking(sqlite3.Connection):
        _wrote = False

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            writes = sql.startswith(("INSERT", "UPDATE", "CREATE"))
            commits = sql == "COMMIT" and self._wrote
            if writes or commits:
                clockwork.tick()
            cursor = super().execute(sql, *parameters)
            if commits:
                clockwork.tick()
            self._wrote = not commits and (self._wrote or writes)
            return cursor

    return Ticking


Arrange = Callable[[Path], Store]
Break = Callable[[], None]


def durable(folder: Path) -> Store:
    """Return the store that institutions have."""
    return SqliteStore(folder / "ledger.sqlite")


def forgetful(folder: Path) -> Store:
    """Return a store that dies with the process: what the harness must notice."""
    return MemoryStore()


def nothing_broken() -> None:
    """Leave the institution as it is."""


@dataclass(frozen=True)
class Victim:
    """How the institution that is killed is made: its folder, its store, what is wrong with it."""

    folder: Path
    store: Arrange = durable
    broken: Break = nothing_broken
    keeps_context: bool = True

    def serve(self, pipe: Connection, fatal: int) -> None:
        """Answer messages until killed; the context is saved after the reply has left."""
        clockwork = Clockwork(fatal)
        sqlite3.connect = partial(sqlite3.connect, factory=ticking(clockwork))  # type: ignore[assignment]
        masked: list[tuple[str, int, int, str]] = []
        self._spy(masked)
        self.broken()
        app = build_client(lambda _: institution)
        institution = self.institution()
        saved = self.folder / "context"
        if not self.keeps_context:
            saved.unlink(missing_ok=True)
        while True:
            data: bytes = pipe.recv_bytes()
            clockwork.tick()
            context = Context(RUN_ID, 2, {}, RecordDict(), {})
            if saved.exists():
                context = context_from_proto(ProtoContext.FromString(saved.read_bytes()))
            masked.clear()
            reply = app(message_from_proto(ProtoMessage.FromString(data)), context)
            clockwork.tick()
            pipe.send((message_to_proto(reply).SerializeToString(), list(masked)))
            clockwork.tick()
            partial_file = saved.with_suffix(".partial")
            partial_file.write_bytes(context_to_proto(context).SerializeToString())
            partial_file.replace(saved)
            clockwork.tick()

    def institution(self) -> Institution:
        """Return the victim with its own ledger and fresh randomness."""
        plan = harness_plan()
        ledger = Ledger(self.store(self.folder), "loans", LIMITS)
        return Institution(
            VICTIM, plan, partial(small_splits, 0, 200), SystemEntropy(), _membership(plan), ledger
        )

    @staticmethod
    def _spy(masked: list[tuple[str, int, int, str]]) -> None:
        right = secagg.mask

        def noted(accepted: Any, vector: Any) -> Any:
            descriptor = accepted.descriptor
            digest = hashlib.sha256(vector.tobytes()).hexdigest()
            masked.append((descriptor.run, descriptor.round, descriptor.epoch, digest))
            return right(accepted, vector)

        update.secagg.mask = noted  # type: ignore[attr-defined]


class Proxy:
    """The client app in the parent: others answer here, the victim in its own process."""

    def __init__(self, victim: Victim, others: ClientApp, node: int, observed: Observed) -> None:
        self._victim, self._others, self._node = victim, others, node
        self._observed = observed
        self._fork = multiprocessing.get_context("fork")
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def start(self, fatal: int = NEVER) -> None:
        """Start or restart the victim."""
        self._pipe, theirs = self._fork.Pipe()
        process = self._fork.Process(target=self._victim.serve, args=(theirs, fatal), daemon=True)
        process.start()
        theirs.close()
        self._process = process

    def stop(self) -> None:
        """End the victim for good."""
        assert self._process is not None
        self._process.kill()
        self._process.join()

    def __call__(self, message: Message, context: Context) -> Message:
        if context.node_id != self._node:
            return self._others(message, context)
        assert self._pipe is not None
        assert self._process is not None
        try:
            self._pipe.send_bytes(message_to_proto(message).SerializeToString())
            data, masked = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            assert self._process.exitcode == -signal.SIGKILL
            self._observed.kills += 1
            self.start()
            gone = Message(Error(ErrorCode.NODE_UNAVAILABLE, "gone"), reply_to=message)
            gone.metadata.__dict__["_src_node_id"] = SERVER_NODE
            return gone
        reply = message_from_proto(ProtoMessage.FromString(data))
        self._note(message, reply, masked)
        return reply

    def _note(self, message: Message, reply: Message, masked: list[Any]) -> None:
        if wire.kind_of(reply.content) == wire.Refusal.kind:
            self._observed.refusals.append(wire.Refusal.from_record(reply.content).reason)
        elif message.metadata.message_type == "train.update":
            self._observed.released.extend(masked)
            asked = wire.UpdateRequest.from_record(message.content)
            descriptor = RoundDescriptor.from_json(asked.descriptor)
            self._observed.rosters.add(descriptor.roster_hash)
            self._advertised(wire.UpdateReply.from_record(reply.content).advert)
        elif message.metadata.message_type == "query.advertise":
            self._advertised(wire.AdvertiseReply.from_record(reply.content).advert)
        elif message.metadata.message_type == "train.unmask":
            run, number, *_ = self._observed.released[-1]
            self._observed.opened.append((run, number))

    def _advertised(self, advert: bytes) -> None:
        if advert:
            self._observed.advertised.append(Advert.from_bytes(advert).sequence)


def perform(victim: Victim, fatal: int = NEVER) -> Observed:
    """Run the plan once with the victim killed at its write ``fatal``; return what was seen."""
    plan, observed = harness_plan(), Observed()
    victim.folder.mkdir(parents=True, exist_ok=True)
    nodes = dict(enumerate(plan.names, start=SERVER_NODE + 1))
    node = next(number for number, name in nodes.items() if name == VICTIM)
    members = {
        number: Institution(
            name,
            plan,
            partial(small_splits, number, 200),
            SeededEntropy(0, name),
            _membership(plan, name),
        )
        for number, name in nodes.items()
    }
    proxy = Proxy(victim, build_client(lambda context: members[context.node_id]), node, observed)

    def keep(_: object, report: RoundReport) -> None:
        if VICTIM in report.survivors:
            observed.survived.append(report.round)

    roster = seeded_roster(plan.names, 0).without(REVOKED)
    server = build_server(lambda _: Task(plan, keep, roster), SystemEntropy())
    # Accountants are slow to load and to ask: once here, not in each of the forked processes.
    table_epsilon([(0, "", "", release) for release in budget_of(plan).releases], "rdp")
    with _running(proxy, fatal):
        try:
            server(
                InProcessGrid(cast(ClientApp, proxy), nodes, two_leave_once(node, nodes)),
                Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {}),
            )
            observed.completed = True
        except AggregationError:
            observed.completed = False
    if victim.store is durable:
        ledger = Ledger(durable(victim.folder), "loans", LIMITS)
        ledger.verify()
        observed.entries = ledger.read()[1]
    return observed


@contextmanager
def _running(proxy: Proxy, fatal: int) -> Iterator[None]:
    proxy.start(fatal)
    try:
        yield
    finally:
        proxy.stop()


def two_leave_once(node: int, nodes: Iterable[int]) -> Absent:
    """Return the absence of two others from the vectors of round 1, at the first attempt."""
    leaving = [other for other in nodes if other != node][:2]
    first: list[str] = []

    def absent(message: Message) -> bool:
        group = message.metadata.group_id
        if message.metadata.message_type != "train.update" or not group.startswith("1/"):
            return False
        first.append(group)
        return group == first[0] and message.metadata.dst_node_id in leaving

    return absent


def _membership(plan: Plan, name: str = VICTIM) -> Membership:
    return Membership(seeded_identity(name, 0), seeded_roster(plan.names, 0))


def require_honest(observed: Observed) -> None:
    """Raise unless the ledger covers all that left, and nothing left twice in different words."""
    charged = {(entry.run, entry.round) for entry in observed.entries if entry.kind == "charged"}
    opened = {(entry.run, entry.round) for entry in observed.entries if entry.kind == "opened"}
    vectors: dict[tuple[str, int], set[str]] = {}
    for run, number, _, digest in observed.released:
        vectors.setdefault((run, number), set()).add(digest)
    assert vectors.keys() <= charged, "the ledger understates what was released"
    assert all(len(digests) == 1 for digests in vectors.values()), "a round was released twice"
    if observed.rosters:
        noted = {entry.digest for entry in observed.entries if entry.kind == "revoked"}
        approved = seeded_roster(harness_plan().names, 0)
        shrunk = Shrunk(approved.digest, approved.without(REVOKED).to_bytes())
        assert observed.rosters == {approved.without(REVOKED).digest}
        assert noted == {shrunk.digest}, "the ledger hides a revocation"
    epochs = [(run, epoch) for run, _, epoch, _ in observed.released]
    assert len(set(epochs)) == len(epochs), "an epoch's keys were used twice"
    assert len(set(observed.opened)) == len(observed.opened), "a round was opened twice"
    assert set(observed.opened) <= opened, "the ledger hides an opening"
    lines = [entry.sequence for entry in observed.entries if entry.kind == "epoch"]
    assert set(observed.advertised) <= set(lines), "an advert tells of another ledger"
