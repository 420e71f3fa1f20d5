"""The one public port: TLS, Flower's Fleet API and ``/health``, and nothing else.

SuperLink serves Fleet, Control and Runtime API on one port, the Control API without asking who
calls. So it listens on loopback, and this process lets through what it knows, by exact path,
method and header, of members alone (`server.admission`) and never too much of it (`server.door`);
whatever else comes is "not found". SuperLink checks members' signatures again: nothing here is
trusted with a key of theirs.
"""

import re
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx
import uvicorn
from flwr.supercore.error import ApiErrorCode
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from common.address import join_address
from server.admission import (
    Flight,
    FullError,
    StrangerError,
    TooLargeError,
    TooSlowError,
    UnsignedError,
    declared,
    in_time,
    require_member,
)
from server.door import CONNECTIONS, HEAD_BYTES, IDLE_SECONDS, Address, Server, listener
from server.home import MEMBERS
from server.members import Members

FLEET = re.compile(rb"/v1/fleet/[a-z]+(?:-[a-z]+)*")
ACTIVATION = b"/v1/fleet/activate-node"
HEALTH = b"/health"
HEADERS = re.compile(rb"accept|content-type|content-length|flwr-(?!superexec|task)[a-z-]+")
"""What a SuperNode sends that SuperLink reads; tokens of executors never come from outside."""

UPSTREAM_IDLE_SECONDS = 3.0
"""SuperLink closes its side of a connection after five."""

CLOSE = {"connection": "close"}
"""Whoever is no member has one answer a connection."""


def build_gateway(
    upstream: httpx.AsyncClient,
    members: Callable[[], Mapping[bytes, str]],
    trust: Callable[[Address], None] = lambda address: None,
) -> ASGIApp:
    """Return the app that forwards to ``upstream``, whose base URL is SuperLink's.

    ``members`` returns the public keys that may speak; ``trust`` is told of their connections.
    """
    flight = Flight()

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await (await answer(Request(scope, receive)))(scope, receive, send)

    async def answer(request: Request) -> Response:
        # The path as it came: a decoded one could hide a "/../" behind "%2e".
        path, method = request.scope["raw_path"], request.method
        if not request.scope["query_string"]:
            if path == HEALTH and method == "GET":
                return await forward(request, None, CLOSE)
            if FLEET.fullmatch(path) and method == "POST":
                return await fleet(request)
        return Response(status_code=404, headers=CLOSE)

    async def fleet(request: Request) -> Response:
        try:
            require_member(request.headers, members(), datetime.now(UTC))
            trust(request.scope["client"])
            size = declared(request.headers)
            with flight.holding(size):
                return await forward(request, in_time(request.receive, size), {})
        except StrangerError:
            return _unknown(request.scope["raw_path"])
        except UnsignedError:
            return Response(status_code=401, headers=CLOSE)
        except TooLargeError:
            return Response(status_code=413, headers=CLOSE)
        except TooSlowError:
            return Response(status_code=408, headers=CLOSE)
        except FullError:
            # SuperNodes ask again after a 503.
            return Response(status_code=503, headers=CLOSE)

    async def forward(
        request: Request, body: AsyncIterator[bytes] | None, close: dict[str, str]
    ) -> Response:
        headers = [pair for pair in request.scope["headers"] if HEADERS.fullmatch(pair[0])]
        path = request.scope["raw_path"].decode()
        sent = upstream.build_request(request.method, path, headers=headers, content=body)
        try:
            reply = await upstream.send(sent, stream=True)
        except httpx.TransportError:
            # SuperLink is away for a moment: SuperNodes ask again after a 502.
            return Response(status_code=502, headers=close)
        return StreamingResponse(_body(reply), reply.status_code, _passed(reply) | close)

    return gateway


def _unknown(path: bytes) -> Response:
    """Return what SuperLink would say of a key that is not registered."""
    if path != ACTIVATION:
        return Response(status_code=401, headers=CLOSE)
    said = "Failed to activate SuperNode: its key is not among the members."
    code = ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED
    return JSONResponse({"code": int(code), "detail": said}, 412, CLOSE)


async def _body(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in reply.aiter_raw():
            yield part
    finally:
        await reply.aclose()


def _passed(reply: httpx.Response) -> dict[str, str]:
    names = ("content-type", "content-length", "content-encoding")
    return {name: reply.headers[name] for name in names if name in reply.headers}


def settings(app: ASGIApp, identity: Path) -> uvicorn.Config:
    """Return how ``app`` is served, by the key and certificate of the PEM file ``identity``."""
    return uvicorn.Config(
        app,
        ssl_certfile=identity,
        # The one that bounds a head; and the loop that accepts as a `Door` does.
        http="h11",
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws="none",
        loop="asyncio",
        # Only SuperLink's own log tells who called; an outsider's headers do not.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=5,
    )


def main(host: str, port: str, identity: str, superlink: str, home: str) -> None:
    """Serve until SIGTERM.

    ``home`` holds the certificate that SuperLink shows, and the members' keys.
    """
    try:
        door = listener(host, int(port))
    except OSError as error:
        # Taken since `up` looked, which starts this again.
        said = str(error.strerror).partition(" (")[0]  # Python adds the address once more.
        sys.exit(f"{join_address(host, int(port))}: {said}")
    trusted = ssl.create_default_context(cafile=Path(home) / "state" / "desk.pem")
    limits = httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=UPSTREAM_IDLE_SECONDS)
    upstream = httpx.AsyncClient(
        base_url=f"https://{superlink}", verify=trusted, timeout=60, limits=limits, trust_env=False
    )
    app = build_gateway(upstream, Members(Path(home) / MEMBERS), door.trust)
    Server(settings(app, Path(identity))).run([door])


if __name__ == "__main__":
    main(*sys.argv[1:])
