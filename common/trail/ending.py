"""How a log's file ends, however long it is: its last line, and what a crash left after that."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_BLOCK: Final = 1 << 16


def rest_of(path: Path) -> bytes:
    """Return what stands after the last line's end."""
    tail = _tail(path, lines=0)
    return tail[tail.rfind(b"\n") + 1 :]


def last_line(path: Path) -> bytes | None:
    """Return the last whole line, without its end."""
    tail = _tail(path, lines=1)
    whole = tail[: tail.rfind(b"\n") + 1].rstrip(b"\n")
    return whole[whole.rfind(b"\n") + 1 :] if whole else None


def _tail(path: Path, lines: int) -> bytes:
    """Return the end of a file: at least so many whole lines, or all of it."""
    tail = b""
    with suppress(FileNotFoundError), path.open("rb") as file:
        place = file.seek(0, os.SEEK_END)
        while place and tail.count(b"\n") <= lines:
            step = min(place, _BLOCK)
            place -= step
            file.seek(place)
            tail = file.read(step) + tail
    return tail
