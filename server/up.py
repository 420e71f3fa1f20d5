"""`fedprune-server up`: SuperLink on loopback, the public port, the executor, the nodes' keys."""

import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx

from common import status
from common.console import log_to_file
from common.entropy import SystemEntropy
from common.errors import FedpruneError
from common.handover import AskedOnce, Handover
from common.processes import Child, Supervisor, flower_environment, only_one
from common.secret_files import Ask, read_secret
from server.certificates import identity_pem
from server.control import let_in
from server.desk import LOOPBACK, Desk, Public, open_desk, read_public
from server.home import CERTIFICATE, SERVER_KEY

log = logging.getLogger("fedprune.up")

SETTLE_SECONDS = 1.0
"""Between looks at ``members/``, and between attempts to reach SuperLink."""


class Doorkeeper:
    """Tells SuperLink whenever the keys in ``members/`` have changed."""

    def __init__(
        self, desk: Desk, members: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Compare ``members`` with what SuperLink was told last, which is nothing."""
        self._desk, self._members, self._clock = desk, members, clock
        self._due = 0.0
        self._told: object = None

    def __call__(self) -> None:
        """Look, if it is time; a SuperLink that is away is told when it is back."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + SETTLE_SECONDS
        there = {
            path.name: (path.stat().st_mtime_ns, path.stat().st_size)
            for path in self._members.glob("*.pub")
        }
        if there == self._told:
            return
        try:
            with self._desk.control() as control:
                let_in(control, self._members)
        except httpx.TransportError:
            return
        except (httpx.HTTPError, FedpruneError, OSError) as error:
            log.warning("nodes' keys were not passed on: %s", error)
        else:
            log.info("%d institutions may connect: %s", len(there), ", ".join(sorted(there)))
        self._told = there


def children(home: Path, desk: Desk, public: Public, passphrase: Ask) -> list[Child]:
    """Return the server's processes, in the order in which they start.

    Raises:
        ConfigError: the server's key cannot be read, or not under this passphrase, or belongs to
            another certificate.
    """
    certificate = home / CERTIFICATE

    def identity() -> bytes:
        return identity_pem(read_secret(home / SERVER_KEY, passphrase), certificate.read_bytes())

    # A renewal writes it last.
    key = Handover(identity, certificate)
    superlink = (
        str(Path(sys.executable).with_name("flower-superlink")),
        *("--host", LOOPBACK, "--port", str(desk.port)),
        *("--ssl-certfile", str(desk.certificate), "--ssl-ca-certfile", str(desk.certificate)),
        *("--ssl-keyfile", str(desk.key)),
        *("--database", str(home / "state" / "superlink.sqlite"), "--enable-supernode-auth"),
        *("--isolation", "process", "--superexec-auth-secret-file", str(desk.secret)),
        "--disable-runtime-dependency-installation",
    )
    # Not from the folder it happens to run in: only installed code.
    python = (sys.executable, "-P", "-m")
    listen = (public.listen, str(public.port), key.path, desk.address, str(desk.certificate))
    return [
        Child("superlink", superlink),
        Child("gateway", (*python, "server.gateway", *listen), handed=key),
        Child("serverapp", (*python, "server.executor", str(home), desk.address)),
        Child(status.NAME, (*python, "server.health", str(home), desk.address)),
    ]


def up(home: Path) -> None:
    """Run the server until SIGTERM or SIGINT."""
    home = home.resolve()
    public = read_public(home / "server.toml")
    with only_one(home):
        desk = open_desk(home, datetime.now(UTC), SystemEntropy().stream("desk"))
        (home / "members").mkdir(exist_ok=True)
        kept = children(home, desk, public, AskedOnce())
        log_to_file()
        Supervisor(
            kept,
            home / "logs",
            flower_environment(home),
            Doorkeeper(desk, home / "members"),
            state=home / "state",
        ).run()
