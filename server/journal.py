"""A file that only grows, a line of JSON an event, held by one process at a time."""

import fcntl
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from common.durable import writing
from common.errors import ConfigError

JOURNAL = "journal.jsonl"
"""Its name in a run's directory."""

AUDIT = "audit"
"""What a line has of the audit log: the hash of its last line."""

Event = dict[str, Any]


def line_of(event: Event) -> bytes:
    """Return an event's one line."""
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


@final
class Journal:
    """The journal of one run; each line is on disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises `ConfigError` while another process holds it.
        """
        self._path = path
        with writing(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise ConfigError(f"{path}: another process runs here: stop it first") from error
        # Not the text: it grows as long as the run does.
        self._take(path.read_bytes())

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._file)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size

    def digest(self) -> str:
        """Return the SHA-256 of what is there, in hexadecimal."""
        return self._hash.hexdigest()

    def append(self, line: bytes) -> None:
        """Add a line, or nothing: raise `DiskError` when there is no room."""
        with writing(self._path):
            try:
                if os.write(self._file, line) < len(line):
                    raise OSError(0, "no room for a whole line")
                os.fsync(self._file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file, self.size)
                raise
        self._hash.update(line)
        self._size += len(line)

    def recover(self, size: int, digest: str, line: bytes) -> list[Event]:
        """Return all events, after mending what a death left behind.

        ``line`` has to follow the first ``size`` bytes of this ``digest``; where it was not yet
        written, or not whole, it is now. A last line without an end is cut off: what it would
        have noted was never done.

        Raises `ConfigError` when the file is not the one that these belong to.
        """
        text = self._path.read_bytes()
        before, rest = text[:size], text[size:]
        known = hashlib.sha256(before).hexdigest() == digest
        if not known or not (rest.startswith(line) or line.startswith(rest)):
            raise ConfigError(
                f"{self._path}: does not fit the checkpoint beside it: it was altered, or one of"
                " them is from a backup; restore both from the same one"
            )
        whole = text[: text.rfind(b"\n") + 1]
        with writing(self._path):
            os.ftruncate(self._file, len(whole))
        self._take(whole)
        if len(whole) == size:
            self.append(line)
            whole += line
        return [json.loads(row) for row in whole.splitlines()]

    def _take(self, text: bytes) -> None:
        self._hash, self._size = hashlib.sha256(text), len(text)
