"""An archive gives back what was packed, and nothing else is taken for one."""

import hashlib
import io
import json
import stat
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from common import archive as module
from common.archive import Archive, File
from common.errors import ConfigError

FILES = {
    "server.toml": File(b"name", secret=False),
    "ca.key": File(bytes(range(256)) * 40, secret=True),
    "members/ash.json": File(b"", secret=False),
}
ARCHIVE = Archive("server", 1_700_000_000, FILES)
Fields = dict[str, Any]


def repacked(
    change: Callable[[Fields], None] = lambda fields: None,
    entry: Callable[[zipfile.ZipInfo], None] = lambda entry: None,
    also: tuple[str, ...] = (),
) -> bytes:
    """Pack the archive again, its manifest changed, each of its entries, or with more of them."""
    target = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(io.BytesIO(ARCHIVE.to_bytes())) as source,
        zipfile.ZipFile(target, "w") as packed,
    ):
        warnings.simplefilter("ignore")  # Duplicate names.
        manifest, *rest = source.infolist()
        fields = json.loads(source.read(manifest))
        change(fields)
        packed.writestr(manifest, json.dumps(fields))
        for one in rest:
            data = source.read(one)
            entry(one)
            packed.writestr(one, data)
        for name in also:
            packed.writestr(regular(name), b"")
    return target.getvalue()


def regular(name: str) -> zipfile.ZipInfo:
    """Return the entry of a file as zip itself marks one, to be compressed."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def rename(to: str) -> bytes:
    """Give the first file another name, in the manifest and in the zip."""

    def listed(fields: Fields) -> None:
        fields["files"][0]["path"] = to

    def stored(entry: zipfile.ZipInfo) -> None:
        if entry.filename == "ca.key":
            entry.filename = to

    return repacked(listed, stored)


def test_an_archive_gives_back_what_was_packed() -> None:
    data = ARCHIVE.to_bytes()
    assert Archive.from_bytes(data, "server") == ARCHIVE
    assert data == Archive("server", ARCHIVE.made, dict(reversed(FILES.items()))).to_bytes()
    assert Archive.from_bytes(repacked(), "server") == ARCHIVE
    assert Archive.from_bytes(rename("a/b c.key"), "server").files["a/b c.key"] == FILES["ca.key"]


def test_an_archive_of_the_other_side_names_its_command() -> None:
    with pytest.raises(ConfigError, match="of a server: restore it by fedprune-server"):
        Archive.from_bytes(ARCHIVE.to_bytes(), "client")


@pytest.mark.parametrize(
    "path",
    ["../out", "/etc/passwd", "a/../../out", "a//b", "./a", ".", "", "a\\b", "a\nb", "x" * 241],
)
def test_no_path_leads_out_of_a_home(path: str) -> None:
    with pytest.raises(ConfigError, match="no backup of fedprune"):
        Archive.from_bytes(rename(path), "server")


def link(entry: zipfile.ZipInfo) -> None:
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16


def listed_twice(fields: Fields) -> None:
    fields["files"].append(fields["files"][0])


def set_to(key: str, value: object) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        (fields if key in fields else fields["files"][0])[key] = value

    return change


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        ARCHIVE.to_bytes()[:-40],
        repacked(also=("more",)),
        repacked(also=("members/ash.json",)),
        repacked(entry=link),
        repacked(listed_twice),
        repacked(set_to("sha256", "0" * 64)),
        repacked(set_to("size", 1)),
        repacked(set_to("size", 20_000)),
        repacked(set_to("size", -1)),
        repacked(set_to("version", 2)),
        repacked(set_to("side", "other")),
        repacked(set_to("extra", 1)),
        rename("members"),
    ],
)
def test_anything_else_is_no_backup(data: bytes) -> None:
    with pytest.raises(ConfigError, match="no backup of fedprune, or a damaged one"):
        Archive.from_bytes(data, "server")


def test_every_byte_of_a_file_is_proved() -> None:
    data = bytearray(ARCHIVE.to_bytes())
    (start,) = [
        one.header_offset + 30 + len(one.filename)
        for one in zipfile.ZipFile(io.BytesIO(bytes(data))).infolist()
        if one.filename == "ca.key"
    ]
    data[start + 8] ^= 1
    with pytest.raises(ConfigError, match="damaged"):
        Archive.from_bytes(bytes(data), "server")


def test_what_is_too_large_is_neither_packed_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ARCHIVE.to_bytes()
    monkeypatch.setattr(module, "LARGEST", 10_000)
    for act in (ARCHIVE.to_bytes, lambda: Archive.from_bytes(data, "server")):
        with pytest.raises(ConfigError, match="files of 10,244 bytes, 10,000 fit into a backup"):
            act()


@pytest.mark.parametrize("promised", [3, 50 << 20])
def test_a_file_that_unpacks_to_more_than_it_says_is_not_unpacked(
    promised: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros, bomb = bytes(50 << 20), io.BytesIO()
    digest = hashlib.sha256(zeros).hexdigest()
    part = {"path": "a", "size": promised, "sha256": digest, "secret": True}
    fields = {"side": "server", "made": 0, "files": [part]}
    with zipfile.ZipFile(bomb, "w") as packed:
        packed.writestr(regular("manifest.json"), json.dumps(fields))
        packed.writestr(regular("a"), zeros)
    if promised == len(zeros):
        assert Archive.from_bytes(bomb.getvalue(), "server").files["a"].data == zeros
        return
    asked: list[int] = []
    read = zipfile.ZipExtFile.read

    def noting(file: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        asked.append(n or 0)
        return read(file, n)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", noting)
    with pytest.raises(ConfigError, match="damaged"):
        Archive.from_bytes(bomb.getvalue(), "server")
    assert asked[1:] == [promised + 1]
