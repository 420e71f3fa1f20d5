import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from server.live.door import COOKIE, HEADERS, Door, Keys, is_own_host

TOKEN = "t" * 43


def door(keys: Keys) -> httpx.ASGITransport:
    app = Starlette(routes=[Route("/{rest:path}", lambda request: PlainTextResponse("inside"))])
    return httpx.ASGITransport(Door(app, keys))


async def asked(keys: Keys, path: str = "/", method: str = "GET", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=door(keys), base_url="http://127.0.0.1:8477") as client:
        return await client.request(method, path, headers=named)


def ask(keys: Keys, path: str = "/", method: str = "GET", **headers: str) -> httpx.Response:
    return asyncio.run(asked(keys, path, method, **headers))


@pytest.mark.parametrize("path", ["/", "/nothing?token=x"])
@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
def test_every_answer_has_the_headers(path: str, host: str) -> None:
    reply = ask(Keys(), path, host=host)
    assert HEADERS.items() <= dict(reply.headers).items()
    assert "frame-ancestors 'none'" in HEADERS["content-security-policy"]
    assert "unsafe" not in HEADERS["content-security-policy"]
    assert not any(name.startswith("access-control") for name in reply.headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_is_read_only(method: str) -> None:
    reply = ask(Keys(), method=method)
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_it_can_be_read(method: str) -> None:
    assert ask(Keys(), method=method).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8477", "127.0.0.1", "localhost:9000", "LOCALHOST", "[::1]:8477", "10.0.0.7:80"],
)
def test_digits_and_known_names_are_own_hosts(host: str) -> None:
    assert is_own_host([host], {"localhost"})
    assert ask(Keys(), host=host).text == "inside"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8477",
        "localhost.evil.example",
        "127.0.0.1.nip.example",
        "",
        "a:b",
    ],
)
def test_other_names_are_refused(host: str) -> None:
    assert not is_own_host([host], {"localhost"})
    assert ask(Keys(), host=host).status_code == 421


def test_no_host_and_two_hosts_are_refused() -> None:
    assert not is_own_host([], {"localhost"})
    assert not is_own_host(["localhost", "localhost"], {"localhost"})


def test_a_name_that_was_given_is_an_own_host() -> None:
    keys = Keys(names=frozenset({"view.example"}))
    assert ask(keys, host="view.example:8477").status_code == 200
    assert ask(keys, host="localhost").status_code == 421


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
        ("cross-site", "navigate", 200),
        ("cross-site", "cors", 403),
        ("cross-site", "no-cors", 403),
        ("same-site", "cors", 403),
    ],
)
def test_other_sites_may_link_here_and_no_more(site: str, mode: str, status: int) -> None:
    reply = ask(Keys(), sec_fetch_site=site, sec_fetch_mode=mode)
    assert reply.status_code == status


def test_without_the_token_nothing_is_told() -> None:
    keys = Keys(TOKEN)
    for reply in (
        ask(keys),
        ask(keys, "/?token="),
        ask(keys, f"/?token={TOKEN[:-1]}"),
        ask(keys, "/?token=é"),
        ask(keys, authorization=f"Basic {TOKEN}"),
        ask(keys, authorization="Bearer "),
        ask(keys, cookie=f"{COOKIE}={TOKEN[:-1]}x"),
        ask(keys, cookie='"; bad = cookie ;;'),
    ):
        assert reply.status_code == 401
        assert "inside" not in reply.text
        assert "set-cookie" not in reply.headers
        assert TOKEN not in reply.text


def test_the_token_goes_from_the_address_into_a_cookie() -> None:
    keys = Keys(TOKEN)
    reply = ask(keys, f"/?token={TOKEN}")
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={TOKEN}; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert ask(keys, cookie=f"other=1; {COOKIE}={TOKEN}").text == "inside"
    assert ask(keys, authorization=f"Bearer {TOKEN}").text == "inside"


def test_a_socket_is_not_answered() -> None:
    sent: list[object] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: object) -> None:
        sent.append(message)

    asyncio.run(Door(Starlette(), Keys())({"type": "websocket"}, receive, send))
    assert sent == []
