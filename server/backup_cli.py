"""`fedprune-server backup | restore`: a server as one file, and back."""

from common import backup as files
from common.console import HERE, Home
from server.trail import server_trail

SAID = """\
{home}: the server as it was on {made:%Y-%m-%d %H:%M} UTC. Never run it beside the one it was \
copied from.
A run goes on from its last round here by `fedprune-server resume RUN`, unless institutions have \
gone further: then it stops, and a new one has to begin.
What they signed since is not known here: one whose ledger was restored too has to show that it is \
whole.
Whoever was admitted or revoked since, was not: do it again before `up`."""


def backup(file: files.Target, home: Home = HERE) -> None:
    """Copy CA, keys, members, adverts and runs to one file, while `up` runs or not."""
    from server.backup import archived  # noqa: PLC0415 - Flower takes a second to import

    files.back_up(file, archived, home)


def restore(file: files.Source, home: files.NewHome) -> None:
    """Write a backup's files to a new folder; runs go on from there as far as they can."""
    from server.home import make_folders  # noqa: PLC0415

    archive = files.restore(file, home, "server")
    make_folders(home)  # No archive holds the empty ones.
    files.restored(archive, home, SAID, server_trail(home))


COMMANDS = (backup, restore)
