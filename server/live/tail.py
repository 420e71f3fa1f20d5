"""A file of lines as it grows: what is new since the last look, a bounded piece at a time."""

import os
from pathlib import Path
from typing import Final, NamedTuple, final

PIECE_BYTES: Final = 1 << 20
"""Read at one look; a longer line is passed over."""

_KNOWN_BYTES: Final = 256


class Fresh(NamedTuple):
    """Whole new lines without their ends, and whether the file is another one than before."""

    lines: list[bytes]
    again: bool = False


@final
class Tail:
    """Follows one file, which may grow, be replaced by a longer one, or begin anew.

    The last bytes read tell these apart: a run's tables are replaced with each round, and a log
    is begun anew when it is rotated.
    """

    def __init__(self, path: Path, last: int | None = None) -> None:
        """Begin at the file's start, or so many bytes before its end."""
        self._path, self._last = path, last
        self._place, self._known = 0, b""

    def read(self) -> Fresh:
        """Return what is new; a file that is not there has no lines."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(self._place - len(self._known))
                again = size < self._place or file.read(len(self._known)) != self._known
                if again:
                    self._forget()
                skip = not self._place and self._last is not None and size > self._last
                if skip:
                    self._place = size - (self._last or 0)
                file.seek(self._place)
                data = file.read(PIECE_BYTES)
        except OSError:
            again = self._place > 0
            self._forget()
            return Fresh([], again)
        whole = data[: data.rfind(b"\n") + 1] or (data if len(data) == PIECE_BYTES else b"")
        self._place += len(whole)
        self._known = (self._known + whole)[-_KNOWN_BYTES:]
        # The first line after a jump is the rest of one.
        return Fresh(whole.splitlines()[1 if skip else 0 :], again)

    def _forget(self) -> None:
        self._place, self._known = 0, b""
