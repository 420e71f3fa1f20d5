"""Where a release stands: what the operators signed, beside what institutions said of it.

Pure, and the same on both sides, so that a server that says "final" is checked by each institution.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from common.consent.acts import Charter, Proposal, charter_of
from common.consent.refusals import MalformedError, OtherFederationError
from common.crypto.roster import Roster
from common.release.manifest import FORMAT, Manifest, Withdrawal
from common.release.refusals import (
    NotFinalError,
    OtherCharterError,
    OtherFormatError,
    OtherReleaseError,
    WithdrawnError,
)
from common.release.verdict import Verdict
from common.versions import SPOKEN

State = Literal["offered", "final", "rejected", "withdrawn"]


@dataclass(frozen=True)
class Standing:
    """Who has said what, of how many that must; members' names are sorted."""

    run: str
    quorum: int
    signed: tuple[str, ...]
    objected: tuple[str, ...]
    silent: tuple[str, ...]
    withdrawn: str | None = None

    @property
    def state(self) -> State:
        """In a word: "rejected" once too many have objected for a quorum of the others."""
        if self.withdrawn is not None:
            return "withdrawn"
        if len(self.signed) >= self.quorum:
            return "final"
        return "offered" if len(self.signed + self.silent) >= self.quorum else "rejected"

    def require_final(self) -> None:
        """Return if the model may be used.

        Raises:
            WithdrawnError: the operators took it back.
            NotFinalError: too few institutions have signed it off.
        """
        if self.withdrawn is not None:
            raise WithdrawnError(
                f"release of run {self.run} was withdrawn: {self.withdrawn}: ask for another"
            )
        if self.state != "final":
            raise NotFinalError(
                f"release of run {self.run} is not final: {len(self.signed)} of {self.quorum}"
                f" institutions needed have signed it off ({', '.join(self.signed) or 'none'})"
            )


def read_release(data: bytes) -> Proposal:
    """Parse a signed manifest; nothing is said of its signatures.

    Raises:
        OtherFormatError: another version of fedprune wrote it.
        MalformedError: it is none.
    """
    _require_format(data)
    bundle = Proposal.from_bytes(data)
    manifest_of(bundle)
    return bundle


def manifest_of(bundle: Proposal) -> Manifest:
    """Return what was released; raise `MalformedError` if operators signed something else."""
    if not isinstance(bundle.act, Manifest):
        raise MalformedError("not the manifest of a release: fetch it again")
    return bundle.act


def require_released(bundle: Proposal, charter: Proposal) -> Manifest:
    """Return the manifest that a quorum of a charter's operators signed, for what it agreed on.

    Raises:
        OtherFederationError, OtherPlanError, OtherCharterError: it is of something else.
        UnsignedError: too few operators have signed, or a signature is wrong.
    """
    manifest, agreed = manifest_of(bundle), charter_of(charter)
    if manifest.federation != agreed.federation:
        raise OtherFederationError(
            f"the release is of {manifest.federation}, not of {agreed.federation}: do not use it"
        )
    manifest.require_agreed(agreed.agreed, agreed.roster)
    if manifest.charter != charter.digest:
        raise OtherCharterError(
            f"release of run {manifest.run} was made under charter {manifest.charter[:16]}, which"
            " was not approved here: join it and approve"
        )
    bundle.require(agreed.operators)
    return manifest


def standing_of(
    bundle: Proposal, charter: Charter, said: Iterable[Verdict], withdrawal: Proposal | None
) -> Standing:
    """Return where a release stands that `require_released` took.

    ``said`` was checked when it came, against those who were members then; here it has to be of
    this release and under keys of its roster, so that a later revocation takes nothing back.
    Whoever has said both has objected.

    Raises:
        OtherReleaseError, RevokedPeerError, UnknownPeerError, BadSignatureError: of what was said.
        UnsignedError: too few operators have signed the withdrawal.
    """
    manifest = manifest_of(bundle)
    roster = roster_of(manifest, charter)
    verdicts = tuple(said)
    for verdict in verdicts:
        verdict.require(bundle.digest, roster)
    objected = {verdict.name for verdict in verdicts if verdict.word == "objection"}
    signed = {verdict.name for verdict in verdicts} - objected
    return Standing(
        run=manifest.run,
        quorum=charter.agreed.release_quorum,
        signed=tuple(sorted(signed)),
        objected=tuple(sorted(objected)),
        silent=tuple(sorted({*roster.names} - signed - objected)),
        withdrawn=None if withdrawal is None else _withdrawn(withdrawal, bundle, charter).reason,
    )


def roster_of(manifest: Manifest, charter: Charter, *revoked: str) -> Roster:
    """Return who has a say: the charter's members, less those revoked by now."""
    return charter.roster.without(*manifest.revoked, *revoked)


def _withdrawn(withdrawal: Proposal, bundle: Proposal, charter: Charter) -> Withdrawal:
    act = withdrawal.act
    if not isinstance(act, Withdrawal) or act.manifest != bundle.digest:
        raise OtherReleaseError("the withdrawal is of another release: fetch the right one")
    withdrawal.require(charter.operators)
    return act


def _require_format(data: bytes) -> None:
    """Refuse a manifest of another format, of which no version may move these two fields."""
    try:
        act = json.loads(data)["act"]
        known, versions = act["format"], act["versions"]
        said = versions.get("fedprune", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # Whoever parses it says what is wrong.
    if type(known) is int and known != FORMAT:
        by = f" (fedprune {said})" if isinstance(said, str) and SPOKEN.fullmatch(said) else ""
        raise OtherFormatError(
            f"the release's manifest has format {known}{by}, this version reads {FORMAT}: upgrade"
            " whichever is older"
        )
