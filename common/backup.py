"""A home copied to one file, and back to where there is none.

One way for both sides, since neither may import the other; which files a home consists of each
side says itself.
"""

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from common.archive import LARGEST, Archive, File, Side
from common.crypto.locking import lock
from common.durable import (
    OWNER_ONLY,
    PARTIAL,
    READABLE,
    sync_directory,
    write_atomically,
    writing,
)
from common.entropy import Stream, SystemEntropy
from common.errors import ConfigError
from common.secret_files import Ask, ask_passphrase, new_passphrase, read_secret
from common.trail.events import Restored
from common.trail.file import COUNTS, FOLDER, HEAD, KEY, FileTrail, still

Target = Annotated[Path, typer.Argument(help="The backup to write.")]
Source = Annotated[Path, typer.Argument(help="What `backup` wrote.")]
NewHome = Annotated[Path, typer.Option("--home", help="A folder that does not exist yet.")]
"""What the commands of both sides take."""


def gathered(home: Path, patterns: Iterable[str]) -> dict[str, File]:
    """Read the files of a home that match, each by its path there; what is half written is not.

    Raises:
        ConfigError: one of them is a link, whose target would be missing where it is restored.
    """
    found = {}
    for path in sorted({path for pattern in patterns for path in home.glob(pattern)}):
        if path.is_symlink():
            raise ConfigError(f"{path}: is a link: put the file itself there, so that it is copied")
        if path.is_file() and not path.name.endswith(PARTIAL):
            found[path.relative_to(home).as_posix()] = read_file(path)
    return found


def copied_log(home: Path) -> dict[str, File]:
    """Return a home's audit log as of one moment, with its key, head and counts."""
    with still(home / FOLDER):
        return gathered(home, [f"{FOLDER}/{name}" for name in (KEY, HEAD, COUNTS, "log*.jsonl")])


def read_file(path: Path) -> File:
    """Read one file; what others may not read is a secret."""
    with path.open("rb") as file:
        return File(file.read(), secret=not os.fstat(file.fileno()).st_mode & 0o077)


def copied_database(path: Path) -> File:
    """Return a SQLite database as of one moment, while others may write to it.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as source,
            closing(sqlite3.connect(":memory:")) as copy,
        ):
            source.backup(copy)
            return File(copy.serialize(), secret=True)
    except sqlite3.Error as error:
        raise ConfigError(f"{path}: cannot be copied: {error}") from error


def save(file: Path, archive: Archive, stream: Stream, choose: Ask) -> None:
    """Write an archive to a new file for its owner alone, under a passphrase if one is chosen.

    Raises:
        ConfigError: the file exists.
        DiskError: there is no room for it; nothing of it is left.
    """
    if file.exists():
        raise ConfigError(f"{file}: exists: name another file, a backup replaces none")
    data = archive.to_bytes()
    passphrase = choose()
    write_atomically(file, lock(data, passphrase, stream) if passphrase else data, OWNER_ONLY)


def back_up(file: Path, archived: Callable[[Path, int], Archive], home: Path) -> None:
    """Write what a side's ``archived`` returns of a home as of now, and say so."""
    made = archived(home, int(time.time()))
    save(file, made, SystemEntropy().stream("backup"), new_passphrase)
    typer.echo(f"{file}: {len(made.files)} files, the private keys among them: keep it as you do")


def restored(archive: Archive, home: Path, said: str, trail: FileTrail) -> None:
    """Note what was restored to a home, and say ``said`` of it, which may name both."""
    trail.append(Restored(made=archive.made))
    typer.echo(said.format(home=home, made=datetime.fromtimestamp(archive.made, UTC)))


def restore(file: Path, home: Path, side: Side, ask: Ask = ask_passphrase) -> Archive:
    """Write a backup's files to a new home, all of them or none; return what was in it.

    Raises:
        ConfigError: the home exists, the passphrase is missing or wrong, or this is no backup of
            this side.
        DiskError: there is no room; nothing of it is left.
    """
    home = home.absolute()
    if os.path.lexists(home):
        raise ConfigError(f"{home}: exists, and nothing is ever overwritten: name a new folder")
    if file.exists() and file.stat().st_size > 2 * LARGEST:
        raise ConfigError(f"{file}: larger than any backup")
    data = read_secret(file, ask)
    try:
        archive = Archive.from_bytes(data, side)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    with writing(home):
        # A name of its own: whatever lies there already is not ours to remove.
        partial = Path(tempfile.mkdtemp(prefix=f".{home.name}.", suffix=PARTIAL, dir=home.parent))
        try:
            for path, one in archive.files.items():
                target = partial / path
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_atomically(target, one.data, OWNER_ONLY if one.secret else READABLE)
            partial.rename(home)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_directory(home.parent)
    return archive
