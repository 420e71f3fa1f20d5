"""A log read as it grows: each look takes in only what is new, through rotations.

For figures, not for proof: lines that cannot be read are passed over, which `audit verify` names.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import final

from common.trail.examination import CURRENT
from common.trail.file import closed_files
from common.trail.lines import Line, parsed
from common.trail.refusals import MalformedLineError


@final
class Follower:
    """Follows the log in a folder, from the file before the current one on: 32 MiB at most."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self._folder = folder
        self._read: dict[int, int] = {}

    def new(self) -> Iterator[Line]:
        """Yield the whole lines that came since the last look, in order."""
        # A file is known by its inode: rotation gives it another name.
        paths = [*closed_files(self._folder), self._folder / CURRENT]
        found = [(path, at) for path in paths if (at := _inode(path)) is not None]
        if not self._read:
            self._read = {inode: path.stat().st_size for path, inode in found[:-2]}
        for path, inode in found:
            start = self._read.get(inode, 0)
            data = _from(path, inode, start)
            whole = data[: data.rfind(b"\n") + 1]
            self._read[inode] = start + len(whole)
            for row in whole.splitlines():
                with suppress(MalformedLineError):
                    yield parsed(row)


def _inode(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return path.stat().st_ino
    return None


def _from(path: Path, inode: int, start: int) -> bytes:
    """Return what stands behind ``start``; nothing if the file was rotated away meanwhile."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        if os.fstat(file.fileno()).st_ino == inode:
            file.seek(start)
            return file.read()
    return b""
