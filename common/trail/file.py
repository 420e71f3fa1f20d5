"""A log on the disk: `HOME/audit`, written by any number of processes, a line on it at a time.

    log.jsonl              the file that grows; a SIEM may follow it
    log-000000000001.jsonl what was rotated away, by the number of its first line
    head                   the last line as the log's key signed for it; there before the first
    key                    the log's own Ed25519 key, for its owner's eyes
    lock                   who writes
    counts                 refusals that came again and are not told yet

Here and in `common.durable` alone `common` writes files of its own accord. The log's key takes no
passphrase: whatever runs unattended signs by it. Instead a key that may have one, the roster's or
an operator's, signs once for the log's key.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, final

from common.crypto.keys import KEY_SIZE, verifying_key
from common.durable import sync_directory, write_atomically, writing
from common.entropy import Stream
from common.errors import ProtocolError
from common.secret_files import create_secret, read_secret
from common.trail.counts import Counts, ends
from common.trail.ending import last_line, rest_of
from common.trail.events import Began, Continued, Event, Healed
from common.trail.examination import CLOSED, CURRENT, closed_name, read, row_hashes, vouched
from common.trail.lines import GENESIS, Author, Head, Line, parsed, written
from common.trail.refusals import MalformedLineError, TrailError
from common.trail.vouching import given_up, vouch, vouch_as_it_is

FOLDER: Final = "audit"
KEY, HEAD, LOCK, COUNTS = "key", "head", "lock", "counts"

ROTATE_BYTES: Final = 16 << 20
"""From which on a line begins another file."""

READABLE, FOLDER_MODE = 0o640, 0o750
"""The owner writes; a group may be let in to read, such as a SIEM's."""

Clock = Callable[[], float]


