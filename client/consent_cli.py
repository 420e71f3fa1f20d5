"""`fedprune-client init|join|approve|rotate|leave`: keys of one's own, and consent."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from client.book import Account
from client.config import load_config, open_ledger
from client.consent import COMING, KEYS, REQUEST, Home, Shown
from client.keys import read_identity
from client.ledger import Ledger
from client.limits import table_epsilon
from client.room import shortage
from client.trail import institution_trail, noted_lines
from common.consent.agreement import mark_of, require_meant
from common.consent.enrolment import Enrolment
from common.console import HERE, confirmed, tell, warn, working
from common.crypto.roster import Identity, Roster
from common.entropy import Stream, SystemEntropy
from common.errors import ConfigError, FedpruneError
from common.parsing import read_bytes
from common.plan import Plan
from common.secret_files import new_passphrase
from common.trail.events import Enrolled, Left
from common.trail.interface import Untold, refusals_noted

CLIENT_FILE = "client.toml"

TEMPLATE = """\
# What {name} keeps to itself. What it approved stands beside this file, in consent.json.
name = "{name}"

# The table: CSV or Parquet, with the columns of the plan's schema.
data = "records.csv"

# What has left the table, and the most that may, whatever a plan says; "none" sets no limit.
[ledger]
file = "ledger.sqlite"
table = "records"

[ledger.limits]
plan = 2.0
year = 4.0
ever = 10.0
"""

Folder = Annotated[Path, typer.Option("--home", help="The server's or institution's folder.")]


def init(
    name: Annotated[str, typer.Option(help="The institution's name, as in the plan.")],
    home: Folder = HERE,
) -> None:
    """Make the institution's keys on this machine, and its request to be a member."""
    choose = cache(new_passphrase)
    request = Home(home).create_keys(name, _stream(), choose)
    _note_keys(home, request, read_identity(home / KEYS, choose))
    file = home / CLIENT_FILE
    if not file.exists():
        file.write_text(TEMPLATE.format(name=name))
    _tell_request(home / REQUEST, request)
    typer.echo(f"Fill in {file}: it says where the table is, and what may leave it.")


def join(
    bundle: Annotated[Path, typer.Argument(help="The bundle that the operators published.")],
    home: Folder = HERE,
) -> None:
    """Check a bundle and show what it asks for; only approve makes it hold."""
    place = open_home(home)
    with refusals_noted(place.trail, "bundle"):
        shown = place.join(read_bytes(bundle), int(time.time()))
    _tell_charter(shown, place)
    if shown.in_force:
        typer.echo("Nothing here needs approval: it holds from the next round.")
        return
    typer.echo(
        "Compare the fingerprints with the operators and members, not by the way this file came."
        f"\nThen: fedprune-client approve {mark_of(shown.digest)}"
    )


def approve(
    mark: Annotated[
        str, typer.Argument(help="How `all of this` began where it was read; else it is asked for.")
    ] = "",
    home: Folder = HERE,
) -> None:
    """Approve the bundle that was read: pin its plan, roster, authority and address."""
    place = open_home(home)

    def require_read(shown: Shown) -> None:
        def agrees() -> bool:
            _tell_charter(shown, place)
            return confirmed("Approve all of this?")

        # Who names its beginning has read it.
        require_meant(shown.digest, mark, agrees)

    with refusals_noted(place.trail, "approval"):
        place.approve(int(time.time()), require_read)
    typer.echo("Approved: it holds from the next round.")


def rotate(
    discard: Annotated[
        bool, typer.Option("--discard", help="Give up new keys that were not admitted.")
    ] = False,
    home: Folder = HERE,
) -> None:
    """Make new keys and a request for them; they take the old ones' place once approved."""
    if discard:
        gone = Home(home).discard()
        typer.echo(f"Erased: {', '.join(gone) or 'nothing, no new keys wait'}.")
        return
    choose, place = cache(new_passphrase), Home(home)
    # New keys sign for the log, too: first of all, so that none wait that did not.
    given_up = list[str]()
    if (ledger := _ledger(home)) is not None:
        signing, noted = place.enrolment.member.signing_public, noted_lines(ledger)
        trail = institution_trail(home, place.name)
        trail.require_noted(noted, signing)
        # They do without what the keys in use do without, and nothing more.
        given_up = noted[: trail.given_up(noted, signing)]
    request = place.rotate(_stream(), choose)
    _note_keys(home, request, read_identity(home / f"{COMING}{KEYS}", choose), given_up)
    _tell_request(home / f"{COMING}{REQUEST}", request)
    typer.echo("The keys in use stay so until a bundle with the new ones is approved.")


