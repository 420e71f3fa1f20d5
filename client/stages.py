"""An institution's answers: one function a trip, memory and request in, memory and reply out.

The trip that trains stands in `client.update`. Stock Flower starts a process a message, so
these import neither torch nor pandas.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from client.entries import Mark, Place, Shrunk, Standing
from client.ledger import Clock, Ledger, memory_ledger
from client.memory import Memory
from client.policy import require_epoch, require_run
from common import messages as wire
from common.consent.approval import Consent
from common.crypto import secagg
from common.crypto.refusals import OtherRosterError
from common.crypto.roster import Identity, Roster, roster_hash
from common.crypto.secagg import Party
from common.crypto.session import LastAdvert, Offer, Session
from common.crypto.stages import Prepared, State
from common.entropy import Entropy
from common.errors import ProtocolError
from common.plan import Plan
from common.segments import require_releasable
from common.trail.events import Joined, Opened, Shrank
from common.trail.interface import Trail, Untold
from common.trail.lines import hash_of

if TYPE_CHECKING:
    from client.data import Splits


@dataclass(frozen=True)
class Membership:
    """What secure aggregation asks of a member: its private keys, and the roster it approved."""

    identity: Identity = field(repr=False)
    roster: Roster


def _approved_by_hand(now: int) -> None:
    """Hold: the hashes in the client file are all the consent there is."""


@dataclass(frozen=True)
class Institution:
    """A member: its name, the plan it approved, where its prepared rows come from, its entropy.

    Plain aggregation needs no membership. ``consent`` raises once a round may no longer begin.
    ``home`` is its folder, which a simulated one has not.
    """

    name: str
    plan: Plan
    rows: Callable[[], Splits]
    entropy: Entropy
    membership: Membership | None = None
    ledger: Ledger = field(default_factory=memory_ledger, repr=False)
    clock: Clock = time.time
    consent: Consent = _approved_by_hand
    trail: Trail = field(default_factory=Untold, repr=False)
    home: Path | None = None

    @cached_property
    def splits(self) -> Splits:
        """The prepared rows, read when first needed."""
        return self.rows()

    @property
    def party(self) -> Party:
        """Who acts in secure aggregation, under the roster after revocations."""
        approved = self.member.roster
        shrunk = self.ledger.roster(self.plan.digest(), approved.digest)
        roster = _roster(shrunk) if shrunk else approved
        return Party(self.name, self.member.identity, roster, self.plan.terms)

    @property
    def member(self) -> Membership:
        """Its membership; raises `OtherRosterError` if it has none."""
        if self.membership is None:
            raise OtherRosterError("this institution has no keys: name them in its client file")
        return self.membership

    @property
    def roster_hash(self) -> str:
        """The hash of the roster that a descriptor must name."""
        if self.plan.aggregation.kind == "plain":
            return roster_hash(self.plan.names)
        return self.party.roster.digest

    @property
    def now(self) -> int:
        """Unix seconds."""
        return int(self.clock())

    def require_consent(self) -> None:
        """Raise `ConsentError` once what was approved no longer is, or has expired."""
        self.consent(self.now)

    def standing(self, run: str) -> Standing:
        """Return what the ledger notes of a run under the approved plan."""
        return self.ledger.standing(run, self.plan.digest())

    def mark(self, mark: Mark, session: Session) -> int:
        """Note a use of an epoch's keys, once, before its result leaves; return the line."""
        place = Place(session.run, session.plan_hash, session.round, session.epoch)
        return self.ledger.mark(mark, place, self.now, hash_of(self.trail.head))

    def require_current(self, last: LastAdvert) -> None:
        """Refuse a ledger that lost lines since this institution signed its last advert.

        Raises:
            OtherSessionError, BadSignatureError, RevokedPeerError: it did not sign this one.
            LedgerBehindError: it did, and the ledger is an old copy.
        """
        last.require(self.party.roster, self.name)
        self.ledger.require_current(last.advert.sequence)


