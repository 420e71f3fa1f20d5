"""The process of the live view: a socket, a web server on it, and an end."""

import argparse
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import uvicorn

from common.errors import ConfigError
from server.live.app import Feed, build_app
from server.live.door import LEAST_TOKEN, Door, Keys
from server.live.watch import Runs

CONNECTIONS: Final = 128
IDLE_SECONDS: Final = 30
GRACE_SECONDS: Final = 1

Said = Callable[[str], None]


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def keys_for(host: str, given: str | None, names: tuple[str, ...]) -> Keys:
    """Return the keys of a dashboard on ``host``; ``given`` is a token that somebody chose.

    Raises:
        ConfigError: the chosen token is too short.
    """
    if given is not None and len(given) < LEAST_TOKEN:
        raise ConfigError(
            f"a token of {len(given)} characters can be guessed: take {LEAST_TOKEN} or more"
        )
    token = given or ("" if is_loopback(host) else secrets.token_urlsafe(32))
    return Keys(token, frozenset({"localhost", *(name.lower() for name in names)}))


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port}: cannot be listened on: {error.strerror}: name another by --listen"
        ) from error


def address_of(bound: socket.socket, token: str) -> str:
    """Return what to open in a browser."""
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def serve(runs: Runs, bound: socket.socket, keys: Keys, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM, Ctrl-C, or what ``ready``, called once it answers, makes of it."""
    feed = Feed(runs, secrets.token_hex(4))
    config = uvicorn.Config(
        Door(build_app(feed), keys),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, feed, ready)
    try:
        server.run(sockets=[bound])
    finally:
        runs.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, feed: Feed, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._feed, self._ready = feed, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._feed.ended = True
        await super().shutdown(sockets)


def main() -> None:
    """Serve one run's directory on a free port of loopback; end with standard input.

    What `fedprune-sim run --live` starts beside itself: the address is the first line of output.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path)
    folder = parser.parse_args().run
    bound = listening("127.0.0.1", 0)

    def ready() -> None:
        print(address_of(bound, ""), flush=True)
        threading.Thread(target=_end_with_input, daemon=True).start()

    serve(Runs(folder, single=True), bound, Keys(), ready)


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    main()
