"""An institution's answers: one function a trip, memory and request in, memory and reply out.

The trip that trains stands in `client.update`. Stock Flower starts a process a message, so
these import neither torch nor pandas.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from client.entries import Mark, Place, Standing
from client.ledger import Clock, Ledger, memory_ledger
from client.memory import Memory
from client.policy import require_epoch, require_run
from common import messages as wire
from common.crypto import secagg
from common.crypto.refusals import OtherRosterError
from common.crypto.roster import Identity, Roster, roster_hash
from common.crypto.secagg import Party
from common.crypto.session import Offer, Session
from common.crypto.stages import Prepared, State
from common.entropy import Entropy
from common.errors import ProtocolError
from common.plan import Plan

if TYPE_CHECKING:
    from client.data import Splits


@dataclass(frozen=True)
class Membership:
    """What secure aggregation asks of a member: its private keys, and the roster it approved."""

    identity: Identity = field(repr=False)
    roster: Roster


@dataclass(frozen=True)
class Institution:
    """A member: its name, the plan it approved, where its prepared rows come from, its entropy.

    Plain aggregation needs no membership.
    """

    name: str
    plan: Plan
    rows: Callable[[], Splits]
    entropy: Entropy
    membership: Membership | None = None
    ledger: Ledger = field(default_factory=memory_ledger, repr=False)
    clock: Clock = time.time

    @cached_property
    def splits(self) -> Splits:
        """The prepared rows, read when first needed."""
        return self.rows()

    def party(self, memory: Memory) -> Party:
        """Return who acts in secure aggregation, under the roster after revocations."""
        if self.membership is None:
            raise OtherRosterError("this institution has no keys: name them in its client file")
        roster = _roster(memory.roster) if memory.roster else self.membership.roster
        return Party(self.name, self.membership.identity, roster, self.plan.terms)

    def approved_roster(self, memory: Memory) -> str:
        """Return the hash of the roster that a descriptor must name."""
        if self.plan.aggregation.kind == "plain":
            return roster_hash(self.plan.names)
        return self.party(memory).roster.digest

    @property
    def now(self) -> int:
        """Unix seconds."""
        return int(self.clock())

    def standing(self, run: str) -> Standing:
        """Return what the ledger notes of a run under the approved plan."""
        return self.ledger.standing(run, self.plan.digest())

    def mark(self, mark: Mark, session: Session) -> None:
        """Note a use of an epoch's keys before its result leaves; each happens once."""
        place = Place(session.run, session.plan_hash, session.round, session.epoch)
        self.ledger.mark(mark, place, self.now)


_roster = lru_cache(maxsize=4)(Roster.from_bytes)


def join(
    institution: Institution, memory: Memory, request: wire.JoinRequest
) -> tuple[Memory, wire.JoinReply]:
    """Say who this is and which plan it approved.

    A table that does not fit keeps it from joining, and so does a run beyond its limits.
    """
    from client.spending import budget_of  # noqa: PLC0415

    _ = institution.splits
    plan_hash = institution.plan.digest()
    place = Place(request.run, plan_hash, -1, -1)
    institution.ledger.require_room(place, budget_of(institution.plan), institution.now)
    epoch = institution.standing(request.run).epoch
    return memory, wire.JoinReply(institution.name, plan_hash, epoch)


def advertise(
    institution: Institution, memory: Memory, request: wire.AdvertiseRequest
) -> tuple[Memory, wire.AdvertiseReply]:
    """Begin an epoch with fresh keys: at the start, after an absence, or to repeat a round."""
    require_run(memory, request.run)
    standing = institution.standing(request.run)
    require_epoch(standing, request.round, request.epoch, institution.plan)
    memory = _revoked(institution, memory, request.roster)
    party = institution.party(memory)
    session = Session(
        run=request.run,
        plan_hash=institution.plan.digest(),
        roster_hash=party.roster.digest,
        round=request.round,
        epoch=request.epoch,
    )
    prepared, offer = prepare(institution, party, session)
    # Whatever was masked before can no longer be opened: its round begins anew.
    state = State(prepared=prepared)
    memory = replace(memory, run=request.run, secrets=state.to_bytes())
    return memory, wire.AdvertiseReply(*offer.to_bytes())


def prepare(institution: Institution, party: Party, session: Session) -> tuple[Prepared, Offer]:
    """Make and deal the keys of a session, whose epoch is spent by that."""
    institution.mark("epoch", session)
    stream = institution.entropy.stream(f"epoch-{session.epoch}/advertise")
    return secagg.advertise(party, session, stream)


def sign(
    institution: Institution, memory: Memory, request: wire.SignRequest
) -> tuple[Memory, wire.SignReply]:
    """Put this institution's name to a survivor set, when not all of the cohort survived."""
    state = State.from_bytes(memory.secrets)
    masked = state.masked_for(request.digest, request.survivors)
    signed, signature = secagg.sign(institution.party(memory), masked, request.survivors)
    institution.mark("signed", masked.session)
    state = state.model_copy(update={"current": signed})
    return replace(memory, secrets=state.to_bytes()), wire.SignReply(signature)


def unmask(
    institution: Institution, memory: Memory, request: wire.UnmaskRequest
) -> tuple[Memory, wire.UnmaskReply]:
    """Open this institution's part of the sum over the survivors, once."""
    state = State.from_bytes(memory.secrets)
    masked = state.masked_for(request.digest, request.survivors)
    signatures = by_name(request.signers, request.signatures)
    party = institution.party(memory)
    revealed, reveal = secagg.reveal(party, masked, request.survivors, signatures)
    packed = reveal.to_bytes()
    reply = wire.UnmaskReply(packed, secagg.sign_reveal(party, revealed, packed))
    state = state.model_copy(update={"current": revealed})
    institution.mark("opened", masked.session)
    return replace(memory, secrets=state.to_bytes()), reply


def by_name(names: list[str], values: list[bytes]) -> dict[str, bytes]:
    """Pair a message's two lists; raise `ProtocolError` unless they fit one to one."""
    if len(names) != len(values) or len(set(names)) != len(names):
        raise ProtocolError("names and values do not pair up one to one")
    return dict(zip(names, values, strict=True))


def _revoked(institution: Institution, memory: Memory, roster: bytes) -> Memory:
    """Take over a roster that revokes members; one that adds any needs approval."""
    if not roster:
        return memory
    institution.party(memory).roster.require_shrinks_to(_roster(roster))
    return replace(memory, roster=roster)
