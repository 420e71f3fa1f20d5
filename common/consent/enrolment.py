"""An institution's request to become a member, or to go on under new keys: public keys alone."""

import hashlib
import json
import re
from typing import Annotated, Final, Self, final

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field, ValidationError

from common.consent.refusals import MalformedError, UnprovedError
from common.crypto import node_keys
from common.crypto.body import Body, Key, Signature, hash_facts
from common.crypto.keys import SIGNED_ENROLMENT, SIGNED_SUCCESSION, sign, verify
from common.crypto.roster import Identity, Member, Roster
from common.errors import ConfigError, ProtocolError

_NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,62}$"
MemberName = Annotated[str, Field(pattern=_NAME)]


def require_name(name: str) -> None:
    """Raise `ConfigError` unless members and operators may be called this."""
    if not re.fullmatch(_NAME, name):
        raise ConfigError(
            f"{name!r} is no name: take up to 63 of a-z, 0-9, '_' and '-', a letter or digit first"
        )


@final
class Succession(Body):
    """The keys that a request replaces, and their owner's word for it."""

    signing_public: Key
    signature: Signature


@final
class Enrolment(Body):
    """A name with its public keys, each proved by its owner over all of them.

    The X25519 key cannot sign; that of Ed25519 vouches for it.
    """

    name: MemberName
    member: Member
    node_public: Annotated[str, Field(max_length=500)]
    node_proof: Annotated[bytes, Field(max_length=200)]
    signature: Signature
    succession: Succession | None = None

    @classmethod
    def make(
        cls,
        name: str,
        identity: Identity,
        node: ec.EllipticCurvePrivateKey,
        before: Identity | None = None,
    ) -> Self:
        """Return the request of the owner of these keys; ``before`` are those they replace."""
        member, line = identity.member(name), node_keys.public_line(node)
        claim = _claim(name, member, line)
        succession = None
        if before is not None:
            old = before.member(name).signing_public
            succession = Succession(
                signing_public=old,
                signature=sign(before.signing_private, SIGNED_SUCCESSION, claim),
            )
        return cls(
            name=name,
            member=member,
            node_public=line,
            node_proof=node_keys.prove(node, SIGNED_ENROLMENT, claim),
            signature=sign(identity.signing_private, SIGNED_ENROLMENT, claim),
            succession=succession,
        )

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form, the one that is hashed and carried."""
        fields = self.model_dump(mode="json")
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form.

        Raises:
            MalformedError: it has another form; a file with anything more in it has.
            UnprovedError: a key is not proved by its owner.
        """
        try:
            request = cls.model_validate_json(data)
        except (ValidationError, ValueError):
            # Without the cause: a request must not hold secrets, but this one might.
            raise MalformedError("not an enrolment request: make one anew") from None
        if request.to_bytes() != data:
            raise MalformedError("an enrolment request is not in canonical form: make one anew")
        request.require_proved()
        return request

    def require_proved(self) -> None:
        """Raise `UnprovedError` unless the owner of each key signed for all of them."""
        claim = _claim(self.name, self.member, self.node_public)
        signing = self.member.signing_public
        try:
            # A roster takes no member whose keys are not signed under its name.
            Roster(members={self.name: self.member})
            verify(signing, SIGNED_ENROLMENT, claim, self.signature)
            node_keys.require_proof(self.node_public, SIGNED_ENROLMENT, claim, self.node_proof)
            if (old := self.succession) is not None:
                verify(old.signing_public, SIGNED_SUCCESSION, claim, old.signature)
        except (ProtocolError, ValidationError) as error:
            raise UnprovedError(
                f"the keys of {self.name!r} are not all proved by their owner: have the institution"
                " make its request anew"
            ) from error

    @property
    def keys(self) -> frozenset[str]:
        """Every public key in it, as text."""
        own = (self.member.signing_public.hex(), self.member.agreement_public.hex())
        return frozenset((*own, self.node_public))

    @property
    def digest(self) -> str:
        """The SHA-256 of the canonical form, in hexadecimal."""
        return hashlib.sha256(b"fedprune/1/enrolment/" + self.to_bytes()).hexdigest()


def _claim(name: str, member: Member, node_public: str) -> bytes:
    own = (member.signing_public.hex(), member.agreement_public.hex())
    return hash_facts("enrolment", [name, *own, node_public])
