"""A home's files as the bytes of one, with the hash of each: what is not listed is not there.

A zip, so that what is in it can be looked at without this program. Hashes find damage; only a
passphrase (`common.crypto.locking`) keeps the archive from being read or altered.
"""

import hashlib
import io
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from common.errors import ConfigError

LARGEST: Final = 1 << 30
"""Bytes of all files: an archive is built, locked and read in memory."""

_MANIFEST, _LISTED, _LONGEST = "manifest.json", 1 << 24, 240
"""The manifest's name and the most bytes it may have; the longest path."""

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)

Side = Literal["server", "client"]


@dataclass(frozen=True)
class File:
    """A file's content, and whether its owner alone may read it."""

    data: bytes
    secret: bool


def _inside(path: str) -> str:
    """Hold a path to where an archive is restored."""
    parts = PurePosixPath(path).parts
    bad = not parts or "\\" in path or not path.isprintable() or len(path) > _LONGEST
    if bad or path != "/".join(parts) or path.startswith("/") or ".." in parts:
        raise ValueError(f"{path!r} is no path below a home")
    return path


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, AfterValidator(_inside)]
    size: Annotated[int, Field(ge=0, le=LARGEST)]
    sha256: str
    secret: bool


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    side: Side
    made: int
    files: tuple[_Part, ...]


@dataclass(frozen=True)
class Archive:
    """Files by their path below a home, as they were at ``made``, in Unix seconds."""

    side: Side
    made: int
    files: Mapping[str, File]

    def to_bytes(self) -> bytes:
        """Return the archive; equal ones give equal bytes.

        Raises:
            ConfigError: it would be larger than what can be restored.
        """
        _require_size(sum(len(file.data) for file in self.files.values()))
        parts = [
            _Part(path=path, size=len(file.data), sha256=_hash(file.data), secret=file.secret)
            for path, file in sorted(self.files.items())
        ]
        manifest = _Manifest(side=self.side, made=self.made, files=tuple(parts))
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(_entry(_MANIFEST), manifest.model_dump_json(indent=1))
            for part in parts:
                packed.writestr(_entry(part.path), self.files[part.path].data)
        return target.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, side: Side) -> "Archive":
        """Parse `to_bytes`' form of an archive of this side.

        Raises:
            ConfigError: it is of the other side, too large, or anything but what was packed.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                entries = packed.infolist()
                manifest = _Manifest.model_validate_json(
                    _read(packed, entries[0], _MANIFEST, _LISTED)
                )
                _require_size(sum(part.size for part in manifest.files))
                paths = [part.path for part in manifest.files]
                if [entry.filename for entry in entries[1:]] != sorted(set(paths)):
                    raise ValueError("other files than the listed ones")
                if any(str(above) in paths for path in paths for above in _above(path)):
                    raise ValueError("a file in place of a folder")
                parts = zip(manifest.files, entries[1:], strict=True)
                files = {
                    part.path: File(_verified(packed, entry, part), part.secret)
                    for part, entry in parts
                }
        except (
            *(ValueError, IndexError, KeyError, EOFError, RuntimeError, NotImplementedError),
            *(ValidationError, zipfile.BadZipFile, zlib.error),
        ) as error:
            raise ConfigError(
                "no backup of fedprune, or a damaged one: take another copy"
            ) from error
        if manifest.side != side:
            raise ConfigError(
                f"a backup of a {manifest.side}: restore it by fedprune-{manifest.side}"
            )
        return cls(side, manifest.made, files)


def _entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o600) << 16
    return entry


def _verified(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, part: _Part) -> bytes:
    data = _read(packed, entry, part.path, part.size)
    if len(data) != part.size or _hash(data) != part.sha256:
        raise ValueError(f"{part.path} is not what was packed")
    return data


def _read(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str, size: int = LARGEST) -> bytes:
    """Read a regular file of at most ``size`` bytes, however much its header promises."""
    if entry.filename != path or stat.S_IFMT(entry.external_attr >> 16) != stat.S_IFREG:
        raise ValueError(f"{path} is no regular file here")
    with packed.open(entry) as file:
        data = file.read(size + 1)
    if len(data) > size:
        raise ValueError(f"{path} is longer than it says")
    return data


def _above(path: str) -> list[PurePosixPath]:
    return list(PurePosixPath(path).parents)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _require_size(size: int) -> None:
    if size > LARGEST:
        raise ConfigError(
            f"files of {size:,} bytes, {LARGEST:,} fit into a backup: move old runs elsewhere"
        )
