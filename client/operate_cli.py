"""`fedprune-client up | doctor | healthcheck`: from day to day."""

from datetime import UTC, datetime

import typer

from common.console import HERE, AsJson, Home
from common.homes import INSTITUTION, require_home, require_own


def add_commands(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (up, doctor, healthcheck):
        app.command()(command)


def up(home: Home = HERE) -> None:
    """Run the SuperNode and the executor until SIGTERM or Ctrl-C."""
    from client.up import up as supervise  # noqa: PLC0415

    require_home(home, INSTITUTION)
    supervise(home)


def doctor(
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Check certificate, keys, server, clock, disk, versions and the table; say what to do."""
    from client.doctor import examine  # noqa: PLC0415
    from common.checkup import show  # noqa: PLC0415

    require_own(home, INSTITUTION)
    show(examine(home, datetime.now(UTC)), as_json=as_json)


def healthcheck(home: Home = HERE) -> None:
    """Ask `up` by gRPC whether the institution is well; end with 1 if it is not."""
    from common.status import check  # noqa: PLC0415 - gRPC, which no other command needs

    check(home)
    typer.echo("healthy")
