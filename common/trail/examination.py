"""Whether a log is whole: every line in its form, its place and signed, and none gone.

Pure: the bytes of a log's files in, what was found out. The chain alone cannot show that lines at
the end are gone; the head, and heads that others hold, do.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from common.errors import ProtocolError
from common.trail.events import Began, Continued, Vouched, VouchedAsItIs
from common.trail.lines import GENESIS, Author, Head, Line, parsed
from common.trail.refusals import MalformedLineError, TrailError
from common.trail.vouching import is_vouched

CURRENT: Final = "log.jsonl"
"""The file that grows."""

CLOSED: Final = re.compile(r"log-([0-9]{12})\.jsonl")
"""A file that was rotated away, by the number of its first line."""

MOST_FINDINGS: Final = 20
"""One altered line may show in the next too; a log cut to pieces needs no list of them."""


def closed_name(first: int) -> str:
    """Return the name of a rotated file that begins with this line."""
    return f"log-{first:012}.jsonl"


@dataclass(frozen=True)
class Examined:
    """What a log's files hold: its lines so far as they can be read, and what is wrong.

    ``key`` is the one that its first line names, ``vouchers`` the long-lived keys that signed for
    it, in hexadecimal.
    """

    author: Author | None
    key: bytes
    lines: tuple[Line, ...]
    vouchers: tuple[str, ...]
    findings: tuple[str, ...]

    def require_whole(self) -> None:
        """Raise `TrailError` naming what was found, if anything was."""
        if self.findings:
            more = len(self.findings) - 3
            told = "; ".join(self.findings[:3]) + (f"; and {more} more" if more > 0 else "")
            raise TrailError(f"the audit log was altered: {told}")

    @cached_property
    def hashes(self) -> frozenset[str]:
        """Of all lines."""
        return frozenset(line.hash for line in self.lines)


def examined(
    files: Mapping[str, bytes],
    head: Head | None,
    trusted: Collection[str] | None = None,
    noted: Iterable[tuple[str, str]] = (),
) -> Examined:
    """Return a log's lines and all that is wrong with it.

    ``files`` are its files by name, ``head`` what was signed last as its end. ``trusted`` holds the
    long-lived keys of which one must have signed for the log's key; None asks for none. ``noted``
    are hashes of lines that stand elsewhere, each after words that say where.
    """
    found = read(files)
    findings = [*found.findings]
    if found.author is None:
        findings.append("there is no log, or its first line is gone")
        return Examined(None, b"", found.lines, (), tuple(findings))
    if head is None:
        findings.append("the head is gone, which says where the log ends")
    else:
        findings += _after(found, head)
    findings += [
        f"{where} is not in the log" for where, digest in noted if digest not in found.hashes
    ]
    if trusted is not None and not {*trusted} & {*found.vouchers}:
        findings.append("no key that is known here has signed for the log's key")
    return Examined(
        found.author, found.key, found.lines, found.vouchers, tuple(findings[:MOST_FINDINGS])
    )


def read(files: Mapping[str, bytes]) -> Examined:
    """Return what can be said of a log without its head: chain, form and signatures.

    The first line must be there: it names the key.
    """
    names = sorted(files, key=_order)
    rows = [(name, row, data) for name in names for row, data in _rows(files[name])]
    findings = [
        f"{name} ends in {len(rest)} bytes that are no line: torn off by a crash, which the next"
        " line heals, or put there"
        for name in names
        if (rest := files[name][files[name].rfind(b"\n") + 1 :])
    ]
    lines: list[Line] = []
    author, key, vouchers = None, b"", list[str]()
    previous: str | None = GENESIS
    expected = 1
    for name, row, data in rows:
        try:
            line = parsed(data)
        except MalformedLineError:
            findings.append(f"{name} row {row} (line {expected}) is in no form of a line")
            expected, previous = expected + 1, None
            continue
        if author is None and isinstance(line.event, Began) and line.sequence == 1:
            author, key = line.author, bytes.fromhex(line.event.key)
        findings += _misplaced(f"{name} row {row}", line, expected, previous)
        findings += _foreign(f"{name} row {row}", line, author, key)
        if row == 1 and (closed := CLOSED.fullmatch(name)) and int(closed[1]) != line.sequence:
            findings.append(f"{name} begins with line {line.sequence}: it is misnamed")
        if isinstance(line.event, Continued):
            findings += _broken_off(line.event, files, follows=line.previous == previous)
        if (
            author is not None
            and isinstance(line.event, Vouched)
            and is_vouched(line.event, author, key)
        ):
            vouchers.append(line.event.by)
        lines.append(line)
        expected, previous = line.sequence + 1, line.hash
    return Examined(author, key, tuple(lines), tuple(vouchers), tuple(findings))


def row_hashes(files: Mapping[str, bytes]) -> set[str]:
    """Return the hashes of a log's lines, whether they can be read or not."""
    return {hashlib.sha256(row).hexdigest() for data in files.values() for _, row in _rows(data)}


def vouched(files: Mapping[str, bytes]) -> list[Vouched | VouchedAsItIs]:
    """Return what a log's rows say of who has signed for it, whether they are in its chain or not.

    Each is to be held to its own signature, of a key that is not the log's.
    """
    rows = (row for data in files.values() for _, row in _rows(data))
    events = [parsed(row).event for row in rows if b'"event":"vouched' in row]
    return [event for event in events if isinstance(event, Vouched | VouchedAsItIs)]


def _order(name: str) -> tuple[bool, str]:
    """Closed files by their first line, then the current one."""
    return (CLOSED.fullmatch(name) is None, name)


def _rows(data: bytes) -> Iterable[tuple[int, bytes]]:
    return enumerate(data.split(b"\n")[:-1], start=1)


def _misplaced(where: str, line: Line, expected: int, previous: str | None) -> list[str]:
    if line.sequence != expected:
        gone = line.sequence - expected
        what = f"lines {expected} to {line.sequence - 1} are gone" if gone > 0 else "out of order"
        return [f"{where} is line {line.sequence}, and {expected} was due: {what}"]
    if previous is not None and line.previous != previous:
        return [f"{where} (line {line.sequence}) does not follow the line before it"]
    return []


def _foreign(where: str, line: Line, author: Author | None, key: bytes) -> list[str]:
    if author is None:
        return []
    if line.author != author:
        return [f"{where} (line {line.sequence}) is of {line.author.role} {line.author.name!r}"]
    if isinstance(line.event, Began) and line.sequence != 1:
        return [f"{where} (line {line.sequence}) begins a log within it"]
    try:
        line.require_signed(key)
    except ProtocolError:
        return [f"{where} (line {line.sequence}) is not signed by the log's key"]
    return []


def _broken_off(event: Continued, files: Mapping[str, bytes], *, follows: bool) -> list[str]:
    data = files.get(event.file)
    if data is None:
        # In a copy of all files in one, its lines are there and its name is not.
        return [] if follows else [f"{event.file} is gone, with {event.lines} lines"]
    if hashlib.sha256(data).hexdigest() != event.sha256:
        return [f"{event.file} is not the file that was rotated away"]
    return []


def _after(found: Examined, head: Head) -> Sequence[str]:
    assert found.author is not None  # noqa: S101 - the caller's own check
    try:
        head.require_signed(found.author, found.key)
    except ProtocolError:
        return ["the head is not signed by the log's key"]
    if head.hash not in found.hashes:
        last = found.lines[-1].sequence
        if last < head.sequence:
            return [f"lines {last + 1} to {head.sequence} are gone from the end"]
        return [f"line {head.sequence} is not the one that the head speaks of"]
    return []
