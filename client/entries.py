"""The lines of an institution's ledger: what each says, and the chain that holds them in order."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from client.refusals import LedgerAlteredError
from common.plan import RECORD
from common.privacy.accounting import SampledGaussian

Part = Literal["", "train", "validation", "test"]
Mark = Literal["epoch", "masked", "signed", "opened"]
Kind = Literal[
    "reserved", "charged", "stored", "revoked", "epoch", "masked", "signed", "opened", "closed"
]

GENESIS = "0" * 64
"""What the first entry follows."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a federation something happens: ``epoch`` counts attempts over all runs of a plan.

    ``plan_hash`` is lower-case hexadecimal.
    """

    run: str
    plan_hash: str
    round: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Release:
    """``steps`` Gaussian mechanisms on one part of the rows, at ``delta``.

    ``unit`` is whom they hide: a "record", or a customer by the column that names it.
    ``noise_multiplier`` 0 is a release without noise, which no epsilon covers.
    """

    part: Part
    noise_multiplier: float
    sample_rate: float
    steps: int
    delta: float
    unit: str = RECORD

    @property
    def mechanism(self) -> str:
        """The mechanism's name."""
        if self.noise_multiplier == 0:
            return "none"
        return "gaussian" if self.sample_rate == 1 else "poisson-sampled gaussian"

    @property
    def priced(self) -> SampledGaussian:
        """The mechanism as the accountants take it."""
        return SampledGaussian(self.noise_multiplier, self.sample_rate, self.steps)


@dataclass(frozen=True, slots=True)
class Budget:
    """All that a run of a plan may release. ``split`` names how rows fall into parts."""

    split: str
    releases: tuple[Release, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """The encoded, unmasked vector of a round, to be sent again bit for bit.

    ``binding`` says what it was computed from; ``mask`` is the packed mask of the round, ``b""``
    for none. ``vector`` is empty once its round was opened.
    """

    run: str
    round: int
    binding: str
    mask: bytes
    vector: bytes
    vector_sha256: str

    @classmethod
    def of(cls, place: Place, binding: str, mask: bytes, vector: bytes) -> "Kept":
        """Return the vector of a round with its hash."""
        return cls(place.run, place.round, binding, mask, vector, _sha256(vector))

    @property
    def digest(self) -> str:
        """What the ledger notes; it outlives the vector."""
        parts = (self.run, str(self.round), self.binding, _sha256(self.mask), self.vector_sha256)
        return _sha256("/".join(parts).encode())

    def erased(self) -> "Kept":
        """Return what stays once the vector is never to be sent again."""
        return replace(self, vector=b"")

    def require(self, noted: str) -> None:
        """Raise `LedgerAlteredError` unless this is what the ledger noted."""
        if self.digest != noted or (self.vector and _sha256(self.vector) != self.vector_sha256):
            raise LedgerAlteredError(
                f"the stored vector of round {self.round} is not the one the ledger noted:"
                " restore the ledger or begin a new run"
            )

    def __repr__(self) -> str:
        """Show where it belongs and nothing of it."""
        return f"Kept(run={self.run!r}, round={self.round})"


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The roster of a plan after revocations, and the hash of the approved one it shrank from.

    Approving another roster begins anew; nothing else takes a revocation back.
    """

    approved: str
    roster: bytes

    @property
    def digest(self) -> str:
        """What the ledger notes."""
        return _sha256(f"{self.approved}/{_sha256(self.roster)}".encode())

    def require(self, noted: str) -> None:
        """Raise `LedgerAlteredError` unless this is what the ledger noted."""
        if self.digest != noted:
            raise LedgerAlteredError(
                "the roster after revocations is not the one the ledger noted: restore the ledger"
            )


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an institution stands in a run; every default means "nothing yet".

    ``round``, ``binding``, ``mask`` and ``vector`` are of the last stored vector, ``epoch`` is
    the last one that keys were made for, ``opened`` the last round whose openings left.
    """

    run: str = ""
    round: int = -1
    epoch: int = -1
    opened: int = -1
    binding: str = ""
    mask: bytes = b""
    vector: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line; ``time`` is Unix seconds, ``previous`` the hash of the line before."""

    sequence: int
    time: int
    kind: Kind
    run: str
    plan_hash: str
    table: str
    split: str
    round: int
    epoch: int
    part: Part
    mechanism: str
    noise_multiplier: float
    sample_rate: float
    steps: int
    delta: float
    unit: str
    digest: str
    previous: str

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON form, which holds the hash of the line before."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return _sha256(b"fedprune/1/ledger/" + text.encode())

    @property
    def release(self) -> Release:
        """The release that a reserved or charged line speaks of."""
        return Release(
            self.part,
            self.noise_multiplier,
            self.sample_rate,
            self.steps,
            self.delta,
            self.unit,
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """A line before it has its place in the chain."""

    kind: Kind
    place: Place
    split: str = ""
    release: Release | None = None
    digest: str = ""


NOTHING = Release("", 0.0, 0.0, 0, 0.0, "")


def chained(
    drafts: Iterable[Draft], table: str, now: int, sequence: int, previous: str
) -> Iterator[Entry]:
    """Yield the lines that follow line ``sequence``, whose hash is ``previous``."""
    for number, draft in enumerate(drafts, start=sequence + 1):
        place, release = draft.place, draft.release or NOTHING
        entry = Entry(
            sequence=number,
            time=now,
            kind=draft.kind,
            run=place.run,
            plan_hash=place.plan_hash,
            table=table,
            split=draft.split,
            round=place.round,
            epoch=place.epoch,
            part=release.part,
            mechanism=release.mechanism if draft.release else "",
            noise_multiplier=float(release.noise_multiplier),
            sample_rate=float(release.sample_rate),
            steps=release.steps,
            delta=float(release.delta),
            unit=release.unit,
            digest=draft.digest,
            previous=previous,
        )
        previous = entry.hash
        yield entry


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
