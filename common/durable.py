"""Files that a crash, a power cut or a full disk leaves whole.

One way for both sides, since neither may import the other.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import DiskError

PARTIAL = ".partial"
"""End of a file's name while it is written."""

OWNER_ONLY, READABLE = 0o600, 0o644
"""Modes: a secret's, and that of what others on the machine may read."""


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replace ``path`` by ``data`` so that a crash leaves the old file or the new one.

    ``mode`` is that of the new file, less what the process's umask withholds. Raises `DiskError`
    when it cannot be written; the old file then stands as it was.
    """
    partial = path.with_name(path.name + PARTIAL)
    with writing(path):
        try:
            # What a killed process left may have another mode.
            partial.unlink(missing_ok=True)
            write_synced(partial, data, mode, os.O_TRUNC)
            partial.replace(path)
        except OSError:
            # A full disk has room again for what others have to note before they stop.
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        if os.name == "posix":
            sync_directory(path.parent)


def write_synced(path: Path, data: bytes, mode: int, how: int) -> None:
    """Write a file and have it on the disk; ``how`` is O_EXCL, or O_TRUNC if it may be there."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Put what a disk cannot do for ``path`` into one `DiskError` line."""
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{path}: cannot be written: {error.strerror or error}: make room or mend the disk,"
            " then start again: what was finished before is kept"
        ) from error


def sync_directory(directory: Path) -> None:
    """Put the names of a directory's files on the disk, not only their content.

    Without it a power cut may undo a replacement that later files rely on.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
