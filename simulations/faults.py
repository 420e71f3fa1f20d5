"""Rounds over a network that fails in every way it can, drawn from a seed.

The server's and the institutions' own code run, over messages that are dropped, delayed,
duplicated, reordered and corrupted, while parties crash and come back without their memory. In
some schedules the server deviates as well: it repeats rounds that were opened, or shows several
survivor sets of one epoch. Every schedule has to end in right sums over the declared survivors or
in a named abort, and in nothing that determines any member's vector.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from numpy.typing import NDArray

from client import stages
from client.ledger import memory_ledger
from client.memory import Memory
from client.stages import Institution, Membership
from client.update import update
from common import messages as wire
from common.crypto import ring
from common.crypto.roster import Roster
from common.crypto.session import Reveal, Session
from common.descriptor import RoundDescriptor
from common.entropy import SeededEntropy
from common.errors import AggregationError, PolicyError, ProtocolError
from common.plan import Plan, plan_from_dict
from common.pruning.masks import Mask
from common.segments import UPDATE, segments_of
from server.adverts import Adverts
from server.model import GlobalModel
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
DEVIATIONS = ("", "", "repeat opened round", "split survivors")
"""What a server does beyond the protocol; half of the schedules have one that keeps to it."""
RATES = (0.0, 0.01, 0.03, 0.1, 0.3)
SERVER_CRASH = 0.01
HALF = 0.5
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
class Seen:
    """All that left the institutions, whoever it reached.

    ``sent`` has by descriptor digest who masked a vector; ``bearers`` by session tag who opened
    a share of a member's seed (alive) or mask key (not): shares of one secret add up, whatever
    descriptor and survivor set they were opened for.
    """

    descriptors: dict[bytes, RoundDescriptor] = field(default_factory=dict)
    sent: dict[bytes, set[str]] = field(default_factory=lambda: defaultdict(set))
    bearers: dict[bytes, dict[tuple[str, bool], set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    openings: Counter[tuple[bytes, str]] = field(default_factory=Counter)

    def vector(self, name: str, descriptor: RoundDescriptor) -> None:
        """Note that a masked vector left."""
        self.descriptors[descriptor.digest()] = descriptor
        self.sent[descriptor.digest()].add(name)

    def reveal(self, name: str, digest: bytes, reveal: Reveal) -> None:
        """Note that shares were opened."""
        descriptor = self.descriptors[digest]
        tag = Session.of(descriptor).tag
        self.openings[tag, name] += 1
        for member, alive, opening in zip(
            descriptor.cohort, reveal.survived, reveal.openings, strict=True
        ):
            if opening is not None:
                self.bearers[tag][member, alive].add(name)

    def rebuilt(self, digest: bytes, known: frozenset[str], *, alive: bool) -> frozenset[str]:
        """Return the members whose seeds, or else mask keys, colluders ``known`` can rebuild."""
        descriptor = self.descriptors[digest]
        bearers = self.bearers[Session.of(descriptor).tag]
        return frozenset(
            member
            for member in descriptor.cohort
            if len(bearers[member, alive] | known) >= descriptor.threshold
        )


@dataclass
class Network:
    """The server's transport: every message may meet a fault."""

    banks: dict[str, Bank]
    roster: Roster | None
    draw: np.random.Generator
    rate: float
    faults: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    deviation: str = ""
    seen: Seen = field(default_factory=Seen)
    calls: int = 0
    adverts: Adverts = field(default_factory=Adverts)
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
        opening = {
            name: request
            for name, request in requests.items()
            if self.deviation == "split survivors" and isinstance(request, wire.UnmaskRequest)
        }
        other = self._other(opening) if opening else None
        # Some see the other set first, and all of them see it in the end.
        if other:
            self._ask(dict.fromkeys(self._some(opening), other), wire.UnmaskReply)
        replies = self._ask(requests, expected)
        if other:
            self._ask(dict.fromkeys(opening, other), wire.UnmaskReply)
        return replies

    def _ask(self, requests: Mapping[str, wire.WireMessage], expected: type[M]) -> dict[str, M]:
        replies: dict[str, M] = {}
        for name in self.draw.permutation(sorted(requests)).tolist():
            for record in self._exchange(name, requests[name]):
                try:
                    replies.setdefault(name, expected.from_record(record))
                except ProtocolError:
                    self.refusals[self._reason(record)] += 1
        return replies

    def _some(self, names: Iterable[str]) -> list[str]:
        return [name for name in sorted(names) if self.draw.random() < HALF]

    def _other(self, opening: Mapping[str, wire.UnmaskRequest]) -> wire.UnmaskRequest:
        """Return a request to open another survivor set, signed by those who can be won for it."""
        self.faults[self.deviation] += 1
        request = next(iter(opening.values()))
        cohort = self.seen.descriptors[request.digest].cohort
        survivors = list(cohort)
        if len(request.survivors) == len(cohort) or self.draw.random() < HALF:
            left_out = str(self.draw.choice(request.survivors))
            survivors = [name for name in request.survivors if name != left_out]
        asked = dict.fromkeys(self._some(survivors), wire.SignRequest(request.digest, survivors))
        signed = {name: reply.signature for name, reply in self._ask(asked, wire.SignReply).items()}
        return wire.UnmaskRequest(request.digest, survivors, list(signed), list(signed.values()))

    def _exchange(self, name: str, request: wire.WireMessage) -> list[RecordDict]:
        bank, fault = self.banks[name], ""
        if self.draw.random() < self.rate:
            fault = str(self.draw.choice(FAULTS))
            self.faults[fault] += 1
        if fault == "leave":
            bank.present = False
        if not bank.present:
            bank.present = bool(self.draw.random() < HALF)
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
        reply, name = bank.serve(record), bank.institution.name
        match wire.kind_of(reply):
            case wire.UpdateReply.kind:
                text = wire.UpdateRequest.from_record(record).descriptor
                self.seen.vector(name, RoundDescriptor.from_json(text))
            case wire.UnmaskReply.kind:
                asked = wire.UnmaskRequest.from_record(record)
                opened = wire.UnmaskReply.from_record(reply).reveal
                self.seen.reveal(name, asked.digest, Reveal.from_bytes(opened))
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
                memory_ledger(),
            ),
            seed,
        )
        for name in plan.names
    }
    rate, deviation = float(draw.choice(RATES)), str(draw.choice(DEVIATIONS))
    network = Network(banks, roster, draw, rate, deviation=deviation)
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
            if deviation == "repeat opened round":
                model = _repeated(model, plan, network)
        else:
            lost += 1
        if lost >= plan.aggregation.attempts:
            abort = f"{lost} rounds were lost"
        model = replace(model, round=model.round + 1)
    require_hidden(plan, network.seen)
    return Outcome(opened, lost, abort, network.faults, network.refusals)


