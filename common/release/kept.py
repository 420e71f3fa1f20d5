"""A release as either side keeps it: opened under its charter, and what is said of it since."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from common.consent.acts import Charter, Proposal, charter_of
from common.release.folder import Folder
from common.release.manifest import Manifest
from common.release.refusals import OldReleaseError
from common.release.standing import (
    Standing,
    manifest_of,
    require_released,
    roster_of,
    standing_of,
)
from common.release.verdict import Verdict
from common.trail.events import ReleaseFinal, ReleaseWithdrawn
from common.trail.interface import Trail

Charters = Callable[[Manifest], Proposal]
"""Return the charter that a manifest is held to; raise if there is none."""


@dataclass(frozen=True)
class Kept:
    """A release whose operators' signatures hold under a charter that this side knows."""

    folder: Folder
    bundle: Proposal
    charter: Charter

    @classmethod
    def open(cls, folder: Folder, charters: Charters) -> Self:
        """Open what lies in a folder; raise `NoReleaseError`, or why it cannot be trusted."""
        return cls.of(folder, folder.bundle, charters)

    @classmethod
    def of(cls, folder: Folder, bundle: Proposal, charters: Charters) -> Self:
        """Take a release that came for a folder; nothing is written."""
        charter = charters(manifest_of(bundle))
        require_released(bundle, charter)
        return cls(folder, bundle, charter_of(charter))

    @cached_property
    def manifest(self) -> Manifest:
        """What was released."""
        return manifest_of(self.bundle)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What institutions have said of it."""
        return self.folder.verdicts(self.bundle.digest)

    @property
    def withdrawal(self) -> Proposal | None:
        """The operators' word that it no longer holds, if they gave it."""
        return self.folder.withdrawal(self.bundle.digest)

    @property
    def standing(self) -> Standing:
        """Where it stands by all that lies in the folder."""
        return self._with(self.verdicts, self.withdrawal)

    def require_files(self) -> dict[str, bytes]:
        """Return its files, as they were signed for and all of them the manifest's model.

        Raises:
            AlteredModelError: one is another, or missing.
        """
        # Half a second of imports, which whoever is handed a release can do without.
        from common.release.forms import require_forms  # noqa: PLC0415

        files = self.folder.require_files(self.manifest)
        require_forms(self.manifest, files, self.charter.agreed)
        return files

    def require_usable(self) -> dict[str, bytes]:
        """Return its files if it is final.

        Raises:
            AlteredModelError, NotFinalError, WithdrawnError: it is not.
        """
        files = self.require_files()
        self.standing.require_final()
        return files

    def require_follows(self, last: Proposal) -> None:
        """Raise `OldReleaseError` unless this is ``last``, or a later release of its run."""
        number = manifest_of(last).number
        if self.bundle.digest != last.digest and self.manifest.number <= number:
            raise OldReleaseError(
                f"release {self.manifest.number} of run {self.manifest.run} is no newer than"
                f" {number}, which was seen before: fetch the latest"
            )

    def fresh(self, said: Iterable[Verdict], *revoked: str) -> tuple[Verdict, ...]:
        """Return what was not heard before; each by a member who is not ``revoked`` by now.

        A member says each thing once, though its key can sign it in more than one way.

        Raises:
            OtherReleaseError, RevokedPeerError, UnknownPeerError, BadSignatureError: of one.
        """
        known, roster = self.verdicts, roster_of(self.manifest, self.charter, *revoked)
        news = [verdict for verdict in said if verdict not in known]
        for verdict in news:
            verdict.require(self.bundle.digest, roster)
        heard = {(verdict.name, verdict.word) for verdict in known}
        return tuple(verdict for verdict in news if (verdict.name, verdict.word) not in heard)

    def hear(self, fresh: Iterable[Verdict], trail: Trail) -> Standing:
        """Keep what `fresh` returned, and note it if the release becomes final by it."""
        before, said = self.standing, {*self.verdicts, *fresh}
        after = self._with(said, self.withdrawal)
        if after.state == "final" != before.state:
            run, release = self.manifest.run_id, self.bundle.digest
            trail.append(ReleaseFinal(run=run, release=release, signed=after.signed))
        self.folder.say(said)
        return after

    def withdraw(self, withdrawal: Proposal, trail: Trail) -> Standing:
        """Keep the operators' word that the release no longer holds."""
        after = self._with(self.verdicts, withdrawal)
        if self.withdrawal is None:
            signers, run = tuple(sorted(withdrawal.signatures)), self.manifest.run_id
            noted = ReleaseWithdrawn(run=run, release=self.bundle.digest, signers=signers)
            trail.append(noted)
            self.folder.withdraw(withdrawal)
        return after

    def _with(self, said: Iterable[Verdict], withdrawal: Proposal | None) -> Standing:
        return standing_of(self.bundle, self.charter, said, withdrawal)
