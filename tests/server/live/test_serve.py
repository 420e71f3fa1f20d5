"""The dashboard as a process: what it prints, whom it lets in, how it ends."""

import re
from pathlib import Path

import httpx
import pytest

from common.errors import ConfigError
from server.cli import main
from server.live.door import COOKIE
from server.live.serve import is_loopback, keys_for, listening
from tests.commands import invoke
from tests.server.live.dashboards import dashboard
from tests.server.live.federations import Federation

TOKEN = "a-token-that-somebody-chose"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    Federation(tmp_path, ("ash", "birch", "cedar"), 9).go(2)
    return tmp_path


def test_on_loopback_nobody_needs_a_token_and_a_stream_ends_with_the_server(home: Path) -> None:
    with dashboard(home, "--listen", "127.0.0.1:0") as address:
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/", address)
        listed = httpx.get(f"{address}api/runs").json()["runs"]
        assert [one["name"] for one in listed] == ["spring"]
        assert httpx.post(address).status_code == 405
        stream = httpx.Client()
        request = stream.build_request("GET", f"{address}api/runs/spring/events")
        events = stream.send(request, stream=True)
        first = next(events.iter_lines())
        assert first.startswith("id: ")
        assert "server" not in events.headers
    stream.close()


def test_elsewhere_a_token_is_drawn_and_needed(home: Path) -> None:
    with dashboard(home, "--listen", "0.0.0.0:0") as address:
        found = re.fullmatch(r"http://0\.0\.0\.0:([0-9]+)/\?token=([\w-]{43})", address)
        assert found is not None
        page = f"http://127.0.0.1:{found[1]}/"
        assert httpx.get(page).status_code == 401
        assert httpx.get(f"{page}api/runs").status_code == 401
        with httpx.Client(follow_redirects=True) as browser:
            assert "live view" in browser.get(page, params={"token": found[2]}).text
            assert browser.cookies[COOKIE] == found[2]
            assert browser.get(f"{page}api/runs").status_code == 200


def test_a_token_that_was_given_is_not_printed(home: Path) -> None:
    options = ("--listen", "127.0.0.1:0")
    with dashboard(home, *options, FEDPRUNE_LIVE_TOKEN=TOKEN) as address:
        assert TOKEN not in address
        assert httpx.get(address).status_code == 401
        reply = httpx.get(address, headers={"authorization": f"Bearer {TOKEN}"})
        assert reply.status_code == 200


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--listen", "8477"), "--listen '8477' is no HOST:PORT, such as 127.0.0.1:8477"),
        (("--listen", "127.0.0.1:99999"), "is no HOST:PORT"),
        (("--home", "gone"), "gone: no such directory: name one by --home"),
    ],
)
def test_what_cannot_be_is_one_line(options: tuple[str, ...], complaint: str) -> None:
    outcome = invoke(main, "dashboard", *options)
    assert outcome.code == 3
    assert complaint in outcome.complaint


def test_a_port_that_is_taken_is_named() -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: cannot be listened on: .*in use"):
            listening("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *(("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("view.example", False)),
    ],
)
def test_only_loopback_may_go_without_a_token(host: str, own: bool) -> None:
    assert is_loopback(host) == own
    assert bool(keys_for(host, None, ()).token) != own
    assert keys_for(host, TOKEN, ("View.example",)).token == TOKEN


def test_tokens_are_drawn_anew_and_short_ones_refused() -> None:
    assert keys_for("0.0.0.0", None, ()).token != keys_for("0.0.0.0", None, ()).token
    assert keys_for("127.0.0.1", None, ("View.example",)).names == {"localhost", "view.example"}
    with pytest.raises(ConfigError, match="a token of 5 characters can be guessed: take 22"):
        keys_for("127.0.0.1", "short", ())
