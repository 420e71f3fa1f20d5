"""Releases at an institution: what it was offered, holds to its consent, and says of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from client.consent import REQUEST, Home, approved_bundle, read_pin
from client.trail import institution_trail
from common.consent.acts import Charter, Proposal
from common.consent.agreement import mark_of
from common.consent.refusals import (
    ConsentError,
    MalformedError,
    NotApprovedError,
    NotShownError,
)
from common.crypto.roster import Identity
from common.durable import READABLE, write_atomically
from common.errors import ConfigError, PolicyError, ProtocolError
from common.release.folder import RELEASES, VERDICT, Folder, held, kept_charter
from common.release.kept import Kept
from common.release.manifest import Manifest, ReleasedFile
from common.release.refusals import (
    AlteredModelError,
    JudgedError,
    NoReleaseError,
    NotFinalError,
    OtherCharterError,
    ReleaseError,
    WithdrawnError,
)
from common.release.standing import read_release
from common.release.verdict import Verdict, Word
from common.trail.events import (
    Contributed,
    Objected,
    Refused,
    ReleaseReceived,
    ScoredUnreleased,
    SignedOff,
)
from common.trail.examination import read
from common.trail.file import FOLDER, files_of
from common.trail.interface import TEXT, Trail, Untold


@dataclass(frozen=True)
class Releases:
    """The releases in an institution's folder.

    ``revoked`` are members whose revocation its ledger has noted since it approved the roster.
    """

    home: Path
    trail: Trail = field(default_factory=Untold)
    revoked: tuple[str, ...] = ()

    def folder(self, run: str) -> Folder:
        """Return where the release of a run lies; raise `ConfigError` for what is no run's name."""
        if run != Path(run).name or run.startswith("."):
            raise ConfigError(f"{run!r} is no name of a run: see `fedprune-client release list`")
        return Folder(self.home / RELEASES / run)

    @property
    def runs(self) -> list[str]:
        """The runs whose releases were received, by name."""
        return sorted(path.name for path in (self.home / RELEASES).glob("*/"))

    def open(self, run: str) -> Kept:
        """Open the release of a run; raise why it cannot be trusted, or `NoReleaseError`."""
        return Kept.open(self.folder(run), self.charter_for)

    def charter_for(self, manifest: Manifest) -> Proposal:
        """Return the approved charter that a release is held to: its own, or else the last.

        Raises:
            NotApprovedError: none was approved here.
        """
        if (named := kept_charter(self.home, manifest.charter)) is not None:
            return named
        if (pin := read_pin(self.home)) is None:
            raise NotApprovedError(
                f"{self.home}: no charter was approved here that a release could be held to: name"
                " the institution's folder by --home"
            )
        return approved_bundle(self.home, pin)

    def receive(self, manifest: bytes, verdicts: Sequence[bytes], withdrawal: bytes) -> Kept:
        """Take a release, or what was said of one since; its files come one by one.

        Words that do not count are left out and noted in one event, so that they keep no other out.

        Raises:
            MalformedError: there are more words than the members can have said.
            ReleaseError, ConsentError, ProtocolError: the subclass names why it is refused; what
                was kept before stays.
        """
        bundle = read_release(manifest)
        release = Kept.of(self._place(bundle), bundle, self.charter_for)
        _require_sayable(verdicts, release)
        with held(self.home):
            last = _last(release.folder)
            if last is None or last.digest != bundle.digest:
                self._begin(release, last)
            if withdrawal:
                release.withdraw(Proposal.from_bytes(withdrawal), self.trail)
            news, left_out = self._heard(release, verdicts)
            if left_out:
                self.trail.append(_left_out(release, left_out))
            if news:
                release.hear(news, self.trail)
        return release

    def deliver(self, run: str, name: str, data: bytes) -> Kept:
        """Take a file of a release; raise `AlteredModelError` if it is another than signed for."""
        with held(self.home):
            release = self.open(run)
            release.folder.put(release.manifest, name, data)
        return release

    def verdict(self, release: Kept) -> Verdict | None:
        """Return what this institution has said of a release, if it has; of an earlier one, not."""
        file = release.folder.path / VERDICT
        own = Verdict.from_bytes(file.read_bytes()) if file.exists() else None
        return own if own is not None and own.manifest == release.bundle.digest else None

    def judge(  # noqa: PLR0913, PLR0917  (who says what of which, under which key, and why)
        self, run: str, digest: str, name: str, word: Word, identity: Identity, reason: str = ""
    ) -> Kept:
        """Sign this institution's word on the release of this digest; ``reason`` stays here.

        Raises:
            NotShownError: by now another release of the run lies here.
            AlteredModelError, WithdrawnError: there is nothing to sign off.
            JudgedError: it has said the other thing.
        """
        with held(self.home):
            release = self.open(run)
            if release.bundle.digest != digest:
                raise NotShownError(
                    f"release {release.manifest.number} of run {run} begins with"
                    f" {mark_of(release.bundle.digest)}, not {mark_of(digest)}: it came since the"
                    " one that was read; read and test it, then say the word anew"
                )
            release.require_files()
            if release.standing.withdrawn is not None:
                raise WithdrawnError(f"release of run {run} was withdrawn: nothing is left to say")
            if (before := self.verdict(release)) is not None:
                if before.word != word:
                    raise JudgedError(
                        f"{before.name} has said {before.word!r} of this release, and signatures"
                        " are not taken back: ask the operators to release it anew, or to"
                        " withdraw it"
                    )
                return release
            run_id = release.manifest.run_id
            said = Verdict.make(run, digest, name, word, identity.signing_private)
            news = release.fresh([said], *self._gone(release))
            if word == "objection":
                self.trail.append(Objected(run=run_id, release=digest, reason=reason))
            else:
                self.trail.append(SignedOff(run=run_id, release=digest))
            write_atomically(release.folder.path / VERDICT, said.to_bytes(), READABLE)
            release.hear(news, self.trail)
            return release

    def _heard(
        self, release: Kept, verdicts: Iterable[bytes]
    ) -> tuple[list[Verdict], list[PolicyError]]:
        """Return what is new of what was said, and why the rest does not count."""
        news, left_out, gone = list[Verdict](), list[PolicyError](), self._gone(release)
        for data in verdicts:
            try:
                news += release.fresh([Verdict.from_bytes(data)], *gone)
            except (ReleaseError, ConsentError, ProtocolError) as error:
                left_out.append(error)
        return news, left_out

    def _gone(self, release: Kept) -> set[str]:
        """Return the members of a release's charter that are none any more under those keys."""
        pin = read_pin(self.home)
        retired = () if pin is None else pin.retired
        members = release.charter.roster.members
        return {*self.revoked} | {
            name for name, member in members.items() if member.signing_public in retired
        }

    def _place(self, bundle: Proposal) -> Folder:
        act = bundle.act
        assert isinstance(act, Manifest)  # noqa: S101 - `read_release` takes nothing else
        return self.folder(act.run)

    def _begin(self, release: Kept, last: Proposal | None) -> None:
        if last is not None:
            release.require_follows(last)
        manifest = release.manifest
        self._require_trained(manifest, release.charter)
        self.trail.append(
            ReleaseReceived(
                run=manifest.run_id,
                plan=manifest.plan,
                release=release.bundle.digest,
                model=manifest.model,
                mask=manifest.mask,
            )
        )
        release.folder.begin(release.bundle)

    def _require_trained(self, manifest: Manifest, charter: Charter) -> None:
        """Refuse another model than the run's last round sent here, as the own log has it.

        Only a guard that goes back may leave another one. Whoever took part in the plan, but in
        no round of this run, cannot tell whether the run was.
        """
        kept = files_of(self.home / FOLDER) if (self.home / FOLDER).is_dir() else {}
        events = (line.event for line in (read(kept).lines if kept else ()))
        of_plan = [
            one for one in events if isinstance(one, Contributed) and one.plan == manifest.plan
        ]
        of_run = [one for one in of_plan if one.run == manifest.run_id]
        if of_plan and not of_run:
            raise AlteredModelError(
                f"release of run {manifest.run}: this institution took part in its plan, and never"
                f" in a run {manifest.run_id[:16]}: do not sign it off, and tell the other"
                " institutions"
            )
        pin = read_pin(self.home)
        if not of_run and (pin is None or pin.charter != manifest.charter):
            # Members and operators that left by then could go on releasing among themselves.
            raise OtherCharterError(
                f"release of run {manifest.run}: is under charter {manifest.charter[:16]}, which is"
                " no longer in force, and this institution took no part in its run: have it"
                " released under the charter in force"
            )
        sent = {
            (one.model, one.mask) for one in of_run if one.round == charter.agreed.training.rounds
        }
        stepped = charter.agreed.pruning.guard == "step_back"
        if not stepped and sent - {(manifest.model, manifest.mask)}:
            raise AlteredModelError(
                f"release of run {manifest.run}: its model is not the one that the last round"
                " sent here: do not sign it off, and tell the other institutions"
            )


