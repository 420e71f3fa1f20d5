"""`fedprune-client backup | restore`: an institution but for its table as one file, and back."""

import typer

from client.backup import archived
from client.config import load_config, open_ledger
from client.trail import institution_trail
from common import backup as files
from common.console import HERE, Home

SAID = """\
{home}: the institution as it was on {made:%Y-%m-%d %H:%M} UTC, without its table. Never run it \
beside the one it was copied from."""

FORGOTTEN = """\
Its ledger holds as far as it goes, {lines} lines. Whatever was spent since is not in it.
The server returns what this institution signed last, and a ledger behind that refuses everything \
(ledger-behind): then restore a newer one.
Without one the table may not be used again under other keys either, unless [ledger.limits] are \
lowered by all that the lost lines may have spent."""


def backup(file: files.Target, home: Home = HERE) -> None:
    """Copy settings, keys, consent and ledger to one file, while `up` runs or not; no table."""
    files.back_up(file, archived, home)


def restore(file: files.Source, home: files.NewHome) -> None:
    """Write a backup's files to a new folder, and prove its ledger whole as far as it goes."""
    archive = files.restore(file, home, "client")
    config = load_config(home / "client.toml")
    files.restored(archive, home, SAID, institution_trail(home, config.name))
    settings = config.ledger
    if (home / settings.file).exists():
        typer.echo(FORGOTTEN.format(lines=open_ledger(settings, home).verify()))


COMMANDS = (backup, restore)
