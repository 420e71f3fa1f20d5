"""A home comes back from its backup as it was, into a new folder, all of it or nothing."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from common.archive import Archive
from common.backup import copied_database, gathered, restore, save
from common.crypto.locking import is_locked
from common.entropy import SeededEntropy
from common.errors import ConfigError, DiskError

PATTERNS = ("*.toml", "*.key", "members/*")
SECRET = b"a private key"


def stream(n: int) -> bytes:
    return SeededEntropy(0).stream("salt")(n)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "members").mkdir(parents=True)
    (home / "server.toml").write_text("name")
    (home / "members" / "ash.json").write_text("{}")
    (home / "members" / "ash.json.partial").write_text("{")
    (home / "records.csv").write_text("a table")
    (home / "ca.key").write_bytes(SECRET)
    for path in home.rglob("*.*"):
        path.chmod(0o600 if path.suffix == ".key" else 0o644)
    return home


def backed_up(home: Path, file: Path, passphrase: str = "") -> Path:
    archive = Archive("server", 0, gathered(home, PATTERNS))
    save(file, archive, stream, lambda: passphrase)
    return file


def files_of(home: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(home).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in home.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("passphrase", ["", "right"])
def test_a_home_comes_back_as_it_was(home: Path, tmp_path: Path, passphrase: str) -> None:
    file = backed_up(home, tmp_path / "backup", passphrase)
    assert file.stat().st_mode & 0o777 == 0o600
    assert is_locked(file.read_bytes()) == bool(passphrase)
    back = tmp_path / "back"
    restore(file, back, "server", lambda: passphrase)
    found = files_of(home)
    del found["records.csv"], found["members/ash.json.partial"]
    assert files_of(back) == found
    assert found["ca.key"] == (SECRET, 0o600)
    assert back.stat().st_mode & 0o777 == 0o700


def test_neither_a_backup_nor_a_home_is_ever_overwritten(home: Path, tmp_path: Path) -> None:
    file = backed_up(home, tmp_path / "backup")
    with pytest.raises(ConfigError, match="backup: exists: name another file"):
        backed_up(home, file)
    before = files_of(home)
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for place in ("home", "empty", "dangling"):
        with pytest.raises(ConfigError, match=f"{place}: exists, and nothing is ever overwritten"):
            restore(file, tmp_path / place, "server")
    assert files_of(home) == before
    assert not (tmp_path / "nowhere").exists()


def test_a_backup_is_its_owners_alone_and_proves_its_passphrase(home: Path, tmp_path: Path) -> None:
    file = backed_up(home, tmp_path / "backup", "right")
    assert SECRET not in file.read_bytes()
    with pytest.raises(ConfigError, match="the passphrase is wrong, or the file was altered"):
        restore(file, tmp_path / "back", "server", lambda: "wrong")
    with pytest.raises(ConfigError, match="need their passphrase"):
        restore(file, tmp_path / "back", "server", lambda: "")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0640 lets others"):
        restore(file, tmp_path / "back", "server", lambda: "right")
    assert {path.name for path in tmp_path.iterdir()} == {"home", "backup"}


@pytest.mark.parametrize("place", [0, 100, -1])
def test_an_altered_backup_restores_nothing(home: Path, tmp_path: Path, place: int) -> None:
    file = backed_up(home, tmp_path / "backup", "right")
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ConfigError, match=r"altered|no backup of fedprune"):
        restore(file, tmp_path / "back", "server", lambda: "right")
    assert {path.name for path in tmp_path.iterdir()} == {"home", "backup"}


def test_a_link_is_not_followed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(SECRET)
    (home / "server.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"server\.key: is a link"):
        gathered(home, PATTERNS)


def test_a_full_disk_is_one_line_and_leaves_no_half(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = backed_up(home, tmp_path / "backup")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskError, match="No space left on device: make room") as caught:
            backed_up(home, tmp_path / "another")
        assert "\n" not in str(caught.value)
        with pytest.raises(DiskError, match="No space left on device: make room"):
            restore(file, tmp_path / "back", "server")
    assert {path.name for path in tmp_path.iterdir()} == {"home", "backup"}
    restore(file, tmp_path / "back", "server")


def test_a_database_is_copied_as_of_its_last_commit(tmp_path: Path) -> None:
    path = tmp_path / "a ledger?.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("PRAGMA journal_mode=WAL")
        live.execute("CREATE TABLE lines (number INTEGER)")
        live.executemany("INSERT INTO lines VALUES (?)", [(number,) for number in range(100)])
        live.execute("BEGIN IMMEDIATE")
        live.execute("INSERT INTO lines VALUES (-1)")
        copied = copied_database(path)
        assert path.read_bytes() != copied.data, "what is in the log would be missing"
        live.execute("COMMIT")
    assert copied.secret
    (tmp_path / "copy").write_bytes(copied.data)
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("SELECT count(*), min(number) FROM lines").fetchone() == (100, 0)


@pytest.mark.parametrize("data", [None, b"no database at all, but long enough for a header" * 20])
def test_what_is_no_database_is_one_line(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "ledger.sqlite").write_bytes(data)
    with pytest.raises(ConfigError, match=r"ledger\.sqlite: cannot be copied"):
        copied_database(tmp_path / "ledger.sqlite")
    assert (tmp_path / "ledger.sqlite").exists() == (data is not None)
