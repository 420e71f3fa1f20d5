"""An institution's audit log: where it lies, and what its rounds put into it."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from client.entries import Place, Release
from client.limits import table_epsilon
from common.consent.acts import Charter, Proposal
from common.consent.authority import authority_hash
from common.descriptor import RoundDescriptor
from common.entropy import SystemEntropy
from common.trail.events import Approved, Charged, Contributed, Shown
from common.trail.file import FOLDER, FileTrail
from common.trail.interface import Untold
from common.trail.lines import Author

if TYPE_CHECKING:
    from client.ledger import Ledger
    from client.stages import Institution


def institution_trail(home: Path, name: str) -> FileTrail:
    """Return the log of the institution whose folder this is."""
    stream = SystemEntropy().stream("audit")
    return FileTrail(home / FOLDER, Author("institution", name), stream)


def noted_lines(ledger: Ledger) -> list[str]:
    """Return the hashes of the log's lines that a ledger notes, in its order."""
    return [entry.digest for entry in ledger.marked()]


def note_charges(institution: Institution, place: Place, releases: tuple[Release, ...]) -> None:
    """Note what the ledger has charged for a round, before it is worked on."""
    if isinstance(institution.trail, Untold):
        return  # The epsilon costs a simulation more than its round.
    # RDP's bound: PRV, which the limits go by, takes a second.
    epsilon = table_epsilon(institution.ledger.released(), "rdp")
    institution.trail.append(
        *(
            Charged(
                run=place.run,
                plan=place.plan_hash,
                round=place.round,
                epoch=place.epoch,
                part=release.part,
                unit=release.unit,
                noise_multiplier=release.noise_multiplier,
                sample_rate=release.sample_rate,
                steps=release.steps,
                delta=release.delta,
                epsilon=epsilon if isfinite(epsilon) else None,
            )
            for release in releases
        )
    )


def note_contribution(
    institution: Institution, descriptor: RoundDescriptor, head: bytes, *, again: bool
) -> None:
    """Note that a round's vector is about to leave; ``head`` is that of the server's log."""
    institution.trail.append(
        Contributed(
            run=descriptor.run,
            plan=descriptor.plan_hash,
            round=descriptor.round,
            epoch=descriptor.epoch,
            descriptor=descriptor.digest().hex(),
            model=descriptor.model_hash,
            mask=descriptor.mask_hash,
            again=again,
            head=head.hex(),
        )
    )


def shown_event(bundle: Proposal, charter: Charter) -> Shown:
    """Return what is noted of a bundle that was checked."""
    return Shown(
        number=charter.sequence,
        charter=bundle.digest,
        plan=charter.agreed.digest(),
        roster=charter.roster.digest,
    )


def approved_event(bundle: Proposal, charter: Charter, *, by_itself: bool) -> Approved:
    """Return what is noted of a bundle before it is put in force."""
    return Approved(
        **shown_event(bundle, charter).model_dump(),
        authority=authority_hash(charter.authority),
        address=charter.address,
        expires=charter.expires,
        by="shrinking" if by_itself else "approval",
    )
