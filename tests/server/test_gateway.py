import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial

import httpx
import pytest

from server import gateway
from server.gateway import build_gateway

Handler = Callable[[httpx.Request], httpx.Response]
FLEET = "/v1/fleet/pull-messages"


def ask(
    handler: Handler,
    method: str,
    path: str,
    *,
    content: bytes | AsyncIterator[bytes] = b"",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Send a request through a gateway whose SuperLink is ``handler``."""

    async def send() -> httpx.Response:
        inner = httpx.MockTransport(handler)
        async with httpx.AsyncClient(transport=inner, base_url="https://superlink") as upstream:
            outer = httpx.ASGITransport(build_gateway(upstream))
            async with httpx.AsyncClient(transport=outer, base_url="https://public") as outsider:
                return await outsider.request(method, path, content=content, headers=headers)

    return asyncio.run(send())


def echo(request: httpx.Request) -> httpx.Response:
    stream = httpx.ByteStream(request.content)
    return httpx.Response(203, stream=stream, headers={"set-cookie": "inner"})


def unreachable(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"{request.url} was let through")


def test_a_fleet_call_passes_with_its_body_and_status() -> None:
    reply = ask(echo, "POST", FLEET, content=b"signed")
    assert (reply.status_code, reply.content) == (203, b"signed")
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/list-runs"),
        ("POST", "/v1/runtime/acquire-task"),
        ("POST", "/v1/fleet/"),
        ("POST", "/v1/fleet/a/b"),
        ("POST", "/v1/fleet/%2e%2e/control/list-runs"),
        ("POST", "/v1/fleetx"),
        ("POST", f"{FLEET}?a=b"),
        ("PUT", FLEET),
        ("GET", FLEET),
        ("POST", "/health"),
        ("GET", "/healthz"),
    ],
)
def test_nothing_else_reaches_superlink(method: str, path: str) -> None:
    assert ask(unreachable, method, path).status_code == 404


def test_only_known_headers_reach_superlink() -> None:
    seen = httpx.Headers()

    def note(request: httpx.Request) -> httpx.Response:
        seen.update(request.headers)
        return echo(request)

    sent = {
        "flwr-signature": "kept",
        "flwr-superexec-signature": "dropped",
        "flwr-task-token": "dropped",
        "x-forwarded-for": "dropped",
        "authorization": "dropped",
        "cookie": "dropped",
    }
    ask(note, "POST", FLEET, headers=sent)
    assert seen["flwr-signature"] == "kept"
    assert seen["host"] == "superlink"
    assert "dropped" not in seen.values()


def test_a_request_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "LARGEST_BYTES", 1000)

    async def parts(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(100)

    assert ask(echo, "POST", FLEET, content=parts(10)).status_code == 203
    assert ask(echo, "POST", FLEET, content=parts(11)).status_code == 413


def test_a_superlink_that_is_away_is_a_bad_gateway() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert ask(away, "POST", FLEET).status_code == 502


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name these otherwise")
def test_a_connection_notices_that_its_peer_is_gone() -> None:
    with (
        gateway.listener("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()) as peer,
        listening.accept()[0] as accepted,
    ):
        assert waits(accepted) == (gateway.GONE_SECONDS,) * 2
        assert waits(peer) == (None, 0)


def waits(connection: socket.socket) -> tuple[int | None, int]:
    """Return the seconds after which silence, and data that is not acknowledged, end it."""
    option = partial(connection.getsockopt, socket.IPPROTO_TCP)
    probes = option(socket.TCP_KEEPINTVL) * option(socket.TCP_KEEPCNT)
    on = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    silence = option(socket.TCP_KEEPIDLE) + probes if on else None
    return silence, option(socket.TCP_USER_TIMEOUT) // 1000
