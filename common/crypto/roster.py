"""Who takes part and with which keys, under one hash that every key and descriptor is bound to.

An institution approves a roster by its hash, out of band. Only a smaller one is taken without
asking: a revocation can exclude but never smuggle in.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Self, final

from pydantic import Field, ValidationError, model_validator

from common.crypto.body import Body, Key, Name, Signature, hash_facts
from common.crypto.keys import KEY_SIZE, SIGNED_MEMBER, public_key, sign, verify, verifying_key
from common.crypto.refusals import RevokedPeerError, RosterGrewError, UnknownPeerError
from common.entropy import Stream
from common.errors import ProtocolError


@final
class Member(Body):
    """An institution's long-lived public keys, and its signature that they are its own."""

    signing_public: Key
    agreement_public: Key
    signature: Signature


@final
class Roster(Body):
    """The members by name, and the names of those that were revoked."""

    members: dict[Name, Member]
    revoked: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        keys = [
            key
            for member in self.members.values()
            for key in (member.signing_public, member.agreement_public)
        ]
        if len(set(keys)) != len(keys):
            raise ValueError("one key stands in two places in the roster")
        if set(self.revoked) & self.members.keys() or len(set(self.revoked)) != len(self.revoked):
            raise ValueError("a revoked name is a member or stands twice")
        for name, member in self.members.items():
            statement = _claim(name, member.signing_public, member.agreement_public)
            try:
                verify(member.signing_public, SIGNED_MEMBER, statement, member.signature)
            except ProtocolError:
                raise ValueError(f"the keys of {name!r} are not signed by their owner") from None
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The members' names, sorted; the Shamir point of a member is its place plus one."""
        return tuple(sorted(self.members))

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the canonical form, in hexadecimal."""
        return hashlib.sha256(b"fedprune/1/roster/" + self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form, the one that is hashed and sent."""
        fields = self.model_dump(mode="json") | {"revoked": sorted(self.revoked)}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form; raise `ProtocolError` on anything else."""
        try:
            roster = cls.model_validate_json(data)
        except (ValidationError, ValueError) as error:
            raise ProtocolError("a roster cannot be read, or a key in it is not signed") from error
        if roster.to_bytes() != data:
            raise ProtocolError("a roster is not in canonical form")
        return roster

    def member(self, name: str) -> Member:
        """Return a member's keys.

        Raises:
            RevokedPeerError: the name was revoked.
            UnknownPeerError: the name was never in the roster.
        """
        if name in self.revoked:
            raise RevokedPeerError(f"{name!r} was revoked: leave it out")
        if name not in self.members:
            raise UnknownPeerError(f"{name!r} is not in the roster that was approved")
        return self.members[name]

    def without(self, *names: str) -> "Roster":
        """Return the roster after the revocation of members."""
        kept = {name: member for name, member in self.members.items() if name not in names}
        return Roster(members=kept, revoked=tuple(sorted({*self.revoked, *names})))

    def require_shrinks_to(self, later: "Roster") -> None:
        """Return if ``later`` only revokes members of this roster.

        Raises:
            RosterGrewError: a name or key is new, or a revocation was taken back.
        """
        grown = sorted(
            name for name, member in later.members.items() if self.members.get(name) != member
        )
        if grown:
            raise RosterGrewError(f"the roster has new names or keys for {grown}: approve it first")
        if set(later.revoked) != set(self.revoked) | (self.members.keys() - later.members.keys()):
            raise RosterGrewError("the roster hides or takes back a revocation: approve it first")


@final
class Identity(Body):
    """An institution's long-lived private keys; they never leave it."""

    signing_private: Annotated[Key, Field(repr=False)]
    agreement_private: Annotated[Key, Field(repr=False)]

    @classmethod
    def generate(cls, stream: Stream) -> Self:
        """Draw both keys."""
        return cls(signing_private=stream(KEY_SIZE), agreement_private=stream(KEY_SIZE))

    def member(self, name: str) -> Member:
        """Return the public entry under a name, signed."""
        signing = verifying_key(self.signing_private)
        agreement = public_key(self.agreement_private)
        signature = sign(self.signing_private, SIGNED_MEMBER, _claim(name, signing, agreement))
        return Member(signing_public=signing, agreement_public=agreement, signature=signature)


def roster_hash(names: Iterable[str]) -> str:
    """Return the hash that stands for the members under plain aggregation, which needs no keys."""
    return hashlib.sha256(b"fedprune/1/names/" + "\n".join(sorted(names)).encode()).hexdigest()


def _claim(name: str, signing: bytes, agreement: bytes) -> bytes:
    return hash_facts("member", [name, signing.hex(), agreement.hex()])
