"""Whose request goes on to SuperLink, and how much of it at once.

SuperLink reads a whole body into memory, and a copy of it, before it looks at who sent it. So
who sent it is looked at here first, by the headers alone and by Flower's own rule: a time signed
by a member's key. Of what a member sends, as much is in flight as fits.
"""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from starlette.datastructures import Headers
from starlette.types import Receive

LARGEST_BYTES = 64 << 20
"""Of a request: a vector of 16 million weights in the widest ring, in one piece."""

FLIGHT_BYTES = 4 * LARGEST_BYTES
"""Of all requests that SuperLink has not answered yet."""

BODY_SECONDS = 30.0
SLOWEST = 16 << 10
"""Bytes a second: how slowly a body may come, beside `BODY_SECONDS` for all of it."""


class StrangerError(Exception):
    """The key is no member's."""


class UnsignedError(Exception):
    """A header is missing, or what it says was not signed by the key, or long ago."""


class TooLargeError(Exception):
    """A request is longer than `LARGEST_BYTES`, or does not say how long it is."""


class TooSlowError(Exception):
    """A body came more slowly than `SLOWEST`, or not to its end."""


class FullError(Exception):
    """Too much is in flight."""


def require_member(headers: Headers, members: Mapping[bytes, str], now: datetime) -> None:
    """Hold a request to what Flower's ``authenticate_node`` asks of its headers.

    Raises:
        UnsignedError: a header is missing or malformed, the time or the signature is wrong.
        StrangerError: the key is not one of ``members``, whoever signed.
    """
    try:
        public = b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
        signature = b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER], validate=True)
        signed = headers[TIMESTAMP_HEADER]
        age = (now - datetime.fromisoformat(signed)).total_seconds()
    except (KeyError, ValueError, TypeError) as error:
        raise UnsignedError from error
    # Before the signature: strangers shall not have this process do sums.
    if public not in members:
        raise StrangerError
    if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
        raise UnsignedError
    if not verify_signature(bytes_to_public_key(public), signed.encode(), signature):
        raise UnsignedError


def declared(headers: Headers) -> int:
    """Return the length in bytes of the body to come, which the HTTP parser holds it to.

    Raises:
        TooLargeError: it is over `LARGEST_BYTES`, or not said.
    """
    length = headers.get("content-length", "")
    # With both, the other one counts.
    if "transfer-encoding" in headers or not length.isdecimal() or len(length) > 12:
        raise TooLargeError
    if (size := int(length)) > LARGEST_BYTES:
        raise TooLargeError
    return size


class Flight:
    """The bytes that SuperLink may hold at a time."""

    def __init__(self, room: int = FLIGHT_BYTES) -> None:
        """Begin with nothing in flight."""
        self._room = room

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold room for a body; raise `FullError` if there is none."""
        if size > self._room:
            raise FullError
        self._room -= size
        try:
            yield
        finally:
            self._room += size


async def in_time(
    receive: Receive, size: int, clock: Callable[[], float] | None = None
) -> AsyncIterator[bytes]:
    """Yield the parts of a body of ``size`` bytes; raise `TooSlowError` if it takes too long."""
    clock = clock or asyncio.get_running_loop().time
    deadline, more = clock() + BODY_SECONDS + size / SLOWEST, True
    while more:
        try:
            message = await asyncio.wait_for(receive(), deadline - clock())
        except TimeoutError:
            raise TooSlowError from None
        if message["type"] != "http.request":
            raise TooSlowError
        yield message.get("body", b"")
        more = message.get("more_body", False)
