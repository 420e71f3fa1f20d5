"""`fedprune-server backup | restore`: a server as one file, and back."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from common import backup as files
from common.console import HERE, Home
from common.entropy import SystemEntropy
from common.secret_files import new_passphrase
from common.trail.events import Restored
from server.trail import server_trail

SAID = """\
{home}: the server as it was on {made:%Y-%m-%d %H:%M} UTC. Never run it beside the one it was \
copied from.
A run goes on from its last round here by `fedprune-server resume RUN`, unless institutions have \
gone further: then it stops, and a new one has to begin.
What they signed since is not known here: one whose ledger was restored too has to show that it is \
whole.
Whoever was admitted or revoked since, was not: do it again before `up`."""


def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write.")],
    home: Home = HERE,
) -> None:
    """Copy CA, keys, members, adverts and runs to one file, while `up` runs or not."""
    from server.backup import archived  # noqa: PLC0415 - Flower takes a second to import

    made = archived(home, int(time.time()))
    files.save(file, made, SystemEntropy().stream("backup"), new_passphrase)
    typer.echo(f"{file}: {len(made.files)} files, the private keys among them: keep it as you do")


def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` wrote.")],
    home: Annotated[Path, typer.Option("--home", help="A folder that does not exist yet.")],
) -> None:
    """Write a backup's files to a new folder; runs go on from there as far as they can."""
    from server.home import make_folders  # noqa: PLC0415

    archive = files.restore(file, home, "server")
    made = datetime.fromtimestamp(archive.made, UTC)
    make_folders(home)  # No archive holds the empty ones.
    server_trail(home).append(Restored(made=archive.made))
    typer.echo(SAID.format(home=home, made=made))


COMMANDS = (backup, restore)
