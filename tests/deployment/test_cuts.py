"""A network that is cut heals: the others go on, and who was cut off comes back."""

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from client.cli import main
from tests.commands import invoke
from tests.deployment.cuts import Wire, stormy_plan, weather

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(280),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

CUT_SECONDS, TIMEOUT = 10.0, 6.0
"""A cut outlasts every trip that it interrupts."""


def test_a_wire_carries_swallows_and_resets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as echo:
        threading.Thread(target=answer, args=(echo,), daemon=True).start()
        with Wire(echo.getsockname()[1]).open() as wire, dialled(wire) as connection:
            assert asked(connection, b"a") == b"a"
            wire.cut("swallow")
            with pytest.raises(TimeoutError):
                asked(connection, b"b")
            wire.heal()
            assert connection.recv(1) == b"b"
            wire.cut("reset")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
            with pytest.raises(ConnectionResetError), dialled(wire) as another:
                another.recv(1)
            wire.heal()
            with dialled(wire) as another:
                assert asked(another, b"c") == b"c"


def answer(server: socket.socket) -> None:
    """Send back what comes, on one connection after the other."""
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                while part := connection.recv(10):
                    connection.sendall(part)


def dialled(wire: Wire) -> socket.socket:
    return socket.create_connection(("127.0.0.1", wire.port), timeout=1.0)


def asked(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(1)


def test_the_cut_come_back_while_the_others_go_on(tmp_path: Path) -> None:
    plan = stormy_plan(rounds=60, timeout=TIMEOUT)
    with weather(tmp_path, plan) as storm:
        storm.await_all(0)
        one = storm.cut(plan.names[:1], "reset", CUT_SECONDS)
        everybody = storm.cut(plan.names, "swallow", CUT_SECONDS)
        epochs = [event["epoch"] for event in storm.kept]
    assert one.rounds_of_others, one
    assert not everybody.rounds_of_others
    assert epochs == sorted(set(epochs)), "an epoch was used twice"
    for name in plan.names:
        verified = invoke(main, "ledger", "verify", "--home", tmp_path / name)
        assert verified.code == 0, verified.err
