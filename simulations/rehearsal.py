"""Secure aggregation alone, all parties in one process: for tests, vectors and measurements."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from common.crypto import opening, secagg
from common.crypto.ring import RingVector
from common.crypto.roster import Identity, Roster
from common.crypto.secagg import Accepted, Party
from common.crypto.session import Offer, Parcel, Reveal, Session
from common.crypto.stages import Masked, Prepared, Revealed
from common.crypto.terms import Terms, default_threshold
from common.descriptor import RoundDescriptor, Segment
from common.entropy import SeededEntropy


def seeded_identity(name: str, seed: int) -> Identity:
    """Return the private keys of an institution that is only simulated."""
    return Identity.generate(SeededEntropy(seed, name).stream("identity"))


def seeded_roster(names: Collection[str], seed: int) -> Roster:
    """Return the roster of simulated institutions."""
    return Roster(members={name: seeded_identity(name, seed).member(name) for name in names})


@dataclass(frozen=True)
class Rehearsal:
    """Institutions that follow the protocol, and an epoch they are in."""

    names: tuple[str, ...]
    terms: Terms
    seed: int = 0
    round: int = 3
    epoch: int = 5
    run: str = "run"
    plan_hash: str = "aa"
    bits: int = 24
    length: int = 40
    sequence: int = 7

    @classmethod
    def of(cls, size: int, colluders: int = 1) -> "Rehearsal":
        """Return as many institutions under the default threshold."""
        names = tuple(f"bank-{place:04}" for place in range(size))
        return cls(names, Terms(default_threshold(size), colluders))

    @cached_property
    def roster(self) -> Roster:
        """The public keys of all."""
        return seeded_roster(self.names, self.seed)

    @cached_property
    def parties(self) -> dict[str, Party]:
        """Each institution as it acts."""
        return {
            name: Party(name, seeded_identity(name, self.seed), self.roster, self.terms)
            for name in self.names
        }

    @property
    def session(self) -> Session:
        """The epoch's session."""
        return Session(
            run=self.run,
            plan_hash=self.plan_hash,
            roster_hash=self.roster.digest,
            round=self.round,
            epoch=self.epoch,
        )

    def descriptor(self, cohort: Collection[str] | None = None) -> RoundDescriptor:
        """Return the descriptor for a cohort, all by default."""
        return RoundDescriptor(
            **self.session.model_dump(),
            cohort=tuple(sorted(self.names if cohort is None else cohort)),
            threshold=self.terms.threshold,
            ring_bits=self.bits,
            model_hash="cc",
            mask_hash="dd",
            segments=(Segment("update", self.length, 10.0, 1.0),),
        )

    @cached_property
    def advertised(self) -> dict[str, tuple[Prepared, Offer]]:
        """What each institution keeps and sends to begin the epoch."""
        return {
            name: secagg.advertise(
                party,
                self.session,
                self.sequence,
                SeededEntropy(self.seed, name).stream(f"keys-{self.epoch}"),
            )
            for name, party in self.parties.items()
        }

    @property
    def offers(self) -> dict[str, Offer]:
        """What each institution sends to begin the epoch."""
        return {name: offer for name, (_, offer) in self.advertised.items()}

    def parcels(self, cohort: Collection[str] | None = None) -> dict[str, dict[str, Parcel]]:
        """Return what the server forwards, by receiver and dealer."""
        return opening.parcels(self.offers, self.roster, sorted(cohort or self.names))

    def accept(
        self,
        name: str,
        descriptor: RoundDescriptor | None = None,
        parcels: Mapping[str, Parcel] | None = None,
    ) -> Accepted:
        """Let one institution check a round."""
        descriptor = descriptor or self.descriptor()
        if parcels is None:
            parcels = self.parcels(descriptor.cohort)[name]
        return secagg.accept(self.parties[name], self.advertised[name][0], descriptor, parcels)

    def mask(
        self, vectors: Mapping[str, RingVector], cohort: Collection[str] | None = None
    ) -> "Performance":
        """Let every member of the cohort mask its vector."""
        descriptor = self.descriptor(cohort)
        parcels = self.parcels(descriptor.cohort)
        done = {
            name: secagg.mask(self.accept(name, descriptor, parcels[name]), vectors[name])
            for name in descriptor.cohort
        }
        return Performance(
            self,
            descriptor,
            self.offers,
            {name: stage for name, (stage, _) in done.items()},
            {name: masked for name, (_, masked) in done.items()},
        )

    def shrunk(self, *revoked: str) -> "Rehearsal":
        """Return the same institutions under a roster without some."""
        later = replace(self, names=tuple(name for name in self.names if name not in revoked))
        later.__dict__["roster"] = self.roster.without(*revoked)
        return later


@dataclass(frozen=True)
class Performance:
    """An epoch whose vectors are out; any part may be replaced by a worse one."""

    rehearsal: Rehearsal
    descriptor: RoundDescriptor
    offers: dict[str, Offer]
    stages: dict[str, Masked]
    masked: dict[str, RingVector]

    def sign(
        self, survivors: Collection[str], signers: Collection[str] | None = None
    ) -> dict[str, bytes]:
        """Return the survivors' signatures, of all of them by default."""
        return {
            name: secagg.sign(self.rehearsal.parties[name], self.stages[name], survivors)[1]
            for name in (survivors if signers is None else signers)
        }

    def reveal(
        self, name: str, survivors: Collection[str], signatures: Mapping[str, bytes]
    ) -> tuple[Revealed, Reveal]:
        """Let one institution open its part."""
        party = self.rehearsal.parties[name]
        return secagg.reveal(party, self.stages[name], survivors, signatures)

    def reveals(
        self, survivors: Collection[str], bearers: Collection[str] | None = None
    ) -> dict[str, Reveal]:
        """Return the openings of the bearers, all survivors by default, with all signatures."""
        whole = set(survivors) == set(self.descriptor.cohort)
        signatures = {} if whole else self.sign(survivors)
        return {
            name: self.reveal(name, survivors, signatures)[1]
            for name in (survivors if bearers is None else bearers)
        }

    def open(
        self,
        survivors: Collection[str],
        reveals: Mapping[str, Reveal] | None = None,
        masked: Mapping[str, RingVector] | None = None,
    ) -> opening.Opened:
        """Open the sum as the server does."""
        vectors = masked or {name: self.masked[name] for name in survivors}
        reveals = self.reveals(survivors) if reveals is None else reveals
        return opening.unmask(self.descriptor, self.rehearsal.roster, self.offers, vectors, reveals)
