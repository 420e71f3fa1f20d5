"""Secrets on a disk: owner only, under a passphrase that is asked for and never shown."""

import sys
from pathlib import Path

import pytest

from common.entropy import SeededEntropy
from common.errors import ConfigError
from common.secret_files import FILE, PASSPHRASE, create_secret, erase, new_passphrase, read_secret

SECRET = b"a private key"


def stream(n: int) -> bytes:
    return SeededEntropy(0).stream("salt")(n)


class Terminal:
    """A person who types these lines, none of which is echoed."""

    def __init__(self, *typed: str) -> None:
        self.typed, self.asked = list(typed), list[str]()

    def isatty(self) -> bool:
        return True

    def getpass(self, prompt: str) -> str:
        self.asked.append(prompt)
        return self.typed.pop(0)

    def sit_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(PASSPHRASE, raising=False)
        monkeypatch.setattr(sys, "stdin", self)
        # The one way in that does not echo.
        monkeypatch.setattr("getpass.getpass", self.getpass)


def test_a_secret_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_secret(path, SECRET, stream)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path) == SECRET
    with pytest.raises(ConfigError, match="File exists"):
        create_secret(path, SECRET, stream)
    for mode in (0o640, 0o604, 0o700):
        path.chmod(mode)
        with pytest.raises(ConfigError, match=f"mode {mode:04o} lets others"):
            read_secret(path)


def test_a_passphrase_is_asked_for_only_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    create_secret(path, SECRET, stream, "right")
    assert SECRET not in path.read_bytes()
    monkeypatch.setenv(PASSPHRASE, "right")
    assert read_secret(path) == SECRET
    monkeypatch.setenv(PASSPHRASE, "wrong-one")
    with pytest.raises(ConfigError, match="key: the passphrase is wrong") as caught:
        read_secret(path)
    assert "wrong-one" not in str(caught.value)
    monkeypatch.delenv(PASSPHRASE)
    with pytest.raises(ConfigError, match=f"need their passphrase: set {PASSPHRASE}"):
        read_secret(path)
    terminal = Terminal("right")
    terminal.sit_at(monkeypatch)
    assert read_secret(path) == SECRET
    assert terminal.asked == ["Passphrase: "]


def test_a_new_passphrase_is_typed_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Terminal("one", "one").sit_at(monkeypatch)
    assert new_passphrase() == "one"
    Terminal("one", "two").sit_at(monkeypatch)
    with pytest.raises(ConfigError, match="the two passphrases differ"):
        new_passphrase()
    told = capsys.readouterr()
    assert told.out + told.err == ""


def test_an_erased_secret_is_gone_under_every_name(tmp_path: Path) -> None:
    path, other = tmp_path / "key", tmp_path / "link"
    create_secret(path, SECRET, stream)
    other.hardlink_to(path)
    assert erase(path)
    assert not path.exists()
    assert other.read_bytes() == bytes(len(SECRET))
    assert not erase(path)


def test_a_passphrase_may_come_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)
    monkeypatch.setenv(PASSPHRASE + FILE, str(tmp_path / "passphrase"))
    with pytest.raises(ConfigError, match="cannot be read as text"):
        new_passphrase()
    (tmp_path / "passphrase").write_text(" with spaces \n")
    assert new_passphrase() == " with spaces "
    monkeypatch.setenv(PASSPHRASE, "the variable itself")
    assert new_passphrase() == "the variable itself"
