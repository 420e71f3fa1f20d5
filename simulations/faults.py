"""Rounds over a network that fails in every way it can, drawn from a seed.

The server's and the institutions' own code run, over messages that are dropped, delayed,
duplicated, reordered and corrupted, while parties crash and come back without their memory.
Every schedule has to end in right sums over the declared survivors or in a named abort, and in
nothing that determines any member's vector.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from numpy.typing import NDArray

from client import stages
from client.journal import VolatileJournal
from client.memory import Memory
from client.stages import Institution, Membership
from client.update import update
from common import messages as wire
from common.crypto import ring
from common.crypto.roster import Roster
from common.crypto.session import Reveal
from common.descriptor import RoundDescriptor
from common.entropy import SeededEntropy
from common.errors import AggregationError, PolicyError, ProtocolError
from common.plan import Plan, plan_from_dict
from common.pruning.masks import Mask
from common.segments import UPDATE, segments_of
from server.aggregation import GlobalModel
from server.rounds import complete_round, initial_model
from simulations.rehearsal import seeded_identity, seeded_roster

M = TypeVar("M", bound=wire.WireMessage)

FAULTS = (
    "drop request",
    "drop reply",
    "duplicate request",
    "delay request",
    "swap stale reply",
    "corrupt request",
    "corrupt reply",
    "crash before",
    "crash after",
    "leave",
)
RATES = (0.0, 0.01, 0.03, 0.1, 0.3)
SERVER_CRASH = 0.01
MOST_CALLS = 200
"""Trips after which a schedule counts as hung."""


class ServerCrashError(Exception):
    """The server lost everything but its last finished round."""


class ViolationError(AssertionError):
    """A wrong sum, a hang, a second computation or a determined vector."""


@lru_cache(maxsize=8)
def toy_plan(size: int) -> Plan:
    """Return a federation of eight weights that trains nothing for two rounds."""
    return plan_from_dict(
        {
            "name": "toy",
            "schema": {
                "name": "seven",
                "label": {"column": "y", "positive": 1, "negative": 0},
                "columns": [
                    {"name": f"x{place}", "kind": "numeric", "lo": -1, "hi": 1}
                    for place in range(7)
                ],
            },
            "institutions": [{"name": f"bank-{place}", "size": 100} for place in range(size)],
            "model": {"kind": "logistic"},
            "training": {"rounds": 2, "steps": 1, "sample_rate": 0.5, "learning_rate": 0.1},
            "privacy": {"epsilon": "none"},
            "pruning": {"sparsity": 0.0},
            "evaluation": {"rounds": 1, "bins": 2},
        }
    )


@dataclass
class Bank:
    """An institution whose training is a draw, and what it must keep across a crash."""

    institution: Institution
    seed: int
    memory: Memory = field(default_factory=Memory)
    computed: dict[tuple[str, int], NDArray[np.uint32]] = field(default_factory=dict)
    present: bool = True
    refused: Callable[[PolicyError], None] = lambda error: None

    def compute(
        self,
        institution: Institution,
        descriptor: RoundDescriptor,
        weights: NDArray[np.float32],
        mask: Mask,
    ) -> NDArray[np.uint32]:
        """Draw a vector, once a round."""
        key = (descriptor.run, descriptor.round)
        if key in self.computed:
            raise ViolationError(f"{institution.name} computed round {descriptor.round} twice")
        entropy = SeededEntropy(self.seed, f"{institution.name}/{key}")
        values = {
            segment.name: np.frombuffer(
                entropy.stream(segment.name)(segment.length), np.uint8
            ).astype(np.float64)
            * (segment.bound / 255)
            for segment in descriptor.segments
        }
        self.computed[key] = ring.encode_vector(descriptor, values, entropy.stream("rounding"))
        return self.computed[key]

    def serve(self, record: RecordDict) -> RecordDict:
        """Answer a message as the institution's app does, but let untyped errors through."""
        served: dict[str, tuple[type[wire.WireMessage], Callable[..., Any]]] = {
            "advertise": (wire.AdvertiseRequest, stages.advertise),
            "update": (wire.UpdateRequest, self._update),
            "sign": (wire.SignRequest, stages.sign),
            "unmask": (wire.UnmaskRequest, stages.unmask),
        }
        try:
            kind, stage = served.get(wire.kind_of(record), (wire.JoinRequest, stages.join))
            request = kind.from_record(record)
            memory, reply = stage(self.institution, self.memory, request)
        except PolicyError as error:
            self.refused(error)
            return wire.Refusal(error.reason).to_record()
        self.memory = memory
        answer: RecordDict = reply.to_record()
        return answer

    def _update(
        self, institution: Institution, memory: Memory, request: wire.UpdateRequest
    ) -> tuple[Memory, wire.UpdateReply]:
        return update(institution, memory, request, self.compute)


