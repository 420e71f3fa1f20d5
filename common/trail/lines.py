"""A line of an audit log: its one form as JSON, its place in the chain, its signature.

Each line names the hash of the one before, signature included, so that none can be altered, taken
out, put in or moved without all that follow. A `Head` is the last line as its owner signs for it
elsewhere: only that shows that lines at the end are gone.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, Literal

from pydantic import ValidationError

from common.crypto.body import hash_facts
from common.crypto.keys import (
    SIGNATURE_SIZE,
    SIGNED_LOG_HEAD,
    SIGNED_LOG_LINE,
    sign,
    verify,
)
from common.trail.events import EVENTS, Event
from common.trail.refusals import MalformedLineError

Role = Literal["server", "institution"]

VERSION: Final = 1
"""Of the lines' common fields; events are told apart by their names."""

GENESIS: Final = "0" * 64
"""What the first line follows."""

MEMBERS: Final = ("version", "sequence", "time", "role", "name", "event", "previous", "signature")
"""What every line has; no event has a field of one of these names."""

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Author:
    """Whose log it is: the name of an institution, or of the federation for its server."""

    role: Role
    name: str


@dataclass(frozen=True)
class Line:
    """One line; ``time`` is ISO 8601 in UTC, ``previous`` the hash of the line before."""

    sequence: int
    time: str
    author: Author
    event: Event
    previous: str
    signature: str

    @cached_property
    def data(self) -> bytes:
        """The line's only form, without its end."""
        return _canonical(self._fields() | {"signature": self.signature})

    @cached_property
    def hash(self) -> str:
        """SHA-256 of that form, signature included, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def seconds(self) -> int:
        """Its time in Unix seconds."""
        return int(datetime.strptime(self.time, _TIME).replace(tzinfo=UTC).timestamp())

    @property
    def statement(self) -> bytes:
        """What the signature is of."""
        return _canonical(self._fields())

    def require_signed(self, key: bytes) -> None:
        """Raise `BadSignatureError` unless this log's Ed25519 key signed the line."""
        verify(key, SIGNED_LOG_LINE, self.statement, bytes.fromhex(self.signature))

    def _fields(self) -> dict[str, Any]:
        return self.event.model_dump(mode="json") | {
            "version": VERSION,
            "sequence": self.sequence,
            "time": self.time,
            "role": self.author.role,
            "name": self.author.name,
            "event": self.event.kind,
            "previous": self.previous,
        }


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a log by number and hash, signed by the log's key: 104 bytes."""

    sequence: int
    hash: str
    signature: bytes

    @classmethod
    def of(cls, line: Line, private: bytes) -> "Head":
        """Return the head of a log that ends with a line."""
        statement = _head_statement(line.author, line.sequence, line.hash)
        return cls(line.sequence, line.hash, sign(private, SIGNED_LOG_HEAD, statement))

    @classmethod
    def before(cls, author: Author, private: bytes) -> "Head":
        """Return the head of a log that has no line yet."""
        return cls(0, GENESIS, sign(private, SIGNED_LOG_HEAD, _head_statement(author, 0, GENESIS)))

    def require_signed(self, author: Author, key: bytes) -> None:
        """Raise `BadSignatureError` unless the log of this author and key once ended so."""
        statement = _head_statement(author, self.sequence, self.hash)
        verify(key, SIGNED_LOG_HEAD, statement, self.signature)

    def to_bytes(self) -> bytes:
        """Return number, hash and signature."""
        return _HEAD.pack(self.sequence, bytes.fromhex(self.hash), self.signature)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Head":
        """Parse `to_bytes`' form; raise `MalformedLineError` on anything else."""
        if len(data) != _HEAD.size:
            raise MalformedLineError(f"the head of a log has {_HEAD.size} bytes, not {len(data)}")
        sequence, digest, signature = _HEAD.unpack(data)
        return cls(sequence, digest.hex(), signature)


_HEAD: Final = struct.Struct(f"<Q32s{SIGNATURE_SIZE}s")
HEAD_SIZE: Final = _HEAD.size


def written(
    events: Iterable[Event],
    author: Author,
    now: float,
    after: tuple[int, str],
    private: bytes,
) -> Iterator[Line]:
    """Yield the lines of events that follow the line of this number and hash, signed."""
    sequence, previous = after
    time = datetime.fromtimestamp(int(now), UTC).strftime(_TIME)
    for event in events:
        sequence += 1
        bare = Line(sequence, time, author, event, previous, "")
        signature = sign(private, SIGNED_LOG_LINE, bare.statement).hex()
        line = Line(sequence, time, author, event, previous, signature)
        previous = line.hash
        yield line


def parsed(data: bytes) -> Line:
    """Read a line, without its end; raise `MalformedLineError` unless it is in its only form."""
    try:
        fields = json.loads(data)
        common = {name: fields.pop(name) for name in MEMBERS}
        line = Line(
            sequence=common["sequence"],
            time=common["time"],
            author=Author(common["role"], common["name"]),
            event=EVENTS.require(common["event"]).model_validate_json(json.dumps(fields)),
            previous=common["previous"],
            signature=common["signature"],
        )
        datetime.strptime(line.time, _TIME)
        whole = (
            line.data == data
            and common["version"] == VERSION
            and type(line.sequence) is int
            and line.author.role in ("server", "institution")
            and bytes.fromhex(line.signature).hex() == line.signature
        )
    # Every type of fault that bytes of anybody's choice can cause.
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        # Without the cause: it would repeat what stands there.
        raise MalformedLineError("cannot be read") from None
    return line


def hash_of(head: bytes) -> str:
    """Return the hash of the line that a head in bytes speaks of; nothing of nothing."""
    return Head.from_bytes(head).hash if head else ""


def _head_statement(author: Author, sequence: int, digest: str) -> bytes:
    return hash_facts("log-head", [author.role, author.name, sequence, digest])


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
