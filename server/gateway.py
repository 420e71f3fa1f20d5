"""The one public port: TLS, Flower's Fleet API and ``/health``, and nothing else.

SuperLink serves Fleet, Control and Runtime API on one port, the Control API without asking who
calls. So it listens on loopback, and this process lets through what it knows, by exact path,
method and header; whatever else comes is "not found". SuperNodes sign their calls themselves
and SuperLink checks that: nothing here is trusted with a key of theirs.
"""

import re
import socket
import ssl
import sys
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

FLEET = re.compile(rb"/v1/fleet/[a-z]+(?:-[a-z]+)*")
HEALTH = b"/health"
HEADERS = re.compile(rb"accept|content-type|content-length|flwr-(?!superexec|task)[a-z-]+")
"""What a SuperNode sends that SuperLink reads; tokens of executors never come from outside."""

LARGEST_BYTES = 256 << 20
"""Of a request: SuperLink holds it in memory before it knows who sent it."""

IDLE_SECONDS = 75
UPSTREAM_IDLE_SECONDS = 3.0
"""SuperLink closes its side of a connection after five."""

CONNECTIONS = 2000

GONE_SECONDS = 120
"""After which a peer that has vanished without a word no longer holds a connection: neither the
rest of a request nor the acknowledgement of a reply would ever come, and nothing else waits."""


class TooLargeError(Exception):
    """A request is longer than `LARGEST_BYTES`."""


def build_gateway(upstream: httpx.AsyncClient) -> ASGIApp:
    """Return the app that forwards to ``upstream``, whose base URL is SuperLink's."""

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        await (await answer(request))(scope, receive, send)

    async def answer(request: Request) -> Response:
        # The path as it came: a decoded one could hide a "/../" behind "%2e".
        path, method = request.scope["raw_path"], request.method
        known = (FLEET.fullmatch(path) and method == "POST") or (path == HEALTH and method == "GET")
        if not known or request.scope["query_string"]:
            return Response(status_code=404)
        headers = [pair for pair in request.scope["headers"] if HEADERS.fullmatch(pair[0])]
        sent = upstream.build_request(
            method,
            path.decode(),
            headers=headers,
            content=_bounded(request.stream()) if method == "POST" else None,
        )
        try:
            reply = await upstream.send(sent, stream=True)
        except TooLargeError:
            return Response(status_code=413)
        except httpx.TransportError:
            # SuperLink is away for a moment: SuperNodes ask again after a 502.
            return Response(status_code=502)
        return StreamingResponse(_body(reply), reply.status_code, _passed(reply))

    return gateway


async def _bounded(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for part in body:
        size += len(part)
        if size > LARGEST_BYTES:
            raise TooLargeError
        yield part


async def _body(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in reply.aiter_raw():
            yield part
    finally:
        await reply.aclose()


def _passed(reply: httpx.Response) -> dict[str, str]:
    names = ("content-type", "content-length", "content-encoding")
    return {name: reply.headers[name] for name in names if name in reply.headers}


def listener(host: str, port: int) -> socket.socket:
    """Return the public port; connections to it find out by themselves that their peer is gone."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    # What is accepted has the options of what it was accepted from.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        probes = GONE_SECONDS // 2
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, GONE_SECONDS - probes)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probes // 4)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_SECONDS * 1000)
    return made


def main(host: str, port: str, identity: str, superlink: str, desk: str) -> None:
    """Serve until SIGTERM, by the key and certificate of the PEM file ``identity``.

    ``desk`` is the certificate that SuperLink shows.
    """
    trusted = ssl.create_default_context(cafile=desk)
    limits = httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=UPSTREAM_IDLE_SECONDS)
    upstream = httpx.AsyncClient(
        base_url=f"https://{superlink}", verify=trusted, timeout=60, limits=limits, trust_env=False
    )
    settings = uvicorn.Config(
        build_gateway(upstream),
        ssl_certfile=identity,
        # Only SuperLink's own log tells who called; an outsider's headers do not.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=IDLE_SECONDS,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(settings).run([listener(host, int(port))])


if __name__ == "__main__":
    main(*sys.argv[1:])
