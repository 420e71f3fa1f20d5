"""What an institution holds a bundle to, by what it approved before: trust on first use.

At first it has nothing but fingerprints, compared with others out of band. From then on the
operators it approved must sign what follows.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Self, final

from pydantic import Field, ValidationError

from common.consent.acts import Charter, Proposal, charter_of
from common.consent.authority import authority_hash, read_authorities, require_authority
from common.consent.refusals import (
    ExpiredError,
    MalformedError,
    NotAMemberError,
    NotApprovedError,
    OtherFederationError,
    OtherOperatorsError,
    ReadmittedError,
    ReplayedError,
)
from common.crypto.body import Body, Key
from common.crypto.refusals import RosterGrewError
from common.crypto.roster import Member

Consent = Callable[[int], None]
"""Raise unless consent holds at a time, in Unix seconds."""

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@final
class Pin(Body):
    """What an institution approved, and the signing keys that may never come back."""

    federation: str
    charter: Hash
    expires: int
    address: str
    authority: Hash
    plan_hash: Hash
    roster_hash: Hash
    retired: tuple[Key, ...] = ()

    @classmethod
    def of(cls, bundle: Proposal, retired: Iterable[bytes]) -> Self:
        """Return the pin of a bundle that is approved."""
        charter = charter_of(bundle)
        return cls(
            federation=charter.federation,
            charter=bundle.digest,
            expires=charter.expires,
            address=charter.address,
            authority=authority_hash(charter.authority),
            plan_hash=charter.agreed.digest(),
            roster_hash=charter.roster.digest,
            retired=tuple(sorted(retired)),
        )

    def to_bytes(self) -> bytes:
        """Return its JSON form."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse `to_bytes`' form; raise `MalformedError` on anything else."""
        try:
            return cls.model_validate_json(data)
        except (ValidationError, ValueError) as error:
            raise MalformedError("what was approved cannot be read: restore the backup") from error

    def require(self, plan_hash: str, roster_hash: str, now: int) -> None:
        """Let a round of this plan and roster begin at ``now``, Unix seconds.

        Raises:
            NotApprovedError: something else was approved since.
            ExpiredError: the charter no longer holds.
        """
        if (plan_hash, roster_hash) != (self.plan_hash, self.roster_hash):
            raise NotApprovedError("another plan or roster was approved since: start again")
        if now >= self.expires:
            raise ExpiredError("the charter has expired: join a new one")


def require_bundle(
    bundle: Proposal, name: str, keys: tuple[Member, ...], now: int, approved: Charter | None = None
) -> Charter:
    """Return the charter of a bundle that the owner of ``keys`` may be shown as ``name``.

    ``approved`` is the charter it approved before, if any. Keys are those in use and, during a
    rotation, those to come.

    Raises:
        ConsentError: the subclass names why not.
    """
    charter = charter_of(bundle)
    if approved is not None and charter.federation != approved.federation:
        raise OtherFederationError(
            f"the bundle is of {charter.federation}, this institution joined"
            f" {approved.federation}: use another home for another federation"
        )
    boards = [charter.operators]
    if approved is not None:
        boards.append(approved.operators)
        signed = approved.operators.signed_by(charter.label, bundle.statement, bundle.signatures)
        if len(signed) < approved.operators.quorum:
            raise OtherOperatorsError(
                f"{len(signed)} of the {approved.operators.quorum} operators that were approved"
                f" ({', '.join(sorted(approved.operators.keys))}) have signed this bundle: ask"
                " them, out of band, who published it"
            )
    bundle.require(*boards)
    # One that ends what was approved comes after its own end.
    if approved is None or not only_shrinks(approved, charter):
        charter.require_current(now)
    require_authority(charter.authority, now)
    listed = charter.roster.members.get(name)
    if listed is None:
        state = "was revoked from" if name in charter.roster.revoked else "is not in"
        raise NotAMemberError(f"{name!r} {state} the roster: ask an operator to admit it")
    if listed not in keys:
        raise NotAMemberError(
            f"the roster has other keys for {name!r} than this institution's: do not approve it,"
            " and tell the operators"
        )
    return charter


def require_newer(bundle: Proposal, *seen: Proposal) -> None:
    """Raise `ReplayedError` for a bundle that is not one of, or newer than all of, those seen."""
    number = charter_of(bundle).sequence
    latest = max((charter_of(earlier).sequence for earlier in seen), default=0)
    known = any(bundle.digest == earlier.digest for earlier in seen)
    if number < latest or (number == latest and not known):
        raise ReplayedError(
            f"bundle {number} is no newer than {latest}, which was seen before: fetch the latest"
        )


def require_no_return(charter: Charter, retired: tuple[bytes, ...]) -> None:
    """Raise `ReadmittedError` when a member comes back under a key that was retired."""
    for name, member in charter.roster.members.items():
        if member.signing_public in retired:
            raise ReadmittedError(
                f"{name!r} is back under keys that were revoked or replaced: it needs new ones"
            )


def only_shrinks(before: Charter, after: Charter) -> bool:
    """Whether a charter only revokes, ends earlier, or drops an authority: it needs no approval."""
    try:
        before.roster.require_shrinks_to(after.roster)
    except RosterGrewError:
        return False
    known, kept = read_authorities(before.authority), read_authorities(after.authority)
    same = (before.address, before.plan) == (after.address, after.plan)
    return same and {*kept} <= {*known} and after.expires <= before.expires


def retired_after(before: Charter | None, after: Charter, retired: tuple[bytes, ...]) -> set[bytes]:
    """Return the signing keys that may not come back once ``after`` is approved."""
    if before is None:
        return set(retired)
    kept = {member.signing_public for member in after.roster.members.values()}
    return {*retired, *(m.signing_public for m in before.roster.members.values())} - kept
