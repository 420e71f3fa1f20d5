"""How a role stands, told on its own machine: gRPC health checking and, where named, HTTP pages.

A process of its own beside the others of `up`, on loopback alone. The health service is Flower's
and everybody's (``grpc.health.v1``): the service ``""`` is the whole role, and each of its parts
is a service by its name. Over HTTP there is ``/healthz`` and whatever pages the role adds.
"""

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import BaseModel, ConfigDict, Field

from common.errors import FedpruneError
from common.processes import Presence, Standing, is_present, read_standings, write_secret

log = logging.getLogger("fedprune.status")

NAME: Final = "health"
"""Of the process among those of `up`, and of its log."""

NOTE: Final = "health.json"
"""In ``state/``: the port of the health service and the role's parts; a `Presence` beside it says
whether they hold."""

LOOK_SECONDS = 2.0
ASK_SECONDS = 5.0
"""How long one question to a process may take."""

PROVEN_SECONDS = 20.0
"""A process that ended early before runs well once it has lived longer than any pause."""

_SERVING, _NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)
_WORKERS = 4
# No proxy is asked for an address of loopback.
_DIRECT = (("grpc.enable_http_proxy", 0),)

Address = Annotated[str, Field(pattern=r"^127\.0\.0\.1:[0-9]{1,5}$")]


class Monitoring(BaseModel):
    """``[monitoring]`` of ``server.toml`` and ``client.toml``: where a role tells how it stands.

    Loopback alone: whoever watches from elsewhere does it through an agent on this machine.
    ``listen`` is for HTTP, which is off unless it is named; ``grpc`` for the health service,
    which `healthcheck` asks and which takes a free port unless one is named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: Address | None = None
    grpc: Address = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a role: whether it is well, in words, and whether the role is ill without it."""

    well: bool
    said: str
    vital: bool = True


Look = Callable[[], Mapping[str, Part]]


class Page(Protocol):
    """What answers a GET: status, content type and body; nothing in it may be of a record."""

    def __call__(self) -> tuple[int, str, bytes]:
        """Return them as they are now."""
        ...


def running(state: Path, name: str) -> Part:
    """Say by the supervisor's own note in ``state`` whether a child runs, and not just for now."""
    standing = read_standings(state).get(name, Standing(None, 0, 0.0))
    if not standing.runs:
        return Part(False, f"does not run; ended early {standing.failures} times in a row")
    if standing.failures and standing.lived < PROVEN_SECONDS:
        return Part(False, f"has just started after {standing.failures} early ends")
    return Part(True, "runs")


def ready(state: Path, name: str) -> Part:
    """Say whether a child that makes its `Presence` known runs and is ready for work."""
    part = running(state, name)
    if part.well and not is_present(state / name):
        return Part(False, "runs and is not ready: see its log")
    return Part(True, "is ready") if part.well else part


class Board:
    """The latest look at a role's parts, shown to whoever asks."""

    def __init__(self, look: Look) -> None:
        """Nothing was looked at yet, so nothing is well."""
        self._look = look
        self.parts: Mapping[str, Part] = {}
        self.servicer = health.HealthServicer()
        self.servicer.set("", _NOT_SERVING)

    def renew(self) -> None:
        """Look, and tell who watches; note in the log what has changed."""
        parts = self._look()
        for name, part in parts.items():
            if self.parts.get(name) != part:
                level = logging.INFO if part.well else logging.WARNING
                log.log(level, "%s %s", name, part.said)
            self.servicer.set(name, _SERVING if part.well else _NOT_SERVING)
        self.parts = parts
        self.servicer.set("", _SERVING if self.healthy else _NOT_SERVING)

    @property
    def healthy(self) -> bool:
        """Whether every vital part was well when it was looked at last."""
        vital = [part.well for part in self.parts.values() if part.vital]
        return bool(vital) and all(vital)

    def page(self) -> tuple[int, str, bytes]:
        """Return ``/healthz``: 200 or 503, and each part."""
        parts = {name: asdict(part) for name, part in self.parts.items()}
        body = json.dumps({"healthy": self.healthy, "parts": parts}, indent=1) + "\n"
        return 200 if self.healthy else 503, "application/json", body.encode()


def serve(
    state: Path,
    monitoring: Monitoring,
    look: Look,
    pages: Callable[[Board], Mapping[str, Page]],
) -> None:
    """Tell how a role stands until SIGTERM; ``pages`` are served by HTTP beside ``/healthz``."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    board = Board(look)
    server = grpc.server(ThreadPoolExecutor(_WORKERS), options=(("grpc.so_reuseport", 0),))
    health_pb2_grpc.add_HealthServicer_to_server(board.servicer, server)
    # RuntimeError names the address, if it is taken.
    port = server.add_insecure_port(monitoring.grpc)
    server.start()
    presence = Presence(state / NAME)
    board.renew()
    write_secret(state / NOTE, json.dumps({"port": port, "parts": [*board.parts]}).encode())
    with http(monitoring.listen, {"/healthz": board.page, **pages(board)}):
        presence.tell(present=True)
        while not ended.wait(LOOK_SECONDS):
            board.renew()
    board.servicer.enter_graceful_shutdown()
    server.stop(grace=1).wait()


@contextmanager
def http(listen: str | None, pages: Mapping[str, Page]) -> Iterator[None]:
    """Serve ``pages`` by exact path on ``listen``, a ``127.0.0.1:port``, if there is one."""
    if listen is None:
        yield
        return

    class Handler(BaseHTTPRequestHandler):
        timeout = ASK_SECONDS

        def do_GET(self) -> None:
            page = pages.get(self.path)
            status, kind, body = page() if page else (404, "text/plain", b"")
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def version_string(self) -> str:
            return "fedprune"

        def log_message(self, *_: object) -> None:
            """Nothing: a line for every look would bury what matters."""

    host, _, port = listen.partition(":")
    with ThreadingHTTPServer((host, int(port)), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()


def check(home: Path) -> None:
    """Ask the health service of the `up` in ``home``.

    Raises:
        FedpruneError: no `up` runs there, it does not answer, or it names parts as not well.
    """
    state = home / "state"
    # Another process may have the port by now.
    if not is_present(state / NAME):
        raise FedpruneError(f"{home}: not healthy: nothing tells how `up` stands: is it running?")
    note = json.loads((state / NOTE).read_bytes())
    with grpc.insecure_channel(f"127.0.0.1:{note['port']}", options=_DIRECT) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def serves(name: str) -> bool:
            request = health_pb2.HealthCheckRequest(service=name)
            return bool(stub.Check(request, timeout=ASK_SECONDS).status == _SERVING)

        try:
            if not serves(""):
                ill = ", ".join(name for name in note["parts"] if not serves(name))
                raise FedpruneError(f"{home}: not healthy: {ill}: see `logs`")
        except grpc.RpcError as error:
            raise FedpruneError(f"{home}: not healthy: no answer: {error.code().name}") from error
