"""`fedprune-client up`: the SuperNode and, beside it, the executor; both only call out."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from client.config import ClientConfig, load_config
from client.consent import AUTHORITY, NODE_KEY, PIN
from client.keys import read_identity
from common import status
from common.console import errors, log_to_file
from common.entropy import SystemEntropy
from common.errors import ConfigError, FedpruneError
from common.handover import AskedOnce, Handover
from common.processes import (
    Child,
    Supervisor,
    flower_environment,
    only_one,
    write_secret,
)
from common.secret_files import DATA_PASSWORD, PASSPHRASE, read_secret

log = logging.getLogger("fedprune.up")

LOOPBACK = "127.0.0.1"
SECRET_BYTES = 32


class Whereabouts:
    """Notes in a file where the approved server is, for what starts again when it has moved."""

    def __init__(self, home: Path) -> None:
        """Note where it is now; ``file`` is read by the SuperNode at each start."""
        self.file = home / "state" / "server"
        self._settings, self._pin = home / "client.toml", home / PIN
        self._seen: list[int] = []
        self()

    def __call__(self) -> None:
        """Look, if the files that say so have changed; what cannot be read says nothing."""
        files = [file for file in (self._settings, self._pin) if file.exists()]
        try:
            if self._seen == (seen := [file.stat().st_mtime_ns for file in files]):
                return
            self._seen = seen  # Whatever comes of it is said once.
            server = load_config(self._settings).server
            known = self.file.read_text() if self.file.exists() else ""
            if server is not None and server.address != known:
                write_secret(self.file, server.address.encode())
        except (FedpruneError, OSError) as error:
            log.warning("the server is looked for where it was: %s", error)


def children(home: Path, whereabouts: Path, port: int, passphrase: AskedOnce) -> list[Child]:
    """Return the institution's processes; ``port`` is of loopback, where they meet.

    ``whereabouts`` holds the server's address. The executor reads its keys itself, and anew when
    they change. The SuperNode, which speaks to the outside, has no more than its own.

    Raises:
        ConfigError: the SuperNode's key cannot be read, or not under this passphrase.
    """
    own, authority = home / NODE_KEY, home / AUTHORITY
    key = Handover(partial(read_secret, own, passphrase), own, authority, whereabouts)
    secret = str(home / "state" / "executor.secret")
    # Not from the folder it happens to run in: only installed code.
    python = (sys.executable, "-P", "-m")
    node = (
        *(*python, "client.supernode", "--superlink", f"@{whereabouts}"),
        *("--root-certificates", str(authority)),
        *("--auth-supernode-private-key", key.path),
        *("--host", LOOPBACK, "--port", str(port)),
        *("--isolation", "process", "--superexec-auth-secret-file", secret),
    )
    here = (str(home / "client.toml"), f"{LOOPBACK}:{port}", secret)
    # A SuperNode waits for the reply of an executor that died, for a minute or for ever, and hands
    # out no further message meanwhile. One that signs off and comes back has lost nothing else.
    executor = Child(
        "executor",
        (*python, "client.executor", *here),
        takes=("supernode",),
        environment={
            **({PASSPHRASE: passphrase.said} if passphrase.said else {}),
            **{name: held for name, held in os.environ.items() if name.startswith(DATA_PASSWORD)},
        },
    )
    health = Child(status.NAME, (*python, "client.health", str(home)))
    return [Child("supernode", node, handed=key), executor, health]


def greeting(home: Path, config: ClientConfig) -> Iterator[str]:
    """Say whom `up` dials and where its logs are, and what keeps the table from being opened."""
    logs = " and ".join(str(home / "logs" / f"{name}.log") for name in ("executor", "supernode"))
    address = config.server.address if config.server is not None else "nobody"
    yield f"dials {address}; why anything is refused stands in {logs}"
    if isinstance(config.data, Path) and not config.data.is_file():
        yield f"WARNING: {config.data}: no such file: every message is refused until data names one"


def up(home: Path) -> None:
    """Run the institution until SIGTERM or SIGINT."""
    home = home.resolve()
    config, passphrase = load_config(home / "client.toml"), AskedOnce()
    if config.server is None:
        raise ConfigError(
            f"{home / 'client.toml'}: no server is known: fedprune-client join a bundle, then"
            " approve, or name the [server] and its address"
        )
    # Here, where a person may type the passphrase and read that it is wrong.
    if config.membership is not None:
        read_identity(home / config.membership.keys, passphrase)
    with only_one(home):
        write_secret(
            home / "state" / "executor.secret", SystemEntropy().stream("executor")(SECRET_BYTES)
        )
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        whereabouts = Whereabouts(home)
        kept = children(home, whereabouts.file, port, passphrase)
        passphrase.close()
        for line in greeting(home, config):
            errors.print(line, markup=False)
        log_to_file()
        environment, state = flower_environment(home), home / "state"
        Supervisor(kept, home / "logs", environment, whereabouts, state=state).run()