def _require_sayable(verdicts: Sequence[bytes], release: Kept) -> None:
    """Refuse more words than one of each kind a member, before any is parsed."""
    members = len(release.charter.roster.names)
    if len(verdicts) > (most := members * len(get_args(Word))):
        raise MalformedError(
            f"{len(verdicts)} words on the release of run {release.manifest.run}, of which its"
            f" {members} members have {most} at most: have it sent again"
        )


def _left_out(release: Kept, errors: Sequence[PolicyError]) -> Refused:
    """Return the one event of all words that do not count; what it is of is from a fixed list."""
    first = errors[0]
    because = f"run {release.manifest.run}: {len(errors)} left out: {first}"
    return Refused(what="words", told=first.reason, because=because[:TEXT])


def require_scorable(
    model: Path, home: Path, *, unreleased: bool
) -> tuple[Mapping[str, bytes], str]:
    """Return the files by which a table may be scored, and what to warn of before; "" is nothing.

    It may by a final release that fits what the institution in ``home`` approved. ``unreleased``
    lets any other model pass, and the institution's log, if there is one, notes it first. The files
    are those that were checked or noted: what lies in the folder may be others by then.

    Raises:
        NotFinalError: it may not, and why.
        ConfigError: there is no such folder.
        PlanError, ModelError: there is no model.
    """
    if not model.is_dir():
        raise ConfigError(f"{model}: no such folder: check the path")
    try:
        return Kept.open(Folder(model), Releases(home).charter_for).require_usable(), ""
    except PolicyError as error:
        if not unreleased:
            raise NotFinalError(
                f"{error}; --unreleased scores by it all the same, and the audit log notes that"
            ) from error
        # onnxruntime, which whoever scores imports anyway.
        from client.scorer import read_model  # noqa: PLC0415
        from common.export.onnx_file import ONNX  # noqa: PLC0415

        files = read_model(model)
        if not (home / REQUEST).is_file():
            return files, f"{error}; noted nowhere: {home} is no institution's folder"
        digest = ReleasedFile.of(files[ONNX]).sha256
        noted = ScoredUnreleased(model=digest, because=str(error)[:TEXT])
        institution_trail(home, Home(home).name).append(noted)
        return files, f"{error}; the audit log of {home} notes that it is used all the same"


def _last(folder: Folder) -> Proposal | None:
    try:
        return folder.bundle
    except NoReleaseError:
        return None