def leave(
    home: Folder = HERE,
    yes: Annotated[
        bool,
        typer.Option("--yes", prompt="Erase this institution's keys for good?", help="Do not ask."),
    ] = False,
) -> None:
    """Erase the keys, withdraw consent, and say what past contributions still shape."""
    if not yes:
        raise ConfigError("nothing was erased: say --yes to leave")
    place = Home(home)
    trail = institution_trail(home, place.name) if (home / REQUEST).exists() else Untold()
    # First of all: neither a broken client file nor a full disk must keep the keys alive.
    gone = place.leave()
    typer.echo(f"Erased: {', '.join(gone) or 'nothing, there were no keys'}.")
    typer.echo("Backups and snapshots of this machine may still hold them.")
    past = _contributions(home)
    for line in past or ["No round was ever charged: no model was shaped by this table."]:
        typer.echo(line)
    typer.echo("The ledger stays: it counts what was spent. Ask the operators to revoke the name.")
    trail.append(Left(erased=tuple(gone)))


COMMANDS = (init, join, approve, rotate, leave)


def open_home(folder: Path) -> Home:
    """Open a home, with the revocations that its ledger noted."""
    home = Home(folder)
    home = replace(home, trail=institution_trail(folder, home.name))
    if (pin := home.pin) is None or (ledger := _ledger(folder)) is None:
        return home
    shrunk = ledger.roster(pin.plan_hash, pin.roster_hash)
    return replace(home, shrunk=Roster.from_bytes(shrunk) if shrunk else None)


def _ledger(folder: Path) -> Ledger | None:
    """Open the ledger that a home has, if it has one."""
    file = folder / CLIENT_FILE
    settings = load_config(file).ledger if file.is_file() else None
    if settings is None or not (folder / settings.file).is_file():
        return None
    return open_ledger(settings, folder)


def _contributions(folder: Path) -> list[str]:
    """Tell, run by run, what left the tables and stays in models that others have."""
    if (ledger := _ledger(folder)) is None:
        return []
    book, _ = ledger.read()
    return [
        _contribution(run, account, book.limits.accountant)
        for run, account in book.accounts.items()
        if account.charged
    ]


def _contribution(run: str, account: Account, accountant: str) -> str:
    spent = table_epsilon(account.released, accountant)
    rounds = len({entry.round for entry in account.charged})
    return (
        f"Run {run[:12]} of plan {account.plan_hash[:12]}: {rounds} rounds on {account.table!r}"
        f" shape its models for good, within epsilon {spent:.3g}; nothing takes them back."
    )


def _note_keys(
    folder: Path, request: Enrolment, identity: Identity, given_up: Sequence[str] = ()
) -> None:
    """Note new keys, and have them sign for the key of the audit log, whatever it has lost."""
    trail = institution_trail(folder, request.name)
    member = request.member
    trail.append(
        Enrolled(
            institution=request.name,
            signing_public=member.signing_public.hex(),
            agreement_public=member.agreement_public.hex(),
        )
    )
    trail.vouch(identity.signing_private, given_up, anew=bool(given_up))


def _tell_request(path: Path, request: Enrolment) -> None:
    # Opacus comes with what tells of a plan, and costs seconds.
    from common.consent.words import enrolment_facts  # noqa: PLC0415

    tell(enrolment_facts(request))
    typer.echo(f"Send {path} to an operator, and the fingerprints by another way.")


def _tell_charter(shown: Shown, place: Home) -> None:
    with working("reckoning what leaves, and what it spends"):
        from common.consent.words import charter_facts, differences  # noqa: PLC0415

        facts = list(charter_facts(shown.charter, place.name))
        short = list(_shortage(place.path, shown.charter.agreed))
    tell(facts)
    warn(short)
    if shown.before is None:
        typer.echo("\nNothing was approved here before.")
        return
    typer.echo("\nChanged since the last approval:")
    tell(list(differences(shown.before, shown.charter)) or [("nothing", "but its number")])


def _shortage(folder: Path, plan: Plan) -> Iterator[str]:
    """Say that the institution's own limits would refuse every run, which approval cannot mend."""
    with suppress(FedpruneError):  # What is wrong with its files keeps nobody from reading.
        lack, _ = shortage(load_config(folder / CLIENT_FILE).ledger, folder, plan, int(time.time()))
        if lack:
            yield f"every run would be refused here: {lack}"


def _stream() -> Stream:
    return SystemEntropy().stream("keys")
