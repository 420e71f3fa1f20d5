"""`fedprune-client up | doctor | healthcheck | backup | restore`: from day to day."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from common.entropy import SystemEntropy
from common.secret_files import new_passphrase

Home = Annotated[Path, typer.Option("--home", help="The institution's directory.")]
HERE = Path()


def add_commands(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (up, doctor, healthcheck, backup, restore):
        app.command()(command)


def up(home: Home = HERE) -> None:
    """Run the SuperNode and the executor until SIGTERM or Ctrl-C."""
    from client.up import up as supervise  # noqa: PLC0415

    supervise(home)


def doctor(
    home: Home = HERE,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check certificate, keys, server, clock, disk, versions and the table; say what to do."""
    from client.doctor import examine  # noqa: PLC0415
    from common.checkup import show  # noqa: PLC0415

    show(examine(home, datetime.now(UTC)), as_json=as_json)


def healthcheck(home: Home = HERE) -> None:
    """Ask `up` by gRPC whether the institution is well; end with 1 if it is not."""
    from common.status import check  # noqa: PLC0415 - gRPC, which no other command needs

    check(home)
    typer.echo("healthy")


def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write.")], home: Home = HERE
) -> None:
    """Copy settings, keys, consent and ledger to one file, while `up` runs or not; no table."""
    from client.backup import archived  # noqa: PLC0415
    from common.backup import save  # noqa: PLC0415

    made = archived(home, int(time.time()))
    save(file, made, SystemEntropy().stream("backup"), new_passphrase)
    typer.echo(f"{file}: {len(made.files)} files; it holds the private keys: keep it as them")


def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` wrote.")],
    home: Annotated[Path, typer.Option("--home", help="A folder that does not exist yet.")],
) -> None:
    """Write a backup's files to a new folder, and prove its ledger whole as far as it goes."""
    from client.config import load_config, open_ledger  # noqa: PLC0415
    from common.backup import restore as write_back  # noqa: PLC0415

    made = datetime.fromtimestamp(write_back(file, home, "client").made, UTC)
    typer.echo(
        f"{home}: the institution as it was on {made:%Y-%m-%d %H:%M} UTC, without its table."
    )
    settings = load_config(home / "client.toml").ledger
    if (home / settings.file).exists():
        lines = open_ledger(settings, home).verify()
        typer.echo(
            f"The ledger holds as far as it goes, {lines} lines. Whatever was spent since is not in"
            " it. The server\nreturns what this institution signed last, and a ledger behind that"
            " stops (ledger-behind): then\nrestore a newer one. Without one the table must not be"
            " used again under other keys either,\nunless [ledger.limits] are lowered by all that"
            " the lost lines may have spent."
        )
    typer.echo("Never run it beside the home it was copied from.")
