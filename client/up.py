"""`fedprune-client up`: the SuperNode and, beside it, the executor; both only call out."""

import socket
import sys
from pathlib import Path

from client.config import ServerConfig, load_config
from common import status
from common.console import log_to_file
from common.entropy import SystemEntropy
from common.errors import ConfigError
from common.processes import (
    OWNER_ONLY,
    Child,
    Supervisor,
    flower_environment,
    only_one,
    write_secret,
)

LOOPBACK = "127.0.0.1"
SECRET_BYTES = 32


def children(home: Path, server: ServerConfig, port: int) -> list[Child]:
    """Return the institution's processes; ``port`` is of loopback, where they meet."""
    secret = str(home / "state" / "executor.secret")
    # Not from the folder it happens to run in: only installed code.
    python = (sys.executable, "-P", "-m")
    node = (
        *(*python, "client.supernode", "--superlink", server.address),
        *("--root-certificates", str(home / "ca.pem")),
        *("--auth-supernode-private-key", str(home / "node.key")),
        *("--host", LOOPBACK, "--port", str(port)),
        *("--isolation", "process", "--superexec-auth-secret-file", secret),
    )
    here = (str(home / "client.toml"), f"{LOOPBACK}:{port}", secret)
    # A SuperNode waits for the reply of an executor that died, for a minute or for ever, and hands
    # out no further message meanwhile. One that signs off and comes back has lost nothing else.
    executor = Child("executor", (*python, "client.executor", *here), takes=("supernode",))
    health = Child(status.NAME, (*python, "client.health", str(home), server.address))
    return [Child("supernode", node), executor, health]


def up(home: Path) -> None:
    """Run the institution until SIGTERM or SIGINT."""
    home = home.resolve()
    server = load_config(home / "client.toml").server
    if server is None:
        raise ConfigError(
            f"{home / 'client.toml'}: no server is known: fedprune-client join a bundle, then"
            " approve, or name the [server] and its address"
        )
    key = home / "node.key"
    if not key.is_file() or key.stat().st_mode & 0o777 & ~OWNER_ONLY:
        raise ConfigError(f"{key}: no private key that its owner alone can read: chmod 0600 {key}")
    log_to_file()
    with only_one(home):
        write_secret(
            home / "state" / "executor.secret", SystemEntropy().stream("executor")(SECRET_BYTES)
        )
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        Supervisor(
            children(home, server, port),
            home / "logs",
            flower_environment(home),
            state=home / "state",
        ).run()
