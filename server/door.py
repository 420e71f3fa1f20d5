"""Connections to the public port: how many there may be, and how long one may say nothing.

Strangers are let this far, so nothing of theirs may last: not a connection without TLS, not TLS
without a request, not a head without end. Counted where the kernel hands a connection over, before
it costs anything. Members' connections count in the sum alone: many may share an address.
"""

import asyncio
import socket
import sys
from collections import Counter
from ipaddress import IPv6Address
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 2000
STRANGERS = 64
"""Connections from one address on which no member has spoken yet."""

HEAD_SECONDS = 10.0
"""For TLS to be agreed on, and again for the head of a request to come."""

HEAD_BYTES = 16 << 10

CLOSE_SECONDS = 5.0
"""For the other side to say that it closes too."""

IDLE_SECONDS = 75
"""Between requests of a member."""

GONE_SECONDS = 120
"""After which a peer that has vanished without a word no longer holds a connection: neither the
rest of a request nor the acknowledgement of a reply would ever come, and nothing else waits."""

Address = tuple[str, int]


class Door(socket.socket):
    """A listening socket that accepts no more than there is room for."""

    def __init__(self, bound: socket.socket, most: int = CONNECTIONS, each: int = STRANGERS):
        """Take over a ``bound`` socket; ``each`` address has so many places for strangers."""
        super().__init__(bound.family, bound.type, bound.proto, bound.detach())
        self._most, self._each = most, each
        self._guests: dict[Address, str] = {}
        self._strangers: Counter[str] = Counter()

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; raise `ConnectionAbortedError`, as if it had left, without room."""
        made, found = super().accept()
        address: Address = found[:2]
        home = _home(address[0])
        if len(self._guests) >= self._most or self._strangers[home] >= self._each:
            made.close()
            raise ConnectionAbortedError
        self._guests[address] = home
        self._strangers[home] += 1
        return _Guest(self, address, made), found

    def trust(self, address: Address) -> None:
        """Count a connection as a member's from now on."""
        if home := self._guests.get(address):
            self._guests[address] = ""
            self._strangers -= Counter([home])

    def leave(self, address: Address) -> None:
        """Have its place back."""
        self.trust(address)
        self._guests.pop(address, None)


class _Guest(socket.socket):
    """A connection that gives its place back when it is closed."""

    def __init__(self, door: Door, address: Address, made: socket.socket) -> None:
        super().__init__(made.family, made.type, made.proto, made.detach())
        self._door, self._address = door, address

    def close(self) -> None:
        if self.fileno() != -1:
            self._door.leave(self._address)
        super().close()


def _home(host: str) -> str:
    """Return what stands for the machine of an address: of IPv6, the network it chooses from."""
    return IPv6Address(host.partition("%")[0]).packed[:8].hex() if ":" in host else host


def listener(host: str, port: int) -> Door:
    """Return the public port; connections to it find out by themselves that their peer is gone."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = Door(socket.create_server((host, port), family=family, backlog=CONNECTIONS))
    # What is accepted has the options of what it was accepted from.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        probes = GONE_SECONDS // 2
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, GONE_SECONDS - probes)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probes // 4)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_SECONDS * 1000)
    return made


class _Visit(H11Protocol):
    """uvicorn's side of a connection, which waits for the head of a request for so long only."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        # TLS hands on what comes while it closes; nobody would read it.
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Have the clock run while a head is on its way, and only then: idling has its own."""
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _forget(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class Server(uvicorn.Server):
    """uvicorn behind a `Door`, with an end to TLS handshakes, of which its settings know none."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on ``sockets``."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                lambda: _Visit(self.config, self.server_state, {}, loop),
                sock=one,
                ssl=self.config.ssl,
                ssl_handshake_timeout=HEAD_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
                backlog=CONNECTIONS,
            )
            for one in sockets or ()
        ]
        self.started = True
