"""`fedprune-client backup | restore`: an institution but for its table as one file, and back."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from client.backup import archived
from client.config import load_config, open_ledger
from client.trail import institution_trail
from common import backup as files
from common.console import HERE, Home
from common.entropy import SystemEntropy
from common.secret_files import new_passphrase
from common.trail.events import Restored

SAID = """\
{home}: the institution as it was on {made:%Y-%m-%d %H:%M} UTC, without its table. Never run it \
beside the one it was copied from."""

FORGOTTEN = """\
Its ledger holds as far as it goes, {lines} lines. Whatever was spent since is not in it.
The server returns what this institution signed last, and a ledger behind that refuses everything \
(ledger-behind): then restore a newer one.
Without one the table may not be used again under other keys either, unless [ledger.limits] are \
lowered by all that the lost lines may have spent."""


def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write.")],
    home: Home = HERE,
) -> None:
    """Copy settings, keys, consent and ledger to one file, while `up` runs or not; no table."""
    made = archived(home, int(time.time()))
    files.save(file, made, SystemEntropy().stream("backup"), new_passphrase)
    typer.echo(f"{file}: {len(made.files)} files, the private keys among them: keep it as you do")


def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` wrote.")],
    home: Annotated[Path, typer.Option("--home", help="A folder that does not exist yet.")],
) -> None:
    """Write a backup's files to a new folder, and prove its ledger whole as far as it goes."""
    archive = files.restore(file, home, "client")
    made = datetime.fromtimestamp(archive.made, UTC)
    typer.echo(SAID.format(home=home, made=made))
    config = load_config(home / "client.toml")
    institution_trail(home, config.name).append(Restored(made=archive.made))
    settings = config.ledger
    if (home / settings.file).exists():
        typer.echo(FORGOTTEN.format(lines=open_ledger(settings, home).verify()))


COMMANDS = (backup, restore)
