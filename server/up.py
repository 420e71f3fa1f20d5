"""`fedprune-server up`: SuperLink on loopback, the public port, the executor, the nodes' keys."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx

from common import status
from common.console import log_to_file
from common.entropy import SystemEntropy
from common.errors import FedpruneError
from common.handover import AskedOnce, Handover
from common.processes import GRACE_SECONDS, Child, Supervisor, flower_environment, only_one
from common.secret_files import Ask, read_secret
from server.certificates import identity_pem
from server.control import let_in
from server.desk import LOOPBACK, Desk, Public, await_port, open_desk, read_public
from server.home import CERTIFICATE, MEMBERS, SERVER_KEY
from server.members import SETTLE_SECONDS, Members

log = logging.getLogger("fedprune.up")

RECONCILE_SECONDS = 60.0
"""Between looks at the nodes that SuperLink knows while ``members/`` stays as it is."""

ASK_SECONDS = 2.0
"""For each answer of SuperLink: nothing else is looked after meanwhile."""

PORT_SECONDS = GRACE_SECONDS
"""For the gateway of an `up` that was killed, which ends what it was about."""

PATIENCE = 5.0
"""The pause after an attempt that failed, in times of how long it took."""


class Doorkeeper:
    """Holds the nodes that SuperLink knows to the keys in ``members/``."""

    def __init__(
        self, desk: Desk, members: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Compare ``members`` with what SuperLink was told last, which is nothing."""
        self._desk, self._members, self._clock = desk, Members(members, clock), clock
        self._due = self._stale = 0.0
        self._told: tuple[Mapping[bytes, str], frozenset[str]] | None = None
        self._failed = ""

    def __call__(self) -> None:
        """Look, if it is time; a SuperLink that is away or refuses is told until it has heard."""
        began = self._clock()
        if began < self._due:
            return
        self._due = began + SETTLE_SECONDS
        try:
            keys = self._members()
            found = (keys, self._members.unreadable)
            if found == self._told and began < self._stale:
                return
            with self._desk.control(ASK_SECONDS) as control:
                let_in(control, keys, self._members.unreadable)
        except (httpx.HTTPError, FedpruneError, OSError) as error:
            now = self._clock()
            self._due = now + max(SETTLE_SECONDS, PATIENCE * (now - began))
            if str(error) != self._failed and not isinstance(error, httpx.TransportError):
                log.warning("nodes' keys were not passed on: %s", error)
            # What it has heard of them is not known.
            self._failed, self._told = str(error), None
            return
        if found != self._told:
            named = ", ".join(sorted(keys.values()))
            log.info("%d institutions may connect: %s", len(keys), named)
        self._told, self._failed, self._stale = found, "", began + RECONCILE_SECONDS


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
    listen = (public.listen, str(public.port), key.path, desk.address, str(home))
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
        await_port(public, PORT_SECONDS)
        desk = open_desk(home, datetime.now(UTC), SystemEntropy().stream("desk"))
        (home / MEMBERS).mkdir(exist_ok=True)
        passphrase = AskedOnce()
        kept = children(home, desk, public, passphrase)
        passphrase.close()
        log_to_file()
        Supervisor(
            kept,
            home / "logs",
            flower_environment(home),
            Doorkeeper(desk, home / MEMBERS),
            state=home / "state",
        ).run()
