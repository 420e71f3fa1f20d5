"""Releases at the server: put in force by operators, and judged by institutions."""

from collections.abc import Iterator
from pathlib import Path

from common.consent.acts import Proposal
from common.errors import ConfigError
from common.release.folder import RELEASES, Folder, held, kept_charter
from common.release.kept import Kept
from common.release.manifest import Manifest, Withdrawal
from common.release.refusals import NoReleaseError, OtherCharterError, OtherReleaseError
from common.release.standing import Standing, manifest_of
from common.release.verdict import Verdict
from common.trail.events import ReleaseOffered, VerdictTaken
from server.desk import RUN_NAME
from server.home import ServerHome

RUNS = "runs"


def folder_of(home: ServerHome, run: str) -> Folder:
    """Return where the release of a run lies; raise `ConfigError` for what is no run's name."""
    if not RUN_NAME.fullmatch(run):
        raise ConfigError(f"{run!r} is no name of a run: see `fedprune-server release list`")
    return Folder(home.path / RELEASES / run)


def open_release(home: ServerHome, run: str) -> Kept:
    """Open the release of a run; raise why it cannot be trusted, or `NoReleaseError`."""
    return Kept.open(folder_of(home, run), lambda manifest: charter_for(home, manifest))


def released_runs(home: ServerHome) -> Iterator[str]:
    """Yield the runs that were released, by name."""
    for path in sorted((home.path / RELEASES).glob("*/")):
        yield path.name


def charter_for(home: ServerHome, manifest: Manifest) -> Proposal:
    """Return the charter that a release was made under; raise `OtherCharterError` if unknown."""
    now = home.bundle
    if now is not None and now.digest == manifest.charter:
        return now
    if (then := kept_charter(home.path, manifest.charter)) is None:
        raise OtherCharterError(
            f"release of run {manifest.run} was made under charter {manifest.charter[:16]}, which"
            " was not published here: restore the backup"
        )
    return then


def publish_release(home: ServerHome, proposal: Proposal) -> None:
    """Put a manifest in force that operators signed: its files first, all as it says.

    Raises:
        OtherCharterError: another charter was published since.
        AlteredModelError: a file in the run's directory is no longer the one that was signed for.
        OldReleaseError: a later release of the run is in force.
    """
    manifest = manifest_of(proposal)
    if home.bundle is None or home.bundle.digest != manifest.charter:
        raise OtherCharterError(
            "another charter was published since the release was proposed: propose it anew"
        )
    folder = folder_of(home, manifest.run)
    with held(home.path):
        release = Kept.of(folder, proposal, lambda one: charter_for(home, one))
        try:
            release.require_follows(folder.bundle)
        except NoReleaseError:
            folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.trail.append(
            ReleaseOffered(
                run=manifest.run_id,
                plan=manifest.plan,
                release=proposal.digest,
                model=manifest.model,
                mask=manifest.mask,
                signers=tuple(sorted(proposal.signatures)),
            )
        )
        source = Folder(_run(home, manifest.run))
        for name in manifest.files:
            folder.put(manifest, name, source.file(name))
        folder.begin(proposal)


def withdraw_release(home: ServerHome, proposal: Proposal) -> None:
    """Take a release back that is in force; raise `OtherReleaseError` if it is another one."""
    act = proposal.act
    if not isinstance(act, Withdrawal):
        raise OtherReleaseError("not a withdrawal: propose it anew")
    with held(home.path):
        open_release(home, act.run).withdraw(proposal, home.trail)


def take_verdict(home: ServerHome, verdict: Verdict) -> Standing:
    """Take an institution's word on the release that is in force.

    Raises:
        OtherReleaseError, RevokedPeerError, UnknownPeerError, BadSignatureError: why it is refused.
    """
    with held(home.path):
        release = open_release(home, verdict.run)
        news = release.fresh([verdict], *revoked_since(home, release))
        said = {"run": release.manifest.run_id, "release": release.bundle.digest}
        for one in news:
            home.trail.append(VerdictTaken(**said, institution=one.name, word=one.word))
        return release.hear(news, home.trail)


def revoked_since(home: ServerHome, release: Kept) -> list[str]:
    """Return the members of a release's charter that are none any more under those keys."""
    members = home.members
    return [
        name
        for name, member in release.charter.roster.members.items()
        if name not in members or members[name].member != member
    ]


def _run(home: ServerHome, run: str) -> Path:
    return home.path / RUNS / run
