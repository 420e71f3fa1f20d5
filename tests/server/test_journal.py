import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import ConfigError, DiskError
from server.journal import Journal, line_of

FIRST, SECOND, THIRD = (line_of({"event": event, "round": 1}) for event in ("a", "b", "c"))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return a journal of two lines."""
    opened = Journal(tmp_path / "journal")
    opened.append(FIRST)
    opened.append(SECOND)
    yield opened
    opened.close()


def recovered(path: Path, text: bytes, line: bytes = SECOND) -> list[str]:
    """Return the events of a file that holds ``text`` where ``line`` follows the first one."""
    path.write_bytes(text)
    opened = Journal(path)
    try:
        events = opened.recover(len(FIRST), hashlib.sha256(FIRST).hexdigest(), line)
        assert path.read_bytes() == b"".join(map(line_of, events))
        opened.append(THIRD)
        assert path.read_bytes().endswith(THIRD)
        return [event["event"] for event in events]
    finally:
        opened.close()


def test_lines_are_there_as_soon_as_they_are_appended(journal: Journal, tmp_path: Path) -> None:
    assert (tmp_path / "journal").read_bytes() == FIRST + SECOND
    assert journal.size == len(FIRST + SECOND)
    assert journal.digest() == hashlib.sha256(FIRST + SECOND).hexdigest()
    assert FIRST == b'{"event":"a","round":1}\n'


def test_one_process_at_a_time(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another process runs here: stop it first"):
        Journal(tmp_path / "journal")
    assert (tmp_path / "journal").read_bytes() == FIRST + SECOND


@pytest.mark.parametrize("torn", [0, 1, len(SECOND) - 1, len(SECOND)])
def test_a_line_that_was_not_written_whole_is_written_now(tmp_path: Path, torn: int) -> None:
    assert recovered(tmp_path / "journal", FIRST + SECOND[:torn]) == ["a", "b"]


@pytest.mark.parametrize("torn", [0, 1, len(THIRD) - 1])
def test_a_last_line_without_an_end_is_cut_off(tmp_path: Path, torn: int) -> None:
    assert recovered(tmp_path / "journal", FIRST + SECOND + THIRD[:torn]) == ["a", "b"]


def test_whole_lines_after_it_are_kept(tmp_path: Path) -> None:
    assert recovered(tmp_path / "journal", FIRST + SECOND + THIRD) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text", [b"", FIRST[:-1], FIRST.replace(b"1", b"2") + SECOND, FIRST + THIRD, SECOND + FIRST]
)
def test_another_file_is_refused_and_left_alone(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ConfigError, match="does not fit the checkpoint beside it"):
        recovered(tmp_path / "journal", text)
    assert (tmp_path / "journal").read_bytes() == text


@pytest.mark.parametrize("at", ["write", "halfway", "fsync"])
def test_a_full_disk_leaves_whole_lines(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    right = os.write

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if at == "halfway":
            patch.setattr(os, "write", lambda file, data: right(file, data[:5]))
        else:
            patch.setattr(os, at, full)
        with pytest.raises(DiskError, match=r"journal: cannot be written: [Nn]o .*: make room"):
            journal.append(THIRD)
    assert (tmp_path / "journal").read_bytes() == FIRST + SECOND
    journal.append(THIRD)
    assert (tmp_path / "journal").read_bytes() == FIRST + SECOND + THIRD
