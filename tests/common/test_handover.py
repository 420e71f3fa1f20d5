import logging
import os
import sys
from functools import partial
from pathlib import Path

import pytest

from common.entropy import SeededEntropy
from common.errors import ConfigError
from common.handover import AskedOnce, Handover, environment_without_secrets
from common.secret_files import PASSPHRASE, create_secret, read_secret

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memfd_create")

KEY, LATER = b"a private key", b"another, longer private key"
STREAM = SeededEntropy(0).stream("salt")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    create_secret(tmp_path / "node.key", KEY, STREAM, "open sesame")
    return tmp_path / "node.key"


def handed(file: Path, *beside: Path, passphrase: str = "open sesame") -> Handover:
    return Handover(partial(read_secret, file, lambda: passphrase), file, *beside)


def replace(file: Path, data: bytes, passphrase: str = "open sesame") -> None:
    file.unlink()
    create_secret(file, data, STREAM, passphrase)


def test_a_key_is_read_in_clear_as_often_as_a_program_likes(file: Path) -> None:
    key = handed(file)
    assert [Path(key.path).read_bytes() for _ in range(2)] == [KEY, KEY]
    assert KEY not in file.read_bytes()
    assert [path.name for path in file.parent.iterdir()] == ["node.key"]
    assert not os.get_inheritable(key.handle), "every child would hold it"


def test_a_wrong_passphrase_hands_over_nothing(file: Path) -> None:
    with pytest.raises(ConfigError, match="the passphrase is wrong, or the file was altered"):
        handed(file, passphrase="sesame")
    with pytest.raises(ConfigError, match=f"keys need their passphrase: set {PASSPHRASE}"):
        handed(file, passphrase="")


def test_it_is_renewed_when_a_file_holds_something_else(file: Path, tmp_path: Path) -> None:
    beside = tmp_path / "ca.pem"
    beside.write_text("one")
    key = handed(file, beside)
    assert not key.renewed()
    os.utime(beside, ns=(0, 0))
    assert not key.renewed(), "the same content, written anew"
    beside.write_text("another")
    assert key.renewed()
    assert not key.renewed()
    replace(file, LATER)
    assert key.renewed()
    assert Path(key.path).read_bytes() == LATER
    replace(file, KEY)
    assert key.renewed()
    assert Path(key.path).read_bytes() == KEY, "the longer one shows through"


def test_what_cannot_be_read_leaves_what_is_held(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    key, whole = handed(file), file.read_bytes()
    replace(file, LATER, "another passphrase")
    assert not key.renewed()
    assert "the passphrase is wrong" in caplog.text
    assert "what was read before stays in use" in caplog.text
    file.unlink()
    assert not key.renewed()
    assert Path(key.path).read_bytes() == KEY
    assert not key.renewed()
    file.write_bytes(whole)
    file.chmod(0o600)
    os.utime(file, ns=(0, 0))
    key.renewed()
    assert Path(key.path).read_bytes() == KEY
    assert len(caplog.records) == 1, "said once"


def test_a_passphrase_is_asked_for_once_and_only_if_needed(file: Path) -> None:
    asked: list[str] = []

    def ask() -> str:
        asked.append("")
        return "open sesame"

    once = AskedOnce(ask)
    (file.parent / "open.key").write_bytes(KEY)
    (file.parent / "open.key").chmod(0o600)
    assert read_secret(file.parent / "open.key", once) == KEY
    assert (once.said, asked) == ("", [])
    assert [read_secret(file, once) for _ in range(2)] == [KEY, KEY]
    assert (once.said, len(asked)) == ("open sesame", 1)


def test_nobody_is_asked_once_all_runs(file: Path) -> None:
    def ask() -> str:
        raise AssertionError("who waits for an answer looks after nothing")

    once = AskedOnce(ask)
    once.close()
    with pytest.raises(ConfigError, match="keys need their passphrase"):
        read_secret(file, once)


def test_a_key_counts_as_soon_as_its_mode_lets_it(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = handed(file)
    replace(file, LATER)
    file.chmod(0o644)
    assert not key.renewed()
    assert "chmod 0600" in caplog.text
    file.chmod(0o600)
    assert key.renewed()
    assert Path(key.path).read_bytes() == LATER


def test_children_are_not_told_the_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    monkeypatch.setenv("OTHER", "kept")
    told = environment_without_secrets()
    assert "open sesame" not in told.values()
    assert told["OTHER"] == "kept"
