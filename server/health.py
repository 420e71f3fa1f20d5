"""The process that tells how the server stands: its children, SuperLink, and the public port."""

import ssl
import sys
from pathlib import Path

import httpx

from common.address import join_address
from common.console import log_to_file
from common.metrics import pages
from common.status import ASK_SECONDS, Part, ready, running, serve
from server.desk import LOOPBACK, Public, read_public
from server.metrics import sources

EVERY = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - compared with, not bound
"""Where on this machine a port of all its addresses is reached."""
READY = "serverapp"


class Look:
    """Looks at the processes of the server in ``home``, and asks those that answer."""

    def __init__(self, home: Path, superlink: str, public: Public) -> None:
        """``superlink`` is its ``host:port`` on loopback."""
        self._state, self._public, self._superlink = home / "state", public, superlink
        self._desk = _client(self._state / "desk.pem")
        self._authority = home / "ca.pem"

    def __call__(self) -> dict[str, Part]:
        """Return the server's parts as they are now."""
        host = EVERY.get(self._public.listen, self._public.listen)
        gateway = join_address(host, self._public.port)
        # Read each time: another authority may have followed. The certificate is made out to the
        # name that institutions dial.
        with _client(self._authority) as outside:
            public = self._answers("gateway", outside, gateway, self._public.host)
        return {
            "superlink": self._answers("superlink", self._desk, self._superlink),
            "gateway": public,
            "serverapp": ready(self._state, READY),
        }

    def _answers(self, name: str, client: httpx.Client, address: str, host: str = "") -> Part:
        part = running(self._state, name)
        if not part.well:
            return part
        named = {"sni_hostname": host} if host else {}
        try:
            reply = client.get(f"https://{address}/health", extensions=named)
        except httpx.TransportError as error:
            return Part(False, f"does not answer: {type(error).__name__}")
        return Part(reply.is_success, f"answers {reply.status_code}")


def _client(authority: Path) -> httpx.Client:
    trusted = ssl.create_default_context(cafile=authority)
    return httpx.Client(verify=trusted, timeout=ASK_SECONDS, trust_env=False)


def main(folder: str, superlink: str) -> None:
    """Tell until SIGTERM how the server in ``folder`` stands."""
    log_to_file()
    home = Path(folder)
    public = read_public(home / "server.toml")
    look = Look(home, superlink, public)
    serve(home / "state", public.monitoring, look, lambda board: pages(sources(home, board)))


if __name__ == "__main__":
    main(*sys.argv[1:])
