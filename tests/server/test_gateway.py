import asyncio
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from common.crypto import node_keys
from common.entropy import SeededEntropy
from server import admission, door, gateway
from server.admission import Flight
from server.desk import open_desk
from server.door import Door, Server
from server.gateway import build_gateway, main, settings

Handler = Callable[[httpx.Request], httpx.Response]
FLEET = "/v1/fleet/pull-messages"
KEY, OTHER = (node_keys.generate_key(SeededEntropy(n).stream("node")) for n in range(2))
MEMBERS = {public_key_to_bytes(KEY.public_key()): "ash"}


def signed(key: EllipticCurvePrivateKey = KEY, *, age: float = 0.0) -> dict[str, str]:
    """Return the headers by which a SuperNode says who it is."""
    stamp = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    return {
        "flwr-public-key": b64encode(public_key_to_bytes(key.public_key())).decode(),
        "flwr-timestamp": stamp,
        "flwr-signature": b64encode(sign_message(key, stamp.encode())).decode(),
    }


def ask(
    handler: Handler,
    method: str,
    path: str,
    *,
    content: bytes | AsyncIterator[bytes] = b"",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Send a request through a gateway whose SuperLink is ``handler``, as a member at first."""

    async def send() -> httpx.Response:
        inner = httpx.MockTransport(handler)
        async with httpx.AsyncClient(transport=inner, base_url="https://superlink") as upstream:
            outer = httpx.ASGITransport(build_gateway(upstream, lambda: MEMBERS))
            async with httpx.AsyncClient(transport=outer, base_url="https://public") as outsider:
                given = signed() if headers is None else headers
                return await outsider.request(method, path, content=content, headers=given)

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
    assert "connection" not in reply.headers


def test_anybody_may_ask_whether_it_is_well() -> None:
    reply = ask(echo, "GET", "/health", headers={})
    assert reply.status_code == 203
    assert reply.headers["connection"] == "close"


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


@pytest.mark.parametrize("missing", ["flwr-public-key", "flwr-timestamp", "flwr-signature"])
def test_a_request_without_a_signature_is_refused(missing: str) -> None:
    headers = signed()
    del headers[missing]
    assert ask(unreachable, "POST", FLEET, headers=headers).status_code == 401


@pytest.mark.parametrize(
    "forge",
    [
        lambda: signed(OTHER),
        lambda: signed(age=306),
        lambda: signed(age=-30),
        lambda: signed() | {"flwr-signature": signed(OTHER)["flwr-signature"]},
        lambda: signed() | {"flwr-signature": "AA=="},
        lambda: signed() | {"flwr-signature": "?"},
        lambda: signed() | {"flwr-timestamp": "yesterday"},
        lambda: signed() | {"flwr-timestamp": "2026-01-01T00:00:00"},
    ],
    ids=["stranger", "old", "early", "forged", "torn", "no-base64", "no-time", "no-zone"],
)
def test_another_signature_is_refused(forge: Callable[[], dict[str, str]]) -> None:
    reply = ask(unreachable, "POST", FLEET, headers=forge())
    assert reply.status_code == 401
    assert reply.headers["connection"] == "close"


def test_a_node_that_is_no_member_is_told_so_as_superlink_would() -> None:
    reply = ask(unreachable, "POST", "/v1/fleet/activate-node", headers=signed(OTHER))
    assert reply.status_code == 412
    assert reply.json()["code"] == 2004
    assert "its key is not among the members" in reply.json()["detail"]


def test_only_known_headers_reach_superlink() -> None:
    seen = httpx.Headers()

    def note(request: httpx.Request) -> httpx.Response:
        seen.update(request.headers)
        return echo(request)

    sent = {
        "flwr-superexec-signature": "dropped",
        "flwr-task-token": "dropped",
        "x-forwarded-for": "dropped",
        "authorization": "dropped",
        "cookie": "dropped",
    }
    headers = signed()
    ask(note, "POST", FLEET, headers=headers | sent)
    assert seen["flwr-signature"] == headers["flwr-signature"]
    assert seen["host"] == "superlink"
    assert "dropped" not in seen.values()


def test_a_body_has_a_size_and_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LARGEST_BYTES", 1000)

    async def parts() -> AsyncIterator[bytes]:
        yield b"of a length that is not said"

    assert ask(echo, "POST", FLEET, content=bytes(1000)).status_code == 203
    assert ask(unreachable, "POST", FLEET, content=bytes(1001)).status_code == 413
    assert ask(unreachable, "POST", FLEET, content=parts()).status_code == 413


def test_what_is_in_flight_is_bounded_and_comes_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "Flight", partial(Flight, 1500))

    async def send() -> tuple[list[int], int]:
        both = asyncio.Event()

        async def slow(request: httpx.Request) -> httpx.Response:
            await both.wait()
            return httpx.Response(200, stream=httpx.ByteStream(b""))

        inner = httpx.MockTransport(slow)
        async with httpx.AsyncClient(transport=inner, base_url="https://superlink") as upstream:
            outer = httpx.ASGITransport(build_gateway(upstream, lambda: MEMBERS))
            async with httpx.AsyncClient(transport=outer, base_url="https://public") as member:

                async def one() -> int:
                    reply = await member.post(FLEET, content=bytes(1000), headers=signed())
                    both.set()
                    return reply.status_code

                return sorted(await asyncio.gather(one(), one())), await one()

    assert asyncio.run(send()) == ([200, 503], 200)


def test_a_superlink_that_is_away_is_a_bad_gateway() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert ask(away, "POST", FLEET).status_code == 502


# Over real sockets.


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, datetime.now(UTC), SeededEntropy(0).stream("desk"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = ("127.0.0.1", str(taken.getsockname()[1]))
        with pytest.raises(SystemExit, match=f"^{':'.join(where)}: Address already in use$"):
            main(*where, str(tmp_path / "server.pem"), desk.address, str(tmp_path))


@dataclass
class Served:
    """A gateway over TLS on loopback, and what its SuperLink has heard."""

    address: tuple[str, int]
    trusted: ssl.SSLContext
    heard: list[httpx.Request] = field(default_factory=list)

    def dial(self) -> ssl.SSLSocket:
        # Wrapped before it is connected: ssl leaks a socket that is reset while it wraps it.
        host = self.address[0]
        plain = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        # The certificate is SuperLink's own, which listens nowhere but on loopback.
        link = self.trusted.wrap_socket(plain, server_hostname="127.0.0.1")
        link.settimeout(20)
        try:
            link.connect(self.address)
        except OSError:
            link.close()
            raise
        return link

    def say(self, line: str, headers: dict[str, str], body: bytes = b"") -> bytes:
        """Return the first line of the answer."""
        with self.dial() as link:
            link.sendall(head(line, headers) + body)
            return first(link)

    def is_well(self) -> bool:
        try:
            return b" 203 " in self.say("GET /health", {})
        except OSError:
            return False


def head(line: str, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{line} HTTP/1.1\r\nhost: public\r\n{lines}\r\n".encode()


def first(link: socket.socket) -> bytes:
    """Return the first line that comes, or nothing if the other side hangs up before."""
    try:
        with link.makefile("rb") as answer:
            return answer.readline()
    except (ConnectionError, ssl.SSLError):
        return b""


def poured(link: socket.socket, part: bytes, most: int, pause: float = 0.0) -> int:
    """Return how many bytes went out, of ``most``, before the other side hung up."""
    sent = 0
    with suppress(ConnectionError, ssl.SSLError):
        while sent < most:
            link.sendall(part)
            sent += len(part)
            time.sleep(pause)
    return sent


@contextmanager
def serving(
    folder: Path, most: int = 200, each: int = 64, host: str = "127.0.0.1"
) -> Iterator[Served]:
    desk = open_desk(folder, datetime.now(UTC), SeededEntropy(0).stream("desk"))
    identity = folder / "identity.pem"
    identity.write_bytes(desk.key.read_bytes() + desk.certificate.read_bytes())
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = Door(socket.create_server((host, 0), family=family), most, each)
    served = Served(
        listening.getsockname()[:2], ssl.create_default_context(cafile=desk.certificate)
    )

    def superlink(request: httpx.Request) -> httpx.Response:
        served.heard.append(request)
        return echo(request)

    inner = httpx.AsyncClient(
        transport=httpx.MockTransport(superlink), base_url="https://superlink"
    )
    app = build_gateway(inner, lambda: MEMBERS, listening.trust)
    server = Server(settings(app, identity))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        until(lambda: server.started)
        yield served
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


NO_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=NO_IPV6)])
def test_members_and_no_one_else_are_served(tmp_path: Path, host: str) -> None:
    with serving(tmp_path, host=host) as served:
        assert served.is_well()
        length = {"content-length": "4"}
        for headers, status in ((signed(), b" 203 "), ({}, b" 401 "), (signed(OTHER), b" 401 ")):
            assert status in served.say(f"POST {FLEET}", length | headers, b"body")
        assert [request.content for request in served.heard[1:]] == [b"body"]


def test_a_large_body_of_a_stranger_goes_nowhere(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        with served.dial() as link:
            link.sendall(head(f"POST {FLEET}", {"content-length": str(1 << 30)}))
            assert poured(link, bytes(1 << 16), 1 << 30) < 64 << 20, "it was read"
        assert served.heard == []
        assert served.is_well()


def test_a_body_is_held_to_its_length_by_one_rule_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        both = signed() | {"content-length": "3", "transfer-encoding": "chunked"}
        assert b" 413 " in served.say(f"POST {FLEET}", both, b"5\r\nmore!\r\n0\r\n\r\n")
        assert served.heard == []


def test_silent_connections_keep_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HEAD_SECONDS", 3.0)
    with serving(tmp_path, most=20) as served, ExitStack() as kept:
        dial = (partial(socket.create_connection, served.address, timeout=20), served.dial)
        silent = [kept.enter_context(dial[number % 2]()) for number in range(20)]
        assert not served.is_well()
        assert {first(link) for link in silent} == {b""}, "they were not hung up on"
        until(served.is_well)


@pytest.mark.parametrize("drop", [b"a: b\r\n", b"\r\n"])
def test_a_head_that_drips_is_not_waited_for(
    drop: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HEAD_SECONDS", 0.5)
    with serving(tmp_path) as served, served.dial() as link:
        if drop != b"\r\n":
            link.sendall(b"POST /v1/fleet/x HTTP/1.1\r\nhost: x\r\n")
        most = 200 * len(drop)
        assert poured(link, drop, most, pause=0.05) < most


def test_a_body_that_drips_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "BODY_SECONDS", 0.5)
    with serving(tmp_path) as served:
        assert b" 408 " in served.say(f"POST {FLEET}", signed() | {"content-length": "90"}, b"x")
        assert b" 203 " in served.say(f"POST {FLEET}", signed() | {"content-length": "1"}, b"x")


def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.dial() as link:
        link.sendall(b"POST /v1/fleet/x HTTP/1.1\r\nhost: x\r\n")
        line = b"flwr-a: " + bytes([120]) * 100_000 + b"\r\n"
        assert poured(link, line, 300 << 20) < 10 << 20


def test_no_other_protocol_is_spoken(tmp_path: Path) -> None:
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with serving(tmp_path) as served:
        assert b" 404 " in served.say(f"GET {FLEET}", upgrade)


def test_one_address_has_so_many_places_until_it_is_a_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A place comes free when both sides have closed.
    monkeypatch.setattr(door, "CLOSE_SECONDS", 0.1)
    with serving(tmp_path, each=1) as served:
        with served.dial():
            assert not served.is_well()
        until(served.is_well)
        links: list[ssl.SSLSocket] = []

        def dialled() -> bool:
            with suppress(OSError):
                links.append(served.dial())
            return bool(links)

        until(dialled)
        with links[0] as member:
            member.sendall(head(f"POST {FLEET}", signed() | {"content-length": "0"}))
            assert b" 203 " in first(member)
            assert served.is_well(), "a member takes a place of the strangers"


def test_a_member_keeps_its_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "HEAD_SECONDS", 0.3)
    with serving(tmp_path) as served, served.dial() as link:
        for _ in range(2):
            link.sendall(head(f"POST {FLEET}", signed() | {"content-length": "0"}))
            answer = b""
            while not answer.endswith(b"\r\n0\r\n\r\n"):
                part = link.recv(65536)
                assert part, "it was closed"
                answer += part
            assert answer.startswith(b"HTTP/1.1 203 ")
            time.sleep(0.6)
