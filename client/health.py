"""The process that tells how an institution stands: its children, and whether it is ready.

Whether the server can be reached is told too, and does not make an institution ill: it waits.
"""

import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from client.config import load_config
from client.metrics import sources
from common.console import log_to_file
from common.errors import FedpruneError
from common.metrics import pages
from common.status import ASK_SECONDS, Part, ready, running, serve

READY = "executor"

SERVER_SECONDS = 30.0
"""Between questions to the server: they go over the network, where it hears enough of us."""


class Look:
    """Looks at the processes of the institution in ``home``, and at times for its server."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Ask nobody yet."""
        self._home, self._state, self._clock = home, home / "state", clock
        self._due = 0.0
        self._server = Part(False, "was not asked yet", vital=False)

    def __call__(self) -> dict[str, Part]:
        """Return the institution's parts as they are now."""
        if self._clock() >= self._due:
            self._due = self._clock() + SERVER_SECONDS
            self._server = self._ask()
        return {
            "supernode": running(self._state, "supernode"),
            "executor": ready(self._state, READY),
            "server": self._server,
        }

    def _ask(self) -> Part:
        # Both are approved anew at times.
        try:
            server = load_config(self._home / "client.toml").server
            trusted = ssl.create_default_context(cafile=self._home / "ca.pem")
            if server is None:
                return Part(False, "is not known: nothing is approved", vital=False)
            url = f"https://{server.address}/health"
            reply = httpx.get(url, verify=trusted, timeout=ASK_SECONDS, trust_env=False)
        except (httpx.TransportError, FedpruneError, OSError) as error:
            return Part(False, f"does not answer: {type(error).__name__}", vital=False)
        return Part(reply.is_success, f"answers {reply.status_code}", vital=False)


def main(folder: str) -> None:
    """Tell until SIGTERM how the institution in ``folder`` stands."""
    log_to_file()
    home = Path(folder)
    config = load_config(home / "client.toml")
    look = Look(home)
    serve(home / "state", config.monitoring, look, lambda board: pages(sources(home, board)))


if __name__ == "__main__":
    main(*sys.argv[1:])
