"""A release on a disk: its manifest, its files, and what has been said of it; alike on both sides.

The manifest comes first and the files after it, so a folder may be incomplete; nothing in it counts
before it was checked.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.consent.acts import Proposal
from common.durable import READABLE, write_atomically, writing
from common.release.manifest import Manifest, Withdrawal
from common.release.refusals import AlteredModelError, NoReleaseError
from common.release.standing import read_release
from common.release.verdict import Verdict, joined, parted

RELEASES: Final = "releases"
"""Where releases lie below a home, each in a folder of its run's name."""

CHARTERS: Final = "charters"
"""Where every charter that was in force lies below a home, by its hash: releases outlive it."""

MANIFEST, VERDICTS, WITHDRAWAL = "release.json", "verdicts.jsonl", "withdrawal.json"
VERDICT: Final = "verdict.json"
"""An institution's own word, to be carried by hand as well."""

LONGEST: Final = 2**22
"""Bytes of a carried manifest, withdrawal, or all verdicts: those of ten thousand members."""

LOCK: Final = "lock"
"""Beside the runs' folders: who changes one of them."""


@dataclass(frozen=True)
class Folder:
    """Where a release lies."""

    path: Path

    @property
    def bundle(self) -> Proposal:
        """The signed manifest; raises `NoReleaseError` if there is none."""
        try:
            data = (self.path / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            why = f"it has no {MANIFEST}" if self.path.exists() else "there is no such folder"
            raise NoReleaseError(f"{self.path}: was not released: {why}") from error
        return read_release(data)

    def verdicts(self, manifest: str) -> tuple[Verdict, ...]:
        """Return what institutions have said of the release whose manifest has this hash."""
        file = self.path / VERDICTS
        said = parted(file.read_bytes()) if file.exists() else ()
        return tuple(verdict for verdict in said if verdict.manifest == manifest)

    def withdrawal(self, manifest: str) -> Proposal | None:
        """Return the operators' word that this release no longer holds, if they gave it."""
        file = self.path / WITHDRAWAL
        said = Proposal.from_bytes(file.read_bytes()) if file.exists() else None
        if said is not None and isinstance(said.act, Withdrawal) and said.act.manifest != manifest:
            return None
        return said

    def begin(self, bundle: Proposal) -> None:
        """Put a release in the place of an earlier one, of which nothing that was said is left.

        The manifest comes first: what was said of the earlier one holds until it is replaced, and
        counts for nothing from then on.
        """
        with writing(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.path / MANIFEST, bundle.to_bytes(), READABLE)
        with writing(self.path):
            for file in (VERDICT, VERDICTS, WITHDRAWAL):
                (self.path / file).unlink(missing_ok=True)

    def put(self, manifest: Manifest, name: str, data: bytes) -> None:
        """Write one of its files; raise `AlteredModelError` if these are not its bytes."""
        manifest.require_file(name, data)
        write_atomically(self.path / name, data, READABLE)

    def say(self, verdicts: Iterable[Verdict]) -> None:
        """Keep what institutions have said; whoever asks has checked it."""
        write_atomically(self.path / VERDICTS, joined(verdicts), READABLE)

    def withdraw(self, withdrawal: Proposal) -> None:
        """Keep the operators' withdrawal; whoever asks has checked it."""
        write_atomically(self.path / WITHDRAWAL, withdrawal.to_bytes(), READABLE)

    def missing(self, manifest: Manifest) -> list[str]:
        """Return the names of files that are not there as they were signed for."""
        return [name for name in manifest.files if not self._holds(manifest, name)]

    def require_files(self, manifest: Manifest) -> dict[str, bytes]:
        """Return its files; raise `AlteredModelError` unless each is the one signed for."""
        files = {str(name): self.file(name) for name in manifest.files}
        for name, data in files.items():
            manifest.require_file(name, data)
        return files

    def file(self, name: str) -> bytes:
        """Return a file of the release; raise `AlteredModelError` if it is not there."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError as error:
            raise AlteredModelError(
                f"{self.path / name}: missing: have the release sent again"
            ) from error

    def _holds(self, manifest: Manifest, name: str) -> bool:
        try:
            manifest.require_file(name, self.file(name))
        except AlteredModelError:
            return False
        return True


@contextmanager
def held(home: Path) -> Iterator[None]:
    """Hold a home's releases against other processes, from when they are read until they change."""
    with writing(home / RELEASES):
        (home / RELEASES).mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(home / RELEASES / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def keep_charter(home: Path, bundle: Proposal) -> None:
    """Keep a charter that comes into force, for the releases that are made under it."""
    with writing(home / CHARTERS):
        (home / CHARTERS).mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(home / CHARTERS / f"{bundle.digest}.json", bundle.to_bytes(), READABLE)


def kept_charter(home: Path, digest: str) -> Proposal | None:
    """Return a charter that was in force, if this one was."""
    file = home / CHARTERS / f"{digest}.json"
    if not file.exists():
        return None
    bundle = Proposal.from_bytes(file.read_bytes())
    return bundle if bundle.digest == digest else None
