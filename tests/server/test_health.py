"""How the server's parts are looked at, by a public port of the test's own."""

import json
import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.entropy import SystemEntropy
from common.processes import STANDINGS, Presence
from server.desk import Desk, Public, open_desk
from server.health import READY, Look
from tests.deployment.federation import DAY, Authority

RUNS = {"process": os.getsid(0), "failures": 0, "started": 0.0}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(certificate: Path, key: Path, port: int) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    authority = Authority.make()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    authority.issue(tmp_path)
    return tmp_path


@pytest.fixture
def desk(home: Path) -> Desk:
    made = open_desk(home, datetime.now(UTC), SystemEntropy().stream("desk"))
    fields = dict.fromkeys(("superlink", "gateway", "serverapp"), RUNS)
    (home / "state" / STANDINGS).write_text(json.dumps(fields))
    return made


def test_a_server_is_well_when_both_ports_answer_and_its_executor_is_ready(
    home: Path, desk: Desk
) -> None:
    with (
        listening(desk.certificate, desk.key, desk.port),
        listening(home / "server.pem", home / "server.key", 0) as port,
    ):
        look = Look(home, desk.address, Public(address=f"127.0.0.1:{port}"))
        assert {name: part.well for name, part in look().items()} == {
            "superlink": True,
            "gateway": True,
            "serverapp": False,
        }
        Presence(home / "state" / READY).tell(present=True)
        assert all(part.well for part in look().values())


def test_a_superlink_that_does_not_answer_is_told(home: Path, desk: Desk) -> None:
    look = Look(home, desk.address, Public(address="127.0.0.1:1"))
    parts = look()
    assert parts["superlink"].said == "does not answer: ConnectError"
    assert parts["gateway"].said == "does not answer: ConnectError"


@pytest.mark.parametrize("fault", ["expired", "another name"])
def test_a_public_port_that_institutions_would_refuse_is_not_well(
    home: Path, desk: Desk, fault: str
) -> None:
    if fault == "expired":
        past = Authority.make()
        past.issue(home, valid=-DAY)
        (home / "ca.pem").write_bytes(past.pem)
    name = "bank.example" if fault == "another name" else "127.0.0.1"
    with listening(home / "server.pem", home / "server.key", 0) as port:
        look = Look(home, desk.address, Public(address=f"{name}:{port}"))
        assert look()["gateway"].said == "does not answer: ConnectError"
