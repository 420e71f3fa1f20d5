"""What institutions and the server exchange in secure aggregation, and the facts it is tied to.

A name never travels in these bodies: the transport knows the sender, and every hash, signature
and sealed share binds the name.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Self, final

import numpy as np
from pydantic import Field, ValidationError, model_validator

from common.crypto import merkle
from common.crypto.body import Body, Key, Signature, hash_facts
from common.crypto.keys import KEY_SIZE, SIGNATURE_SIZE, SIGNED_ADVERT, verify
from common.crypto.refusals import OtherRosterError, OtherSessionError
from common.crypto.roster import Roster
from common.crypto.sealing import OPENING_SIZE, SEALED_SIZE
from common.descriptor import RoundDescriptor
from common.errors import ProtocolError

_VERSION: Final = 3
_TAG_SIZE: Final = 8
_DIGEST_SIZE: Final = 32

Opening = Annotated[bytes, Field(min_length=OPENING_SIZE, max_length=OPENING_SIZE)]


@final
class Session(Body):
    """The attempt at a round that keys and shares belong to; hashes are hexadecimal SHA-256."""

    run: str
    plan_hash: str
    roster_hash: str
    round: int
    epoch: int

    @classmethod
    def of(cls, descriptor: RoundDescriptor) -> Self:
        """Return the session a descriptor belongs to."""
        return cls(**{name: getattr(descriptor, name) for name in cls.model_fields})

    def following(self) -> "Session":
        """Return the session of the next round, if this attempt succeeds."""
        return self.model_copy(update={"round": self.round + 1, "epoch": self.epoch + 1})

    def digest(self) -> bytes:
        """Return a 32-byte hash of the session."""
        return hash_facts("session", self.model_dump())

    @property
    def tag(self) -> bytes:
        """Eight bytes that tell a stale message from a current one; no proof of origin."""
        return self.digest()[:_TAG_SIZE]

    def require(self, descriptor: RoundDescriptor) -> None:
        """Return if the descriptor is of this session.

        Raises:
            OtherRosterError: it names another roster.
            OtherSessionError: another of its facts differs.
        """
        for name, mine in self.model_dump().items():
            theirs = getattr(descriptor, name)
            if theirs != mine:
                refusal = OtherRosterError if name == "roster_hash" else OtherSessionError
                raise refusal(
                    f"the descriptor's {name} is {theirs!r}, the keys belong to {mine!r}:"
                    " advertise for the new session"
                )


@final
class Advert(Body):
    """An institution's public keys for one session and what it commits to: 209 bytes as sent.

    ``mask_public`` makes pair masks, ``seal_public`` only seals shares: the server may rebuild
    the first one's private key without learning any share. ``root`` is the Merkle root over the
    sealed shares in the order of the roster. ``sequence`` is how many lines the owner's ledger had
    when it noted the session: a ledger with fewer has lost some. The owner signs all of it.
    """

    session_tag: Annotated[bytes, Field(min_length=_TAG_SIZE, max_length=_TAG_SIZE)]
    mask_public: Key
    seal_public: Key
    seed_hash: Key
    root: Key
    sequence: Annotated[int, Field(ge=0, lt=2**64)]
    signature: Signature

    def statement(self, session: bytes, name: str) -> bytes:
        """Return what the owner signs for the session of this digest."""
        return advert_statement(session, name, self.head, self.root, self.sequence)

    @property
    def head(self) -> bytes:
        """Both keys and the seed's hash, 96 bytes: what sealed shares are bound to."""
        return self.mask_public + self.seal_public + self.seed_hash

    def require(self, session: Session, roster: Roster, name: str) -> None:
        """Return if ``name`` signed this advert for this session.

        Raises:
            RevokedPeerError, UnknownPeerError: the roster has no such member.
            OtherSessionError: the advert names another session.
            BadSignatureError: it is not signed by the roster's key for that name.
        """
        LastAdvert(session.digest(), self).require(roster, name)

    def to_bytes(self) -> bytes:
        """Return version, session tag, keys, seed hash, root, sequence and signature."""
        return _ADVERT.pack(
            _VERSION,
            self.session_tag,
            self.mask_public,
            self.seal_public,
            self.seed_hash,
            self.root,
            self.sequence,
            self.signature,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form; raise `ProtocolError` on anything else."""
        if len(data) != _ADVERT.size or data[0] != _VERSION:
            raise ProtocolError(
                f"an advert of {len(data)} bytes is not version {_VERSION} with {_ADVERT.size}"
            )
        _, tag, mask_public, seal_public, seed_hash, root, sequence, signature = _ADVERT.unpack(
            data
        )
        return cls(
            session_tag=tag,
            mask_public=mask_public,
            seal_public=seal_public,
            seed_hash=seed_hash,
            root=root,
            sequence=sequence,
            signature=signature,
        )


_ADVERT: Final = struct.Struct(f"<B{_TAG_SIZE}s" + f"{KEY_SIZE}s" * 4 + f"Q{SIGNATURE_SIZE}s")
ADVERT_SIZE: Final = _ADVERT.size


def advert_statement(session: bytes, name: str, head: bytes, root: bytes, sequence: int) -> bytes:
    """Return the bytes an advert's signature covers, for a session's digest."""
    return hash_facts("advert", [session.hex(), name, sequence]) + head + root


@dataclass(frozen=True, slots=True)
class LastAdvert:
    """An advert with the digest of its session: its owner knows it again in any later run."""

    session: bytes
    advert: Advert

    def require(self, roster: Roster, name: str) -> None:
        """Return if ``name`` signed this advert, for whichever session it was.

        Raises:
            RevokedPeerError, UnknownPeerError: the roster has no such member.
            OtherSessionError: the advert names another session than the digest's.
            BadSignatureError: it is not signed by the roster's key for that name.
        """
        member = roster.member(name)
        if self.advert.session_tag != self.session[:_TAG_SIZE]:
            raise OtherSessionError(f"the advert of {name!r} belongs to another session")
        statement = self.advert.statement(self.session, name)
        verify(member.signing_public, SIGNED_ADVERT, statement, self.advert.signature)

    def to_bytes(self) -> bytes:
        """Return the session's digest and the advert."""
        return self.session + self.advert.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form; raise `ProtocolError` on anything else."""
        return cls(data[:_DIGEST_SIZE], Advert.from_bytes(data[_DIGEST_SIZE:]))


def share_context(
    session: Session, threshold: int, direction: tuple[str, str], public_keys: bytes
) -> bytes:
    """Return what the keys of one deal are bound to.

    ``direction`` is dealer and receiver, ``public_keys`` the dealer's advert head and the
    receiver's roster key.
    """
    return hash_facts("share", [session.model_dump(), threshold, *direction]) + public_keys


def seed_hash(seed: bytes, session: Session, name: str) -> bytes:
    """Commit to a self-mask seed, so that a wrongly rebuilt one is noticed; 32 bytes."""
    return hash_facts("seed", [session.model_dump(), name, seed.hex()])


@dataclass(frozen=True, slots=True)
class Offer:
    """An institution's keys for one session and what it dealt, by the order of the roster."""

    advert: Advert
    sealed: tuple[bytes, ...]

    def to_bytes(self) -> tuple[bytes, bytes]:
        """Return the advert, and the sealed shares one after the other."""
        return self.advert.to_bytes(), b"".join(self.sealed)

    @classmethod
    def from_bytes(cls, advert: bytes, sealed: bytes, members: int) -> Self:
        """Parse `to_bytes`' form for so many members; raise `ProtocolError` on anything else."""
        if len(sealed) != members * SEALED_SIZE:
            raise ProtocolError(
                f"{len(sealed)} bytes are not {members} sealed shares of {SEALED_SIZE}"
            )
        parts = tuple(sealed[at : at + SEALED_SIZE] for at in range(0, len(sealed), SEALED_SIZE))
        return cls(Advert.from_bytes(advert), parts)


@dataclass(frozen=True, slots=True)
class Parcel:
    """What the server forwards to one institution from one dealer."""

    advert: Advert
    sealed: bytes
    path: bytes

    def require_dealt(self, roster: Roster, receiver: str) -> None:
        """Raise `ShareAlteredError` unless the advert's root holds this share for ``receiver``."""
        place = roster.names.index(receiver)
        merkle.require(self.advert.root, self.sealed, place, len(roster.names), self.path)


@final
class Reveal(Body):
    """The keys of one share for each member of the sorted cohort: what opens a sum.

    The share is of the member's self-mask seed where it survived and of its mask key where it
    did not, so that both of one member cannot even be written down. An opening is None where
    the dealer's shares did not open.
    """

    survived: tuple[bool, ...]
    openings: tuple[Opening | None, ...] = Field(repr=False)

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if len(self.survived) != len(self.openings):
            raise ValueError("a reveal has one opening for each member of the cohort")
        return self

    def to_bytes(self) -> bytes:
        """Return version, cohort size, bitmaps of survivors and openings, 16-byte openings."""
        given = [opening for opening in self.openings if opening is not None]
        return (
            struct.pack("<BH", _VERSION, len(self.openings))
            + bitmap(self.survived)
            + bitmap([opening is not None for opening in self.openings])
            + b"".join(given)
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form; raise `ProtocolError` on anything else."""
        header = struct.Struct("<BH")
        version, count = header.unpack(data[: header.size].ljust(header.size, b"\0"))
        width = (count + 7) // 8
        body = header.size + 2 * width
        survived = from_bitmap(data[header.size : header.size + width], count)
        given = from_bitmap(data[header.size + width : body], count)
        if version != _VERSION or len(data) != body + OPENING_SIZE * sum(given):
            raise ProtocolError(
                f"a reveal of {len(data)} bytes is not version {_VERSION} with {sum(given)} of"
                f" {count} openings"
            )
        parts = (data[at : at + OPENING_SIZE] for at in range(body, len(data), OPENING_SIZE))
        try:
            return cls(survived=survived, openings=tuple(next(parts) if g else None for g in given))
        except ValidationError as error:
            raise ProtocolError("a reveal cannot be read") from error


def bitmap(flags: Sequence[bool]) -> bytes:
    """Pack flags, low bit first."""
    return np.packbits(np.array(flags, bool), bitorder="little").tobytes()


def from_bitmap(data: bytes, count: int) -> tuple[bool, ...]:
    """Invert `bitmap`; raise `ProtocolError` on another size or padding that is not zero."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if len(data) != (count + 7) // 8 or bits[count:].any():
        raise ProtocolError(f"{len(data)} bytes are not a bitmap of {count}")
    return tuple(bits[:count].astype(bool).tolist())


def survivors_statement(digest: bytes, survivors: Sequence[str]) -> bytes:
    """Return what is signed about a survivor set: the descriptor's digest and the names."""
    return digest + hash_facts("survivors", sorted(survivors))


def reveal_statement(digest: bytes, survivors: Sequence[str], reveal: bytes) -> bytes:
    """Return what is signed about a reveal: descriptor, survivors and its bytes."""
    return survivors_statement(digest, survivors) + hashlib.sha256(reveal).digest()


def vector_statement(digest: bytes, packed: bytes) -> bytes:
    """Return what is signed about a masked vector: the descriptor's digest and the values."""
    return digest + hashlib.sha256(packed).digest()
