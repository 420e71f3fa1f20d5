"""`fedprune-server dashboard`: the live view of the runs on this machine."""

from pathlib import Path
from typing import Annotated, Final

import typer

from common.console import errors, warn
from common.errors import ConfigError
from common.secret_files import from_environment

LISTEN: Final = "127.0.0.1:8477"
TOKEN: Final = "FEDPRUNE_LIVE_TOKEN"  # noqa: S105
"""Environment variable with the token, or ``..._FILE`` with the file that holds it."""


def dashboard(
    home: Annotated[
        Path,
        typer.Option("--home", help="The server's directory, or one with runs/ of a simulator."),
    ] = Path(),
    listen: Annotated[
        str, typer.Option(help="HOST:PORT; port 0 takes a free one.", show_default=True)
    ] = LISTEN,
    name: Annotated[
        list[str] | None, typer.Option(help="A name by which browsers reach it; repeatable.")
    ] = None,
) -> None:
    """Show runs in a browser as they go on: read-only, and on this machine unless told otherwise.

    On any other address everybody needs a token: FEDPRUNE_LIVE_TOKEN, or the file that
    FEDPRUNE_LIVE_TOKEN_FILE names, or one that is drawn and printed with the address.
    """
    # The web server takes part of a second, which the other commands do without.
    from server.live.serve import (  # noqa: PLC0415
        address_of,
        is_loopback,
        keys_for,
        listening,
        serve,
    )
    from server.live.watch import Runs  # noqa: PLC0415

    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and colon and port.isdecimal() and int(port) < 1 << 16):
        raise ConfigError(f"--listen {listen!r} is no HOST:PORT, such as {LISTEN}")
    if not home.is_dir():
        raise ConfigError(f"{home}: no such directory: name one by --home")
    given = from_environment(TOKEN)
    keys = keys_for(host, given, tuple(name or ()))
    bound = listening(host, int(port))
    if not is_loopback(host):
        warn(["plain HTTP: others on the way can read along; put TLS before it, or tunnel by SSH"])
    # Who chose the token knows it, and need not find it in a log.
    shown = "" if given else keys.token
    serve(
        Runs(home.resolve()),
        bound,
        keys,
        lambda: errors.print(f"live view: {address_of(bound, shown)}", markup=False),
    )
