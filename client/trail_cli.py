"""`fedprune-client audit verify|show|rotate|compare|vouch`."""

from pathlib import Path

from client.config import ClientConfig, load_config, open_ledger
from client.consent import KEYS, REQUEST, approved_bundle, read_pin
from client.keys import read_identity
from client.trail import institution_trail
from common.consent.acts import charter_of
from common.consent.enrolment import Enrolment
from common.crypto.roster import Roster
from common.errors import ConfigError
from common.trail.commands import Place, audit_app
from common.trail.lines import Author

CLIENT_FILE = "client.toml"


def place_of(home: Path) -> Place:
    """Return an institution's log: by whom its key must be signed for, and who noted its lines.

    The ledger notes the log's last line whenever it notes a use of keys.
    """
    file, request = home / CLIENT_FILE, home / REQUEST
    config = load_config(file) if file.is_file() else None
    if config is None and not request.is_file():
        raise ConfigError(f"{home}: neither {CLIENT_FILE} nor {REQUEST}: no institution's folder")
    trusted: set[str] = set()
    name = config.name if config is not None else ""
    if request.is_file():
        own = Enrolment.from_bytes(request.read_bytes())
        name, trusted = own.name, {own.member.signing_public.hex()}
    elif config is not None and config.membership is not None:
        roster = Roster.from_bytes((home / config.membership.roster).read_bytes())
        trusted = {roster.member(name).signing_public.hex()}
    return Place(
        institution_trail(home, name),
        trusted or None,
        _noted(home, config) if config is not None else (),
        _members(home),
    )


def _noted(home: Path, config: ClientConfig) -> list[tuple[str, str]]:
    if not (home / config.ledger.file).is_file():
        return []
    return [
        (f"the line that line {entry.sequence} of the ledger notes", entry.digest)
        for entry in open_ledger(config.ledger, home).marked()
    ]


def _members(home: Path) -> dict[Author, set[str]]:
    """Return whose logs the approved charter lets one know again, and by which keys."""
    if (pin := read_pin(home)) is None:
        return {}
    charter = charter_of(approved_bundle(home, pin))
    members = {
        Author("institution", name): {member.signing_public.hex()}
        for name, member in charter.roster.members.items()
    }
    server = Author("server", charter.federation)
    return {**members, server: set(charter.operators.keys.values())}


def _owner(home: Path) -> bytes:
    file = home / CLIENT_FILE
    membership = load_config(file).membership if file.is_file() else None
    keys = home / (KEYS if membership is None else membership.keys)
    return read_identity(keys).signing_private


app = audit_app(place_of, _owner)
