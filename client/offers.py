"""An institution's answers where a release is handed round: no row is read for them."""

from dataclasses import replace

from client.memory import Memory
from client.releases import Releases
from client.stages import Institution
from common import messages as wire
from common.consent.refusals import NotApprovedError
from common.release.kept import Kept
from common.trail.folding import Folding


def offer(
    folding: Folding, institution: Institution, memory: Memory, request: wire.OfferRequest
) -> tuple[Memory, wire.OfferReply]:
    """Check a release and keep it; say which files are missing, and what was signed here.

    A server that offers words that do not count over and over fills no disk: they are folded.
    """
    releases = releases_of(institution)
    releases = replace(releases, trail=folding.onto(releases.trail))
    release = releases.receive(request.manifest, request.verdicts, request.withdrawal)
    return memory, _reply(institution, releases, release)


def deliver(
    institution: Institution, memory: Memory, request: wire.DeliverRequest
) -> tuple[Memory, wire.OfferReply]:
    """Keep one file of a release that was offered before."""
    releases = releases_of(institution)
    release = releases.deliver(request.run, request.name, request.data)
    return memory, _reply(institution, releases, release)


def releases_of(institution: Institution) -> Releases:
    """Return an institution's releases, with the revocations that it knows of.

    Raises:
        NotApprovedError: it has no folder, as simulated ones, or no roster.
    """
    if institution.home is None or institution.membership is None:
        raise NotApprovedError("nothing was approved here that a release could be held to")
    revoked = institution.party.roster.revoked
    return Releases(institution.home, institution.trail, tuple(revoked))


def _reply(institution: Institution, releases: Releases, release: Kept) -> wire.OfferReply:
    own = releases.verdict(release)
    return wire.OfferReply(
        institution.name,
        release.folder.missing(release.manifest),
        b"" if own is None else own.to_bytes(),
    )