@final
class FileTrail:
    """The log of one author in a folder, which is made with its first line."""

    def __init__(
        self,
        folder: Path,
        author: Author,
        stream: Stream,
        clock: Clock = time.time,
        rotate_bytes: int = ROTATE_BYTES,
    ) -> None:
        """Touch nothing yet; ``stream`` is drawn from for the key of a new log."""
        self.folder, self._author = folder, author
        self._stream, self._clock, self._rotate_bytes = stream, clock, rotate_bytes

    def append(self, *events: Event) -> None:
        """Write events, in order; see `Trail`."""
        with self._locked() as private:
            self._note(events, private, fold=False)

    def fold(self, *events: Event) -> bool:
        """Write events, refusals alike once a minute; return whether more were counted than told.

        What was counted is told by whoever writes next, once its minute is over.
        """
        with self._locked() as private:
            return self._note(events, private, fold=True).waiting

    def vouch(self, owner: bytes, noted: Sequence[str] = (), *, anew: bool = False) -> None:
        """Have a long-lived Ed25519 key sign for the log's key, once unless ``anew``.

        ``noted`` are hashes of lines that stand elsewhere, in the order in which they were noted;
        signing ``anew`` does without those of them that the log lacks, and without no later one.

        Raises:
            TrailError: as `require_noted`; or it is to be signed for and is not whole.
        """
        if noted and not anew:
            self.require_noted(noted, verifying_key(owner))
        with self._locked() as private:
            self._write([], private)
            given, files = (owner, self._author, verifying_key(private)), files_of(self.folder)
            event = vouch(*given)
            if anew:
                lacks = {*noted} - row_hashes(files)
                self._write([event, *([vouch_as_it_is(*given, noted)] if lacks else [])], private)
            elif event not in vouched(files):
                if noted:
                    # Lines of another log may lie among its own.
                    read(files).require_whole()
                self._write([event], private)

    def require_noted(self, noted: Sequence[str], owner: bytes) -> None:
        """Return if the log holds all lines that were noted, but those its owner does without.

        ``noted`` are their hashes, as in `vouch`, ``owner`` is a public Ed25519 key.

        Raises:
            TrailError: it was cut, set back, or begun anew.
        """
        given_up = self.given_up(noted, owner)
        with still(self.folder):
            held = row_hashes(files_of(self.folder))
        if gone := {*noted[given_up:]} - held:
            raise TrailError(
                f"{self.folder}: lacks {len(gone)} lines that were noted elsewhere: it was cut, set"
                " back or begun anew; put its latest copy back, or sign for it as it is: audit"
                " vouch"
            )

    def given_up(self, noted: Sequence[str], owner: bytes) -> int:
        """Return up to how many of ``noted`` its owner has signed for the log whatever it lacks."""
        with still(self.folder):
            files, key = files_of(self.folder), own_key(self.folder)
        return given_up(vouched(files), owner, self._author, key, noted)

    def rotate(self) -> Path | None:
        """Begin another file; return the one that ended, if there was anything in it."""
        if not files_of(self.folder):
            return None
        with self._locked() as private:
            # What was torn is told in the file that it was torn from.
            self._write([], private)
            path = self._close()
            self._write([], private)
            return path

    @property
    def head(self) -> bytes:
        """The log's signed head; nothing before its first line."""
        head = read_head(self.folder)
        return head.to_bytes() if head is not None and head.sequence else b""

    @contextmanager
    def _locked(self) -> Iterator[bytes]:
        """Hold the log against other processes; yield its private key."""
        with writing(self.folder):
            self.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not (self.folder / KEY).exists():
                self._require_new()
                fresh = self._stream(KEY_SIZE)
                # First, so that a key without a head shows that the head was taken away.
                self._say(Head.before(self._author, fresh))
                create_secret(self.folder / KEY, fresh, self._stream)
            private = read_secret(self.folder / KEY, lambda: "")
            if len(private) != KEY_SIZE:
                raise TrailError(
                    f"{self.folder / KEY}: holds no key of a log: restore the folder from a backup,"
                    f" or move it away, which {self._elsewhere}"
                )
            yield private
        finally:
            os.close(handle)

    def _require_new(self) -> None:
        head = read_head(self.folder)
        # One before all lines is what a crash left on the way to the key.
        if files_of(self.folder) or (head is not None and head.sequence):
            raise TrailError(
                f"{self.folder / KEY}: gone, and the log goes on by no other: restore the folder"
                f" from a backup, or move it away, which {self._elsewhere}"
            )

    def _write(self, events: Sequence[Event], private: bytes) -> None:
        after = self._settle(private)
        torn = rest_of(self._path)
        if after == (0, GENESIS):
            # Alone, so that a log with the head of none is known to have nothing to lose.
            began = Began(key=verifying_key(private).hex())
            after = self._put([began], after, private, over=len(torn))
            if torn:
                after = self._put([_healed(torn)], after, private)
        elif torn:
            after = self._put([*self._heading(), _healed(torn)], after, private, over=len(torn))
        if self._path.exists() and self._path.stat().st_size >= self._rotate_bytes:
            self._close()
        self._put([*self._heading(), *events], after, private)

    def _note(self, events: Sequence[Event], private: bytes, *, fold: bool) -> Counts:
        """Write what is due of what was counted and of ``events``; return what is counted by now.

        The count goes last: a crash in between tells it twice rather than never.
        """
        path, now = self.folder / COUNTS, self._clock()
        before = Counts.from_bytes(path.read_bytes()) if path.exists() else Counts()
        due, after = before.told(now, over=ends(events))
        # What people's commands refuse stands in the log as it is.
        fresh, after = after.folded(events, now) if fold else ([*events], after)
        if due or fresh:
            self._write([*due, *fresh], private)
        if after != before:
            write_atomically(path, after.to_bytes(), READABLE)
        return after

    def _heading(self) -> list[Event]:
        """Return what a file begins with that follows another."""
        closed = closed_files(self.folder)
        return [_continued(closed[-1])] if closed and last_line(self._path) is None else []

    def _put(
        self, events: Sequence[Event], after: tuple[int, str], private: bytes, over: int = 0
    ) -> tuple[int, str]:
        """Write events in the place of so many bytes at the end; return the last line."""
        if not events:
            return after
        lines = list(written(events, self._author, self._clock(), after, private))
        self._add(b"".join(line.data + b"\n" for line in lines), over)
        head = Head.of(lines[-1], private)
        self._say(head)
        return head.sequence, head.hash

    def _say(self, head: Head) -> None:
        write_atomically(self.folder / HEAD, head.to_bytes().hex().encode(), READABLE)

    def _settle(self, private: bytes) -> tuple[int, str]:
        """Return number and hash of the last line.

        Raises `TrailError` when lines are gone that were there before.
        """
        last, head = self._last(), read_head(self.folder)
        if last is None and head is not None and head.sequence == 0:
            self._require_own(head, private)
            return 0, GENESIS
        if last is None or head is None or (last.sequence, last.hash) != (head.sequence, head.hash):
            self._require_ahead(last, head, private)
        assert last is not None  # noqa: S101 - it would have been refused
        assert head is not None  # noqa: S101
        if last.author != self._author:
            raise TrailError(
                f"{self._path}: is the log of {last.author.role} {last.author.name!r}, not of"
                f" {self._author.role} {self._author.name!r}: use another home"
            )
        self._require_own(head, private)
        return last.sequence, last.hash

    def _require_own(self, head: Head, private: bytes) -> None:
        try:
            head.require_signed(self._author, verifying_key(private))
        except ProtocolError:
            raise TrailError(
                f"{self.folder / HEAD}: is not signed by the log's key: restore the folder from a"
                f" backup, or move it away, which {self._elsewhere}"
            ) from None

    def _require_ahead(self, last: Line | None, head: Head | None, private: bytes) -> None:
        """Let a log be used whose last lines a crash kept from being signed off."""
        torn = len(rest_of(self._path))
        files = files_of(self.folder)
        if torn:
            files[CURRENT] = files[CURRENT][:-torn]
        found = read(files)
        whole = last is not None and found.author == self._author and not found.findings
        # The head is one of the lines, or was signed before the very first.
        ahead = head is not None and (
            head.hash in found.hashes or (head.sequence == 0 and len(found.lines) == 1)
        )
        if whole and ahead and found.key == verifying_key(private):
            return
        said = f"line {head.sequence}" if head is not None else "nothing"
        raise TrailError(
            f"{self._path}: ends with line {last.sequence if last else 0}, and its head says"
            f" {said}: lines are gone or altered; restore the folder from a backup, or move it"
            f" away, which {self._elsewhere}"
        )

    _elsewhere = "verify and the other side's log will tell"

    def _last(self) -> Line | None:
        paths = [*closed_files(self.folder), self._path]
        for path in reversed(paths):
            if (data := last_line(path)) is not None:
                try:
                    return parsed(data)
                except MalformedLineError as error:
                    raise TrailError(
                        f"{path}: the last line {error}: see fedprune audit verify"
                    ) from error
        return None

    def _add(self, data: bytes, over: int) -> None:
        """Write at the end, or over what a crash left there: never is it gone and not yet told."""
        with writing(self._path):
            new = not self._path.exists()
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, READABLE)
            place = os.lseek(handle, 0, os.SEEK_END) - over
            try:
                if os.pwrite(handle, data, place) < len(data):
                    raise OSError(0, "no room for a whole line")
                os.ftruncate(handle, place + len(data))
                os.fsync(handle)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, place + over)
                raise
            finally:
                os.close(handle)
            if new:
                sync_directory(self.folder)

    def _close(self) -> Path | None:
        """Give the current file the name of a closed one."""
        if not self._path.exists() or not self._path.stat().st_size:
            return None
        with self._path.open("rb") as file:
            first = parsed(file.readline().rstrip(b"\n"))
        closed = self.folder / closed_name(first.sequence)
        with writing(closed):
            self._path.rename(closed)
            sync_directory(self.folder)
        return closed

    @property
    def _path(self) -> Path:
        return self.folder / CURRENT


