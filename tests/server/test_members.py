import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.crypto import node_keys
from common.entropy import SeededEntropy
from common.errors import ConfigError
from server.members import Members, node_key

LINES = [
    node_keys.public_line(node_keys.generate_key(SeededEntropy(n).stream("node"))) for n in range(3)
]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(folder: Path, *names: str) -> None:
    for name, line in zip(names, LINES, strict=False):
        (folder / f"{name}.pub").write_text(line)


def test_members_are_looked_at_each_second(tmp_path: Path) -> None:
    write(tmp_path, "ash", "birch")
    clock = Clock()
    members = Members(tmp_path, clock)
    assert sorted(members().values()) == ["ash", "birch"]
    assert all(key.startswith(b"-----BEGIN PUBLIC KEY-----") for key in members())
    (tmp_path / "birch.pub").unlink()
    assert sorted(members().values()) == ["ash", "birch"]
    clock.now = 1.0
    assert sorted(members().values()) == ["ash"]


def test_a_damaged_key_shuts_out_its_member_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "ash", "birch", "cedar")
    (tmp_path / "birch.pub").write_text("")
    (tmp_path / "elm.pub").mkdir()
    assert sorted(Members(tmp_path)().values()) == ["ash", "cedar"]
    assert "birch may not connect: " in caplog.text
    assert "elm may not connect: " in caplog.text


def test_a_file_that_goes_while_it_is_listed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    write(tmp_path, "ash", "birch")
    gone, listed = tmp_path / "cedar.pub", list(tmp_path.iterdir())
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([*listed, gone]))
    assert sorted(Members(tmp_path)().values()) == ["ash", "birch"]


def test_a_folder_that_is_away_for_a_moment_shuts_nobody_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, clock = tmp_path / "members", Clock()
    members = Members(folder, clock)
    with pytest.raises(FileNotFoundError):
        members()
    folder.mkdir()
    write(folder, "ash")
    assert [*members().values()] == ["ash"]
    folder.rename(tmp_path / "away")
    clock.now = 1.0
    assert [*members().values()] == ["ash"]
    assert "cannot be listed" in caplog.text
    (tmp_path / "away").rename(folder)
    (folder / "ash.pub").unlink()
    clock.now = 2.0
    assert not members()


def test_other_keys_are_named(tmp_path: Path) -> None:
    path = tmp_path / "ash.pub"
    other = Ed25519PrivateKey.generate().public_key()
    path.write_bytes(other.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    with pytest.raises(ConfigError, match="not an ECDSA key: make one by ssh-keygen"):
        node_key(path)
    path.write_text("nothing")
    with pytest.raises(ConfigError, match="not a public key as ssh-keygen writes it"):
        node_key(path)
