"""`fedprune-server audit verify|show|rotate|compare|vouch`."""

import json
from collections.abc import Iterator
from pathlib import Path

from common.consent.enrolment import Enrolment
from common.homes import SERVER, require_home
from common.trail.commands import Place, audit_app
from common.trail.lines import Author
from server.founding import read_operator
from server.home import OPERATOR_KEY, SETTINGS, ServerHome
from server.journal import AUDIT, JOURNAL
from server.trail import read_founded, server_trail


def place_of(home: Path) -> Place:
    """Return a server's log: by whose key it must be signed for, and who noted its lines.

    The journals of its runs note the log's last line with each of theirs.
    """
    require_home(home, SERVER)
    place = ServerHome(home)
    # Homes that were made by hand, for trials, have no operators.
    founded = read_founded(home / SETTINGS).operator
    operators = set(place.operators.keys.values()) if founded else None
    trail = server_trail(home)
    return Place(trail, operators, list(_noted(home)), _members(place, operators))


def _noted(home: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(home.glob(f"runs/*/{JOURNAL}")):
        for row, text in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                digest = json.loads(text).get(AUDIT, "")
            except (ValueError, AttributeError):
                continue  # Its own run finds what is wrong with it.
            if digest:
                yield f"the line that {path.parent.name}/{JOURNAL} row {row} notes", digest


def _members(place: ServerHome, operators: set[str] | None) -> dict[Author, set[str]]:
    """Return the keys by which the members' logs are known, those they had before among them."""
    if operators is None:
        return {}
    members: dict[Author, set[str]] = {Author("server", place.settings.name): operators}
    enrolments: list[Enrolment] = [*place.members.values(), *place.former]
    for one in enrolments:
        known = members.setdefault(Author("institution", one.name), set())
        known.add(one.member.signing_public.hex())
    return members


app = audit_app(place_of, lambda home: read_operator(home / OPERATOR_KEY))
