"""What operators sign: members in and out, the charter that all approve, a model's release.

One file collects the signatures, in any order. Nothing in it takes effect with fewer than the
quorum says.
"""

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self, final

from pydantic import Field, ValidationError, model_validator

from common.address import Address
from common.consent.authority import read_authorities
from common.consent.enrolment import Enrolment, MemberName
from common.consent.operators import Operators
from common.consent.refusals import ConsentError, ExpiredError, MalformedError, UnsignedError
from common.crypto.body import Body, Key, Signature, Time
from common.crypto.keys import (
    SIGNED_ADMISSION,
    SIGNED_CHARTER,
    SIGNED_REVOCATION,
    sign,
    verifying_key,
)
from common.crypto.roster import Roster
from common.errors import ConfigError
from common.plan import Plan, plan_from_dict
from common.release.manifest import Manifest, Withdrawal


@final
class Admission(Body):
    """A member's enrolment, taken into the roster."""

    label: ClassVar = SIGNED_ADMISSION
    kind: Literal["admission"] = "admission"
    federation: MemberName
    enrolment: Enrolment


@final
class Revocation(Body):
    """A member that takes part no more; its key is named, for its name may come back."""

    label: ClassVar = SIGNED_REVOCATION
    kind: Literal["revocation"] = "revocation"
    federation: MemberName
    name: MemberName
    signing_public: Key


@final
class Charter(Body):
    """Everything a member approves, numbered and dated."""

    label: ClassVar = SIGNED_CHARTER
    kind: Literal["charter"] = "charter"
    federation: MemberName
    sequence: Annotated[int, Field(ge=1)]
    issued: Time
    expires: Time
    address: Address
    authority: str
    plan: dict[str, Any]
    roster: Roster

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        read_authorities(self.authority)
        if self.agreed.to_dict() != self.plan:
            raise ValueError("the plan is not written out in full")
        if {*self.roster.names, *self.roster.revoked} != {*self.agreed.names}:
            raise ValueError("the members of the roster are not those of the plan")
        return self

    @cached_property
    def agreed(self) -> Plan:
        """The plan, parsed; raises `PlanError` when it contradicts itself."""
        return plan_from_dict(self.plan)

    @cached_property
    def operators(self) -> Operators:
        """Those who sign by the charter's own plan."""
        if self.agreed.operators is None:
            raise MalformedError("the plan names no operators: add [operators] to it")
        return self.agreed.operators

    def require_current(self, now: int) -> None:
        """Raise `ExpiredError` when the charter no longer holds at ``now``, Unix seconds."""
        if now >= self.expires:
            raise ExpiredError(
                f"charter {self.sequence} of {self.federation} has expired: have the operators"
                " publish it anew, and approve that"
            )


Acts = Admission | Revocation | Charter | Manifest | Withdrawal
Act = Annotated[Acts, Field(discriminator="kind")]


@final
class Proposal(Body):
    """An act and the operators' signatures for it, by their public keys in hexadecimal.

    With a charter and enough signatures it is the bundle that members join by.
    """

    act: Act
    signatures: dict[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], Signature] = Field(
        default_factory=dict
    )

    def signed(self, private: bytes) -> "Proposal":
        """Return the proposal with the signature of an Ed25519 key as well."""
        signature = sign(private, self.act.label, self.statement)
        key = verifying_key(private).hex()
        return Proposal(act=self.act, signatures=self.signatures | {key: signature})

    def require(self, *boards: Operators) -> None:
        """Return if a quorum of each of the boards has signed, and nobody else.

        Raises:
            UnsignedError: too few have, a signature is wrong, or a stranger's.
        """
        known = {key for board in boards for key in board.keys.values()}
        if strangers := self.signatures.keys() - known:
            raise UnsignedError(
                f"{len(strangers)} signatures are of no operator: {min(strangers)[:16]}..."
            )
        for board in boards:
            signed = board.signed_by(self.act.label, self.statement, self.signatures)
            if len(signed) < board.quorum:
                raise UnsignedError(
                    f"{len(signed)} of {board.quorum} operators needed have signed"
                    f" ({', '.join(signed) or 'none'}): have others run fedprune-server sign"
                )

    @cached_property
    def statement(self) -> bytes:
        """What is signed: the SHA-256 of the act's canonical form."""
        return hashlib.sha256(_canonical(_plain(self.act))).digest()

    @property
    def digest(self) -> str:
        """The statement in hexadecimal, whoever signed it."""
        return self.statement.hex()

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form."""
        signatures = {key: value.hex() for key, value in self.signatures.items()}
        return _canonical({"act": _plain(self.act), "signatures": signatures})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form; signatures are `require`'s business.

        Raises:
            MalformedError: it has another form, or its parts do not belong together.
            UnprovedError: it admits keys that their owner did not prove.
        """
        try:
            proposal = cls.model_validate_json(data)
            same = proposal.to_bytes() == data
        except ConsentError:
            raise
        except (ValidationError, ConfigError, ValueError, RecursionError) as error:
            raise MalformedError(
                "not a proposal or bundle, or its parts do not belong together: fetch it again"
            ) from error
        if not same:
            raise MalformedError("a proposal or bundle is not in canonical form: fetch it again")
        if isinstance(proposal.act, Admission):
            proposal.act.enrolment.require_proved()
        return proposal


def charter_of(proposal: Proposal) -> Charter:
    """Return the charter of a bundle; raise `MalformedError` if it proposes something else."""
    if not isinstance(proposal.act, Charter):
        raise MalformedError("this proposes to change the members: it is no bundle to join by")
    return proposal.act


def _plain(act: Acts) -> dict[str, Any]:
    fields = act.model_dump(mode="json")
    if isinstance(act, Charter):
        # Its hash sorts the revoked names, whose order means nothing.
        fields["roster"] = json.loads(act.roster.to_bytes())
    return fields


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
