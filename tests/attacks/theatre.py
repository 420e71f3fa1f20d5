"""A federation of five whose server stops where an attack begins."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from flwr.app import RecordDict

from client.ledger import Ledger, memory_ledger
from client.stages import Institution, Membership
from common import messages as wire
from common.crypto import keys
from common.crypto.roster import Roster
from common.crypto.session import Advert, Session
from common.descriptor import RoundDescriptor
from common.entropy import SeededEntropy
from common.plan import Plan, plan_from_dict
from common.versions import OtherProtocolError
from server.adverts import Adverts
from server.aggregation import Attempt
from server.model import GlobalModel
from server.rounds import initial_model
from simulations.faults import Bank, toy_plan
from simulations.rehearsal import seeded_identity, seeded_roster
from tests.support import mask_keeping

M = TypeVar("M", bound=wire.WireMessage)
Requests = dict[str, wire.WireMessage]


class StopError(Exception):
    """The server holds the requests of a trip back."""

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        super().__init__("stopped")


def prunable(plan: Plan) -> Plan:
    """Return the plan with weights that may be pruned away."""
    return plan_from_dict(plan.to_dict() | {"pruning": {"sparsity": 0.5}})


@dataclass
class Theatre:
    """Five institutions, threshold four, one colluder: `bank-0` is the victim."""

    plan: Plan = field(default_factory=lambda: prunable(toy_plan(5)))
    banks: dict[str, Bank] = field(init=False)
    roster: Roster | None = field(init=False)
    model: GlobalModel = field(init=False)
    stop_at: type[wire.WireMessage] | None = None
    absent: frozenset[str] = frozenset()
    refused: dict[str, str] = field(default_factory=dict)
    replies: Requests = field(default_factory=dict)
    adverts: Adverts = field(default_factory=Adverts)

    def __post_init__(self) -> None:
        self.roster = seeded_roster(self.plan.names, 0)
        self.banks = {
            name: Bank(
                Institution(
                    name,
                    self.plan,
                    lambda: None,  # type: ignore[arg-type,return-value]
                    SeededEntropy(0, name),
                    Membership(seeded_identity(name, 0), self.roster),
                    memory_ledger(),
                ),
                0,
            )
            for name in self.plan.names
        }
        model = initial_model(self.plan, SeededEntropy(0).stream("initial-weights"))
        weights = np.linspace(0.1, 0.9, model.weights.size, dtype=np.float32)
        self.model = replace(model, weights=weights, epoch=1)

    def call(
        self, requests: Mapping[str, wire.WireMessage], expected: type[M], group: str
    ) -> dict[str, M]:
        replies = {}
        if self.stop_at is not None and isinstance(next(iter(requests.values())), self.stop_at):
            raise StopError(dict(requests))
        for name, request in requests.items():
            if name in self.absent and not isinstance(request, wire.AdvertiseRequest):
                continue
            record = self.banks[name].serve(request.to_record())
            if wire.kind_of(record) == wire.Refusal.kind:
                self.refused[name] = wire.Refusal.from_record(record).reason
            else:
                replies[name] = expected.from_record(record)
        self.replies |= replies
        return replies

    def held(self, trip: type[M], *absent: str) -> dict[str, M]:
        """Play until a trip and return its requests, undelivered; some may only send keys."""
        self.stop_at, self.absent = trip, frozenset(absent)
        try:
            Attempt(self.model, self.plan, "run", self).run()
        except StopError as stop:
            self.stop_at, self.absent = None, frozenset()
            held = {name: r for name, r in stop.requests.items() if isinstance(r, trip)}
            assert held
            return held
        raise AssertionError(f"no {trip.kind} was sent")

    def attempt(self) -> tuple[str, ...]:
        """Play an attempt to its end, honestly, and step to the next round."""
        attempt = Attempt(self.model, self.plan, "run", self)
        survivors, _ = attempt.run()
        model = replace(self.model, round=self.model.round + 1, epoch=self.model.epoch + 1)
        self.model = replace(model, offers=attempt.offers, holders=attempt.holders)
        return survivors

    def ask(self, request: wire.WireMessage, name: str = "bank-0") -> str:
        """Send one request; return the reason of its refusal, or the kind of the reply.

        A refusal must leave the institution as it was and compute nothing.
        """
        bank = self.banks[name]
        before, computed = (bank.memory, bank.institution.party.roster), len(bank.computed)
        record = bank.serve(request.to_record())
        unchanged = (bank.memory, bank.institution.party.roster) == before
        return self.reason(record, unchanged=unchanged, computed=computed, name=name)

    def last(self, name: str = "bank-0") -> bytes:
        """Return the last advert of an institution as the server knows it."""
        return self.adverts.of(self.roster)[name]

    def backup(self) -> Ledger:
        """Return a copy of the victim's ledger."""
        return Ledger(deepcopy(self.banks["bank-0"].institution.ledger._store), "simulated")

    def restore(self, backup: Ledger) -> None:
        """Put a copy in the place of the victim's ledger."""
        object.__setattr__(self.banks["bank-0"].institution, "ledger", backup)

    def send(self, record: RecordDict) -> str:
        """Send a raw message to the victim."""
        return self.reason(self.banks["bank-0"].serve(record))

    def reason(
        self, record: RecordDict, *, unchanged: bool = True, computed: int = 0, name: str = "bank-0"
    ) -> str:
        kind = wire.kind_of(record)
        if kind not in {wire.Refusal.kind, wire.Foreign.kind}:
            return kind
        assert unchanged, "a refusal changed what the institution keeps"
        if computed:
            assert len(self.banks[name].computed) == computed, "a refused request was worked on"
        if kind == wire.Foreign.kind:  # as the app says it, which adds who it is
            return OtherProtocolError.reason
        return wire.Refusal.from_record(record).reason


def described(
    request: wire.UpdateRequest, change: Callable[[RoundDescriptor], RoundDescriptor]
) -> wire.UpdateRequest:
    """Return the request with another descriptor."""
    descriptor = change(RoundDescriptor.from_json(request.descriptor))
    return replace(request, descriptor=descriptor.to_json())


def with_advert(
    request: wire.UpdateRequest, place: int, change: Callable[[Advert], Advert]
) -> wire.UpdateRequest:
    """Return the request with one advert changed."""
    adverts = list(request.adverts)
    adverts[place] = change(Advert.from_bytes(adverts[place])).to_bytes()
    return replace(request, adverts=adverts)


def session_of(request: wire.UpdateRequest) -> Session:
    """Return the session that an update request is of."""
    return Session.of(RoundDescriptor.from_json(request.descriptor))


def signed(advert: Advert, session: Session, name: str, signer: str | None = None) -> Advert:
    """Return an advert signed for a session and name, by that name's key unless another's."""
    advert = advert.model_copy(update={"session_tag": session.tag})
    key = seeded_identity(signer or name, 0).signing_private
    signature = keys.sign(key, keys.SIGNED_ADVERT, advert.statement(session.digest(), name))
    return advert.model_copy(update={"signature": signature})


def swapped(items: list[bytes], one: int, other: int) -> list[bytes]:
    """Return the list with two items in each other's place."""
    items = list(items)
    items[one], items[other] = items[other], items[one]
    return items


def flipped(data: bytes) -> bytes:
    """Return the bytes with one bit changed."""
    return bytes([data[0] ^ 1]) + data[1:]


def half_mask(theatre: Theatre, keep: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return a mask that keeps a share of the weights, what the plan protects among them."""
    return mask_keeping(theatre.plan, round(keep * theatre.model.mask.size))
