"""Secrets on a disk, for their owner's eyes: mode 0600, under a passphrase if one was given.

One way for both sides, since neither may import the other.
"""

import getpass
import os
import stat
import sys
from collections.abc import Callable
from errno import EEXIST
from pathlib import Path
from typing import Final

from common.console import warn
from common.crypto.locking import is_locked, lock, unlock
from common.durable import OWNER_ONLY, PARTIAL, sync_directory, write_synced
from common.entropy import Stream
from common.errors import ConfigError

PASSPHRASE = "FEDPRUNE_PASSPHRASE"  # noqa: S105
"""Environment variable that answers in a person's place."""

DATA_PASSWORD = "FEDPRUNE_DATA_PASSWORD"  # noqa: S105
"""Environment variable: what the database asks the user of ``data.url`` for."""

SECRETS = (PASSPHRASE, DATA_PASSWORD)
"""How the names of variables begin that hold a secret, or name its file."""

FILE: Final = "_FILE"
"""Ends the variable that names a file instead, as secrets of containers come."""

Ask = Callable[[], str]
"""Return a passphrase; empty for none."""


def from_environment(name: str) -> str | None:
    """Return a secret's variable, or the file that ``NAME_FILE`` names less its line's end.

    Raises:
        ConfigError: the file cannot be read.
    """
    if name in os.environ or not (file := os.environ.get(name + FILE)):
        return os.environ.get(name)
    try:
        return Path(file).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{name}{FILE}: {file}: cannot be read as text: check it") from None


def ask_passphrase() -> str:
    """Return the passphrase of the environment, or of the person at the terminal, not echoed."""
    if (given := from_environment(PASSPHRASE)) is not None:
        return given
    return getpass.getpass("Passphrase: ") if sys.stdin.isatty() else ""


def new_passphrase() -> str:
    """Return a passphrase for keys to come, typed twice at a terminal; empty leaves them open.

    Raises:
        ConfigError: the two differ.
    """
    if from_environment(PASSPHRASE) is not None or not sys.stdin.isatty():
        chosen = ask_passphrase()
    else:
        chosen = getpass.getpass("New passphrase (empty: none): ")
        if chosen != getpass.getpass("Once more: "):
            raise ConfigError("the two passphrases differ: begin again")
    if not chosen:
        warn([f"no passphrase: whoever copies the key files has the keys; {PASSPHRASE} sets one"])
    return chosen


def create_secret(path: Path, secret: bytes, stream: Stream, passphrase: str = "") -> None:
    """Write a secret, whole or not at all, to a new file of mode 0600.

    ``stream`` salts the passphrase, if any.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    data = lock(secret, passphrase, stream) if passphrase else secret
    partial = path.with_name(path.name + PARTIAL)
    try:
        if path.exists():
            raise FileExistsError(EEXIST, os.strerror(EEXIST))
        erase(partial)  # What a crash left of one.
        write_synced(partial, data, OWNER_ONLY, os.O_EXCL)
        partial.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"{path}: keys cannot be written: {error.strerror}") from error


def read_secret(path: Path, ask: Ask = ask_passphrase) -> bytes:
    """Read what `create_secret` wrote.

    Raises:
        ConfigError: the file is missing or open to others than its owner, or the passphrase is
            missing or wrong.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & ~OWNER_ONLY:
                raise ConfigError(
                    f"{path}: mode {mode:04o} lets others at the private keys:"
                    f" chmod {OWNER_ONLY:04o} {path}"
                )
            data = file.read()
    except OSError as error:
        raise ConfigError(
            f"{path}: keys cannot be read: {error.strerror}: restore them from the backup, or name"
            " another folder by --home"
        ) from error
    if not is_locked(data):
        return data
    if not (passphrase := ask()):
        raise ConfigError(f"{path}: keys need their passphrase: set {PASSPHRASE}, or type it")
    try:
        return unlock(data, passphrase)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def erase(path: Path) -> bool:
    """Overwrite a file once and remove it, if it exists; whether it did.

    A journal, a snapshot or a backup may still have a copy.
    """
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return False
    path.unlink()
    return True
