"""The server's audit log: where it lies, and what the operators' acts put into it."""

from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from common.consent.acts import Admission, Proposal, Revocation, charter_of
from common.entropy import SystemEntropy
from common.errors import ConfigError
from common.parsing import read_toml
from common.trail.events import Admitted, Event, Published, Revoked
from common.trail.file import FOLDER, FileTrail
from common.trail.lines import Author

SETTINGS = "server.toml"
UNNAMED = "server"
"""Whose log it is where nobody gave the federation a name."""


class Founded(BaseModel):
    """What ``server.toml`` says of the federation, if it was founded here; it holds more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = UNNAMED
    operator: str = ""


read_founded = partial(read_toml, Founded.model_validate, kind=ConfigError)
"""Read ``server.toml``; raise `ConfigError` naming what is wrong."""


def server_trail(home: Path, name: str = "") -> FileTrail:
    """Return the log of the server whose folder this is; ``name`` before there are settings."""
    if not name and (home / SETTINGS).is_file():
        name = read_founded(home / SETTINGS).name
    stream = SystemEntropy().stream("audit")
    return FileTrail(home / FOLDER, Author("server", name or UNNAMED), stream)


def act_event(proposal: Proposal, replaces: str = "") -> Event:
    """Return what is noted of a change of members or charter before it takes effect.

    ``replaces`` is the signing key, in hexadecimal, that an admission has come in place of.
    """
    signers = tuple(sorted(proposal.signatures))
    act = proposal.act
    if isinstance(act, Admission):
        return Admitted(
            institution=act.enrolment.name,
            signing_public=act.enrolment.member.signing_public.hex(),
            replaces=replaces,
            signers=signers,
        )
    if isinstance(act, Revocation):
        key = act.signing_public.hex()
        return Revoked(institution=act.name, signing_public=key, signers=signers)
    act = charter_of(proposal)
    return Published(
        number=act.sequence,
        charter=proposal.digest,
        plan=act.agreed.digest(),
        roster=act.roster.digest,
        members=act.roster.names,
        expires=act.expires,
        signers=signers,
    )
