"""How an institution's parts are looked at."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from client.health import READY, SERVER_SECONDS, Look
from common.processes import STANDINGS, Presence
from common.status import Board
from tests.deployment.federation import Authority


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_bytes(Authority.make().pem)
    settle(tmp_path, "fed.example:9092")
    state = tmp_path / "state"
    state.mkdir()
    runs = {"process": os.getsid(0), "failures": 0, "started": 0.0}
    (state / STANDINGS).write_text(json.dumps({"supernode": runs, "executor": runs}))
    return tmp_path


def settle(home: Path, address: str) -> None:
    settings = f'name = "ash"\ndata = "x.csv"\n[server]\naddress = "{address}"\n'
    (home / "client.toml").write_text(settings)


def answering(monkeypatch: pytest.MonkeyPatch, handler: Callable[[], httpx.Response]) -> list[str]:
    asked = list[str]()

    def send(url: str, **_: object) -> httpx.Response:
        asked.append(url)
        return handler()

    monkeypatch.setattr(httpx, "get", send)
    return asked


def test_an_institution_waits_for_its_server_and_is_well(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> httpx.Response:
        raise httpx.ConnectTimeout("away")

    answering(monkeypatch, away)
    Presence(home / "state" / READY).tell(present=True)
    look = Look(home)
    assert look()["server"].said == "does not answer: ConnectTimeout"
    board = Board(look)
    board.renew()
    assert board.healthy


def test_an_executor_that_refuses_everything_makes_it_ill(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, lambda: httpx.Response(200))
    board = Board(Look(home))
    board.renew()
    assert not board.healthy
    assert [name for name, part in board.parts.items() if not part.well] == ["executor"]


def test_the_server_is_asked_seldom(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    asked = answering(monkeypatch, lambda: httpx.Response(502))
    look = Look(home, lambda: now[0])
    for _ in range(3):
        assert not look()["server"].well
    assert asked == ["https://fed.example:9092/health"]
    now[0] += SERVER_SECONDS
    settle(home, "moved.example:9092")
    look()
    assert asked[1:] == ["https://moved.example:9092/health"]
