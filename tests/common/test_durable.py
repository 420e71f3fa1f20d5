import os
from pathlib import Path

import pytest

from common.durable import PARTIAL, write_atomically
from common.errors import DiskError


def crash(descriptor: int) -> None:
    raise OSError("power is gone")


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_crash_in_the_middle_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        if moment == "fsync":
            patch.setattr(os, "fsync", crash)
        else:
            patch.setattr(Path, "replace", lambda self, target: crash(0))
        with pytest.raises(DiskError, match="power is gone: make room"):
            write_atomically(path, b"new and longer")
        assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_its_mode_whatever_a_killed_process_left(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    left = path.with_name(path.name + PARTIAL)
    left.write_bytes(b"half")
    left.chmod(0o666)
    before = os.umask(0o002)
    try:
        write_atomically(path, b"whole", mode)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
