"""What institutions and the server exchange in secure aggregation, and the facts it is tied to.

A name never travels in these bodies: the transport knows the sender, and every hash and
every sealed share binds the name.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Self, final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.crypto.keys import KEY_SIZE
from common.crypto.refusals import OtherSessionError
from common.crypto.shamir import SHARE_SIZE
from common.descriptor import RoundDescriptor
from common.errors import ProtocolError

_VERSION: Final = 1
_TAG_SIZE: Final = 8

Key = Annotated[bytes, Field(min_length=KEY_SIZE, max_length=KEY_SIZE)]
Share = Annotated[bytes, Field(min_length=SHARE_SIZE, max_length=SHARE_SIZE)]


class Body(BaseModel):
    """Frozen, strictly typed; unknown fields are refused, and errors repeat no input."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        ser_json_bytes="hex",
        val_json_bytes="hex",
    )


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

    def digest(self) -> bytes:
        """Return a 32-byte hash of the session."""
        return _hash("session", self.model_dump())

    @property
    def tag(self) -> bytes:
        """Eight bytes that tell a stale message from a current one; no proof of origin."""
        return self.digest()[:_TAG_SIZE]

    def require(self, descriptor: RoundDescriptor) -> None:
        """Raise `OtherSessionError`, naming the field, unless the descriptor is of this session."""
        for name, mine in self.model_dump().items():
            theirs = getattr(descriptor, name)
            if theirs != mine:
                raise OtherSessionError(
                    f"the descriptor's {name} is {theirs!r}, the keys belong to {mine!r}:"
                    " advertise for the new session"
                )


@final
class Advert(Body):
    """An institution's public keys for one session: 105 bytes as sent.

    ``mask_public`` makes pair masks, ``seal_public`` only seals shares: the server may rebuild
    the first one's private key without learning any share.
    """

    session_tag: Annotated[bytes, Field(min_length=_TAG_SIZE, max_length=_TAG_SIZE)]
    mask_public: Key
    seal_public: Key
    seed_hash: Key

    def to_bytes(self) -> bytes:
        """Return version, session tag, keys and seed hash."""
        return (
            bytes([_VERSION])
            + self.session_tag
            + self.mask_public
            + self.seal_public
            + self.seed_hash
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form; raise `ProtocolError` on anything else."""
        layout = struct.Struct(f"B{_TAG_SIZE}s{KEY_SIZE}s{KEY_SIZE}s{KEY_SIZE}s")
        if len(data) != layout.size or data[0] != _VERSION:
            raise ProtocolError(
                f"an advert of {len(data)} bytes is not version {_VERSION} with {layout.size}"
            )
        _, tag, mask_public, seal_public, seed_hash = layout.unpack(data)
        return cls(
            session_tag=tag, mask_public=mask_public, seal_public=seal_public, seed_hash=seed_hash
        )


@final
class Reveal(Body):
    """One share for each member of the sorted cohort: what opens a sum.

    The share is of the member's self-mask seed where it survived and of its mask key where it
    did not, so that both of one member cannot even be written down.
    """

    survived: tuple[bool, ...]
    shares: tuple[Share, ...] = Field(repr=False)

    @model_validator(mode="after")
    def _one_share_each(self) -> Self:
        if len(self.survived) != len(self.shares):
            raise ValueError("a reveal holds one share for each member of the cohort")
        return self

    def to_bytes(self) -> bytes:
        """Return version, cohort size, bitmap of survivors (low bit first) and 33-byte shares."""
        bitmap = np.packbits(np.array(self.survived, bool), bitorder="little").tobytes()
        return struct.pack("<BH", _VERSION, len(self.shares)) + bitmap + b"".join(self.shares)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form; raise `ProtocolError` on anything else."""
        header = struct.Struct("<BH")
        version, count = header.unpack(data[: header.size].ljust(header.size, b"\0"))
        body = header.size + (count + 7) // 8
        if version != _VERSION or len(data) != body + count * SHARE_SIZE:
            raise ProtocolError(
                f"a reveal of {len(data)} bytes is not version {_VERSION} with {count} shares"
            )
        bits = np.unpackbits(np.frombuffer(data[header.size : body], np.uint8), bitorder="little")
        if bits[count:].any():
            raise ProtocolError("the padding bits of a reveal are not zero")
        shares = (data[at : at + SHARE_SIZE] for at in range(body, len(data), SHARE_SIZE))
        return cls(survived=tuple(bits[:count].astype(bool).tolist()), shares=tuple(shares))


def share_points(names: Iterable[str]) -> dict[str, int]:
    """Return the Shamir point of every institution that shares are dealt to."""
    return {name: point for point, name in enumerate(sorted(names), 1)}


def deal_digest(session: Session, names: Sequence[str], threshold: int) -> bytes:
    """Hash what dealer and receiver must agree on about one deal: session, receivers, threshold."""
    return _hash("deal", [session.model_dump(), sorted(names), threshold])


def share_context(deal: bytes, sender: str, advert: Advert, receiver: str) -> bytes:
    """Return the associated data of one sealed share; ``advert`` is the sender's."""
    return deal + _hash("direction", [sender, receiver]) + advert.to_bytes()


def seed_hash(seed: bytes, session: Session, name: str) -> bytes:
    """Commit to a self-mask seed, so that a wrongly rebuilt one is noticed; 32 bytes."""
    return _hash("seed", [session.model_dump(), name, seed.hex()])


def _hash(label: str, facts: object) -> bytes:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"fedprune/1/{label}/{text}".encode()).digest()