def _no_rows() -> Any:
    return None


# The keys are no part of a schedule, and checking them costs as much as a round.
_roster = lru_cache(maxsize=8)(partial(seeded_roster, seed=0))


def _resumed(model: GlobalModel, network: Network) -> GlobalModel:
    """Return what a server knows again after a crash: its last round, and the epochs so far."""
    known = network.adverts.of(network.roster)
    request = wire.JoinRequest("run", list(known), list(known.values()))
    epochs = [
        stages.join(bank.institution, bank.memory, request)[1].epoch
        for bank in network.banks.values()
    ]
    return replace(model, epoch=max(model.epoch, *epochs), offers={}, holders={})


def _repeated(model: GlobalModel, plan: Plan, network: Network) -> GlobalModel:
    """Ask for an opened round again, with one member less where that leaves enough."""
    network.faults[network.deviation] += 1
    left_out = {str(network.draw.choice(plan.names))}
    if len(plan.names) - len(left_out) < plan.terms.least:
        left_out = set()
    again = replace(model, offers={}, holders={}, culprits=model.culprits | left_out)
    try:
        again, _, _ = complete_round(again, plan, "run", network)
    except ServerCrashError:
        return _resumed(model, network)
    except AggregationError:
        return model
    return replace(model, epoch=again.epoch, offers={}, holders={})


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


def require_hidden(plan: Plan, seen: Seen) -> None:
    """Raise if what left, with any colluders' own secrets, determines another's vector.

    The vectors of those whose mask keys stay secret are hidden by each other's pair masks and
    add up only all together, once every one of their seeds is rebuilt.
    """
    for known in map(frozenset, itertools.combinations(plan.names, plan.terms.colluders)):
        sums: dict[int, list[list[int]]] = defaultdict(list)
        for digest, senders in seen.sent.items():
            seeds = seen.rebuilt(digest, known, alive=True)
            keys = seen.rebuilt(digest, known, alive=False)
            if (seeds & keys) - known:
                raise ViolationError("both secrets of a member could be rebuilt")
            descriptor = seen.descriptors[digest]
            summed = frozenset(descriptor.cohort) - keys - known
            if summed and summed <= seeds & senders:
                row = [int(name in summed) for name in plan.names if name not in known]
                sums[descriptor.round].append(row)
        for rows in sums.values():
            require_undetermined(np.array(rows), 0)
    for (_, name), times in seen.openings.items():
        if times > 1:
            raise ViolationError(f"{name} opened one epoch twice")


def require_undetermined(rows: NDArray[np.int_], colluders: int) -> None:
    """Raise if sums over members, a row each, give away one member to so many colluders."""
    members = rows.shape[1]
    for known in itertools.combinations(range(members), colluders):
        honest = np.delete(rows, known, axis=1)
        rank = np.linalg.matrix_rank(honest)
        for unit in np.eye(honest.shape[1], dtype=np.int_):
            if np.linalg.matrix_rank(np.vstack([honest, unit])) == rank:
                raise ViolationError(f"the opened sums determine a member: {rows.tolist()}")