def files_of(place: Path) -> dict[str, bytes]:
    """Return a log's files by name: those of its folder, or one file that holds them all."""
    if place.is_file():
        return {place.name: place.read_bytes()}
    paths = [*closed_files(place), *filter(Path.exists, [place / CURRENT])]
    return {path.name: path.read_bytes() for path in paths}


def read_head(folder: Path) -> Head | None:
    """Return the head that lies beside a log, if one does; raise `TrailError` if it is no head."""
    path = folder / HEAD
    try:
        data = path.read_bytes()
        head = Head.from_bytes(bytes.fromhex(data.decode("ascii")))
        # It has one form alone, so that no change of it goes unnoticed.
        if head.to_bytes().hex().encode() != data:
            raise ValueError
    except FileNotFoundError:
        return None
    except (ValueError, MalformedLineError):
        raise TrailError(
            f"{path}: is no head of a log: it was altered; restore the folder from a backup"
        ) from None
    return head


def own_key(folder: Path) -> bytes:
    """Return the public key of the private one beside a log, or nothing; raise as `read_secret`."""
    if not (folder / KEY).exists():
        return b""
    private = read_secret(folder / KEY, lambda: "")
    return verifying_key(private) if len(private) == KEY_SIZE else b""


@contextmanager
def still(folder: Path) -> Iterator[None]:
    """Hold a log's files as they are, for reading; whoever may not lock may read all the same."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def closed_files(folder: Path) -> list[Path]:
    """Return the files that were rotated away, in order."""
    return sorted(path for path in folder.glob("log-*.jsonl") if CLOSED.fullmatch(path.name))


def _healed(torn: bytes) -> Healed:
    return Healed(removed=len(torn), sha256=hashlib.sha256(torn).hexdigest())


def _continued(path: Path) -> Continued:
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return Continued(file=path.name, sha256=digest, lines=data.count(b"\n"))