_roster = lru_cache(maxsize=4)(Roster.from_bytes)


def join(
    institution: Institution, memory: Memory, request: wire.JoinRequest
) -> tuple[Memory, wire.JoinReply]:
    """Say who this is and which plan it approved.

    A table that does not fit keeps it from joining, and so do a run beyond its limits and a ledger
    older than its last advert.
    """
    from client.spending import budget_of  # noqa: PLC0415

    institution.require_consent()
    require_releasable(institution.plan)
    if known := by_name(request.names, request.adverts).get(institution.name):
        institution.require_current(LastAdvert.from_bytes(known))
    _ = institution.splits
    plan_hash = institution.plan.digest()
    place = Place(request.run, plan_hash, -1, -1)
    institution.ledger.require_room(place, budget_of(institution.plan), institution.now)
    epoch = institution.standing(request.run).epoch
    trail = institution.trail
    trail.append(Joined(run=request.run, plan=plan_hash, head=request.head.hex()))
    return memory, wire.JoinReply(institution.name, plan_hash, epoch, head=trail.head)


def advertise(
    institution: Institution, memory: Memory, request: wire.AdvertiseRequest
) -> tuple[Memory, wire.AdvertiseReply]:
    """Begin an epoch with fresh keys: at the start, after an absence, or to repeat a round."""
    institution.require_consent()
    require_run(memory, request.run)
    if request.advert:
        institution.require_current(LastAdvert.from_bytes(request.advert))
    standing = institution.standing(request.run)
    require_epoch(standing, request.round, request.epoch, institution.plan)
    _revoke(institution, request)
    party = institution.party
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
    sequence = institution.mark("epoch", session)
    stream = institution.entropy.stream(f"epoch-{session.epoch}/advertise")
    return secagg.advertise(party, session, sequence, stream)


def sign(
    institution: Institution, memory: Memory, request: wire.SignRequest
) -> tuple[Memory, wire.SignReply]:
    """Put this institution's name to a survivor set, when not all of the cohort survived."""
    state = State.from_bytes(memory.secrets)
    masked = state.masked_for(request.digest, request.survivors)
    signed, signature = secagg.sign(institution.party, masked, request.survivors)
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
    party = institution.party
    revealed, reveal = secagg.reveal(party, masked, request.survivors, signatures)
    packed = reveal.to_bytes()
    reply = wire.UnmaskReply(packed, secagg.sign_reveal(party, revealed, packed))
    state = state.model_copy(update={"current": revealed})
    run, number, epoch = masked.session.run, masked.session.round, masked.session.epoch
    survivors = tuple(sorted(request.survivors))
    institution.trail.append(Opened(run=run, round=number, epoch=epoch, survivors=survivors))
    institution.mark("opened", masked.session)
    return replace(memory, secrets=state.to_bytes()), reply


def by_name(names: list[str], values: list[bytes]) -> dict[str, bytes]:
    """Pair a message's two lists; raise `ProtocolError` unless they fit one to one."""
    if len(names) != len(values) or len(set(names)) != len(names):
        raise ProtocolError("names and values do not pair up one to one")
    return dict(zip(names, values, strict=True))


def _revoke(institution: Institution, request: wire.AdvertiseRequest) -> None:
    """Take over a roster that revokes members, for good; one that adds any needs approval."""
    party = institution.party
    if not request.roster or request.roster == party.roster.to_bytes():
        return
    later = _roster(request.roster)
    party.roster.require_shrinks_to(later)
    # Nothing could take it back, so it must leave enough to go on with.
    later.member(institution.name)
    party.terms.require(len(later.names))
    place = Place(request.run, institution.plan.digest(), request.round, request.epoch)
    shrunk = Shrunk(institution.member.roster.digest, request.roster)
    revoked = tuple(sorted(later.revoked))
    institution.trail.append(Shrank(run=request.run, roster=later.digest, revoked=revoked))
    institution.ledger.revoke(place, shrunk, institution.now)