@dataclass
class Network:
    """The server's transport: every message may meet a fault."""

    banks: dict[str, Bank]
    roster: Roster | None
    draw: np.random.Generator
    rate: float
    faults: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    reveals: dict[tuple[bytes, tuple[str, ...]], dict[str, Reveal]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    descriptors: dict[bytes, RoundDescriptor] = field(default_factory=dict)
    calls: int = 0
    _late: dict[str, list[RecordDict]] = field(default_factory=lambda: defaultdict(list))
    _stale: dict[str, list[RecordDict]] = field(default_factory=lambda: defaultdict(list))

    def call(
        self, requests: Mapping[str, wire.WireMessage], expected: type[M], group: str
    ) -> dict[str, M]:
        """Deliver in any order; return the replies that arrive and can be read."""
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise ViolationError("the server keeps asking: a hang")
        if self.rate and self.draw.random() < SERVER_CRASH:
            raise ServerCrashError
        replies: dict[str, M] = {}
        for name in self.draw.permutation(sorted(requests)).tolist():
            for record in self._exchange(name, requests[name]):
                try:
                    replies.setdefault(name, expected.from_record(record))
                except ProtocolError:
                    self.refusals[self._reason(record)] += 1
        return replies

    def _exchange(self, name: str, request: wire.WireMessage) -> list[RecordDict]:
        bank, fault = self.banks[name], ""
        if self.draw.random() < self.rate:
            fault = str(self.draw.choice(FAULTS))
            self.faults[fault] += 1
        if isinstance(request, wire.UpdateRequest):
            descriptor = RoundDescriptor.from_json(request.descriptor)
            self.descriptors[descriptor.digest()] = descriptor
        if fault == "leave":
            bank.present = False
        if not bank.present:
            bank.present = bool(self.draw.random() < 0.5)
            bank.memory = Memory()
            return []
        if fault == "crash before":
            bank.memory = Memory()
        arriving = self._request(name, request.to_record(), fault)
        replies = [self._serve(bank, record) for record in arriving]
        if fault == "crash after":
            bank.memory = Memory()
        return self._reply(name, replies, fault)

    def _request(self, name: str, record: RecordDict, fault: str) -> list[RecordDict]:
        """Return what reaches an institution: the message, and any that were late."""
        match fault:
            case "drop request":
                return []
            case "delay request":
                self._late[name].append(record)
                return []
            case "duplicate request":
                return [record, record]
            case "corrupt request":
                return [self._corrupt(record)]
        return [record, *self._late.pop(name, [])]

    def _reply(self, name: str, replies: list[RecordDict], fault: str) -> list[RecordDict]:
        """Return what reaches the server."""
        match fault:
            case "drop reply":
                self._stale[name] += replies
                return []
            case "swap stale reply" if self._stale[name]:
                self._stale[name] += replies
                return [self._stale[name].pop(0)]
            case "corrupt reply":
                return [self._corrupt(record) for record in replies]
        return replies

    def _serve(self, bank: Bank, record: RecordDict) -> RecordDict:
        reply = bank.serve(record)
        if wire.kind_of(reply) == wire.UnmaskReply.kind:
            asked = wire.UnmaskRequest.from_record(record)
            reveal = Reveal.from_bytes(wire.UnmaskReply.from_record(reply).reveal)
            released = self.reveals[asked.digest, tuple(sorted(asked.survivors))]
            if bank.institution.name in released:
                raise ViolationError(f"{bank.institution.name} opened one epoch twice")
            released[bank.institution.name] = reveal
        return reply

    def _corrupt(self, record: RecordDict) -> RecordDict:
        data = bytearray(recorddict_to_proto(record).SerializeToString())
        for place in self.draw.integers(0, len(data), self.draw.integers(1, 4)):
            data[place] ^= 1 << int(self.draw.integers(0, 8))
        try:
            return recorddict_from_proto(ProtoRecordDict.FromString(bytes(data)))
        except Exception:  # what Flower cannot read never reaches either party
            return RecordDict()

    def _reason(self, record: RecordDict) -> str:
        try:
            return wire.Refusal.from_record(record).reason
        except ProtocolError:
            return "unreadable"


@dataclass(frozen=True)
class Outcome:
    """How a schedule ended: sums that were right, rounds lost, the abort's name if any."""

    opened: int
    lost: int
    abort: str
    faults: Counter[str]
    refusals: Counter[str]


def play(seed: int) -> Outcome:
    """Run one schedule; raise `ViolationError` if anything is wrong with it."""
    draw = np.random.default_rng(seed)
    plan = toy_plan(int(draw.integers(3, 7)))
    roster = _roster(plan.names)
    banks = {
        name: Bank(
            Institution(
                name,
                plan,
                _no_rows,
                SeededEntropy(seed, name),
                Membership(seeded_identity(name, 0), roster),
                VolatileJournal(),
            ),
            seed,
        )
        for name in plan.names
    }
    network = Network(banks, roster, draw, float(draw.choice(RATES)))
    model = initial_model(plan, SeededEntropy(seed, "server").stream("initial-weights"))
    opened, lost, abort = 0, 0, ""
    while model.round <= plan.training.rounds and not abort:
        try:
            model, survivors, sums = complete_round(model, plan, "run", network)
        except ServerCrashError:
            network.faults["server crash"] += 1
            model = _resumed(model, network)
            continue
        except AggregationError as error:
            abort = str(error)
            continue
        if survivors:
            opened += 1
            _require_right(plan, model, banks, survivors, sums)
        else:
            lost += 1
        if lost >= plan.aggregation.attempts:
            abort = f"{lost} rounds were lost"
        model = replace(model, round=model.round + 1)
    _require_hidden(plan, network)
    return Outcome(opened, lost, abort, network.faults, network.refusals)


def _no_rows() -> Any:
    return None


# The keys are no part of a schedule, and checking them costs as much as a round.
_roster = lru_cache(maxsize=8)(partial(seeded_roster, seed=0))


def _resumed(model: GlobalModel, network: Network) -> GlobalModel:
    """Return what a server knows again after a crash: its last round, and the epochs so far."""
    epochs = [
        stages.join(bank.institution, bank.memory, wire.JoinRequest("run"))[1].epoch
        for bank in network.banks.values()
    ]
    return replace(model, epoch=max(model.epoch, *epochs), offers={}, holders={})


def _require_right(
    plan: Plan,
    model: GlobalModel,
    banks: Mapping[str, Bank],
    survivors: tuple[str, ...],
    sums: Mapping[str, NDArray[np.float64]],
) -> None:
    """Compare the sums with the plain sum of what the survivors computed."""
    vectors = [banks[name].computed["run", model.round] for name in survivors]
    total = np.stack(vectors).sum(axis=0, dtype=np.uint64) % 2**plan.aggregation.ring_bits
    start = 0
    for name, found in sums.items():
        part = total[start : start + len(found)].astype(np.uint32)
        start += len(found)
        half = 2 ** (plan.aggregation.ring_bits - 1)
        lifted = (part.astype(np.int64) + half) % (2 * half) - half
        weight = sum(map(plan.weight, survivors)) if name == UPDATE else 1.0
        scale = _scale(plan, model, name)
        if not np.array_equal(lifted / scale / weight, found):
            raise ViolationError(f"round {model.round}: the sum of {name} is wrong")


def _scale(plan: Plan, model: GlobalModel, name: str) -> float:
    (scale,) = (s.scale for s in segments_of(plan, model.round, model.kept) if s.name == name)
    return scale


def _require_hidden(plan: Plan, network: Network) -> None:
    """Raise if what was opened, with any colluders' own vectors, determines another's vector."""
    terms = plan.terms
    needed = terms.threshold - terms.colluders
    sums: dict[int, list[list[int]]] = defaultdict(list)
    both: dict[bytes, dict[str, set[bool]]] = defaultdict(lambda: defaultdict(set))
    for (digest, survivors), released in network.reveals.items():
        if len(released) < needed:
            continue
        descriptor = network.descriptors[digest]
        sums[descriptor.round].append([int(name in survivors) for name in plan.names])
        for name in descriptor.cohort:
            both[digest][name].add(name in survivors)
    for secrets in both.values():
        if any(len(kinds) > 1 for kinds in secrets.values()):
            raise ViolationError("both secrets of a member could be rebuilt")
    for rows in sums.values():
        require_undetermined(np.array(rows), terms.colluders)


def require_undetermined(rows: NDArray[np.int_], colluders: int) -> None:
    """Raise if sums over members, a row each, give away one member to so many colluders."""
    members = rows.shape[1]
    for known in itertools.combinations(range(members), colluders):
        honest = np.delete(rows, known, axis=1)
        rank = np.linalg.matrix_rank(honest)
        for unit in np.eye(honest.shape[1], dtype=np.int_):
            if np.linalg.matrix_rank(np.vstack([honest, unit])) == rank:
                raise ViolationError(f"the opened sums determine a member: {rows.tolist()}")
