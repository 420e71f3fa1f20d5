import logging
import socket
import sys
import threading
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from common.crypto import node_keys
from common.entropy import SeededEntropy
from common.errors import ConfigError
from common.processes import Child
from server import up
from server.desk import Desk, Public, await_port, open_desk
from server.up import RECONCILE_SECONDS, Doorkeeper, children
from tests.founding import Federation, open_server

LINE = node_keys.public_line(node_keys.generate_key(SeededEntropy(0).stream("node")))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def members(tmp_path: Path) -> Path:
    folder = tmp_path / "members"
    folder.mkdir()
    (folder / "ash.pub").write_text(LINE)
    return folder


class Visits:
    """A SuperLink that notes what it is told, and fails as long as ``error`` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[list[str]] = []
        self.error: Exception | None = None
        monkeypatch.setattr(up, "let_in", self._let_in)

    @property
    def desk(self) -> Desk:
        return SimpleNamespace(control=lambda timeout: nullcontext())  # type: ignore[return-value]

    def _let_in(self, control: object, members: dict[bytes, str], spared: frozenset[str]) -> None:
        self.told.append(sorted([*members.values(), *(f"{name}?" for name in spared)]))
        if self.error is not None:
            raise self.error


def test_superlink_is_told_of_changes_and_held_to_them(
    members: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits, clock = Visits(monkeypatch), Clock()
    keep = Doorkeeper(visits.desk, members, clock)
    for second in range(int(RECONCILE_SECONDS)):
        clock.now = float(second)
        keep()
    assert visits.told == [["ash"]]
    clock.now = RECONCILE_SECONDS
    keep()
    assert visits.told == [["ash"]] * 2, "nobody looks whether it knows others"
    (members / "ash.pub").write_text("damaged")
    clock.now += 1
    keep()
    assert visits.told[2:] == [["ash?"]], "a node shut out never comes back"
    (members / "ash.pub").unlink()
    clock.now += 1
    keep()
    assert visits.told[3:] == [[]]


def test_superlink_is_told_until_it_has_heard(
    members: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    visits, clock = Visits(monkeypatch), Clock()
    visits.error = httpx.HTTPStatusError(
        "500", request=httpx.Request("POST", "https://x"), response=httpx.Response(500)
    )
    keep = Doorkeeper(visits.desk, members, clock)
    for second in range(10):
        clock.now = float(second)
        keep()
    assert len(visits.told) == 10
    visits.error = None
    for second in range(10, 20):
        clock.now = float(second)
        keep()
    assert len(visits.told) == 11
    assert caplog.text.count("nodes' keys were not passed on: 500") == 1
    assert caplog.text.count("1 institutions may connect: ash") == 1


def test_a_superlink_that_hangs_holds_nobody_up(
    tmp_path: Path, members: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "ASK_SECONDS", 0.2)
    desk = open_desk(tmp_path, datetime.now(UTC), SeededEntropy(0).stream("desk"))
    with socket.create_server(("127.0.0.1", desk.port)):
        keep = Doorkeeper(desk, members)
        began = time.monotonic()
        keep()
        # Flower's own patience is 30 seconds.
        assert time.monotonic() - began < 15
        assert keep._due > time.monotonic(), "it is asked again at once"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    federation = Federation(tmp_path)
    open_server(federation, "127.0.0.1:9092")
    return federation.server


def test_a_port_that_is_taken_is_told_before_anything_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "PORT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        (home / "server.toml").write_text(f'address = "{where}"\nlisten = "127.0.0.1"\n')
        with pytest.raises(ConfigError, match=f"{where}: Address already in use: stop what"):
            up.up(home)
    assert not (home / "state" / "desk.json").exists()


def test_a_gateway_that_is_leaving_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        public = Public(address=f"127.0.0.1:{taken.getsockname()[1]}", listen="127.0.0.1")
        left = threading.Timer(0.3, taken.close)
        left.start()
        await_port(public, 60.0)
        left.join()


def kept(home: Path) -> list[Child]:
    desk = open_desk(home, datetime.now(UTC), SeededEntropy(0).stream("desk"))
    return children(home, desk, Public(address="127.0.0.1:9092"), lambda: "")


@pytest.mark.skipif(sys.platform != "linux", reason="memfd_create")
def test_a_key_open_to_others_is_refused(home: Path) -> None:
    assert kept(home)
    (home / "server.key").chmod(0o644)
    with pytest.raises(ConfigError, match="mode 0644 lets others at the private keys"):
        kept(home)
