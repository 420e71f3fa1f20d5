from pathlib import Path

import pytest

from server.live.tail import PIECE_BYTES, Fresh, Tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def test_lines_come_once_and_whole(path: Path) -> None:
    tail = Tail(path)
    assert tail.read() == Fresh([])
    path.write_bytes(b"one\ntwo\nthr")
    assert tail.read() == Fresh([b"one", b"two"])
    assert tail.read() == Fresh([])
    with path.open("ab") as file:
        file.write(b"ee\n")
    assert tail.read() == Fresh([b"three"])


def test_a_file_replaced_by_a_longer_one_goes_on(path: Path) -> None:
    tail = Tail(path)
    path.write_bytes(b"one\n")
    tail.read()
    partial = path.with_suffix(".partial")
    partial.write_bytes(b"one\ntwo\n")
    partial.replace(path)
    assert tail.read() == Fresh([b"two"])


@pytest.mark.parametrize("other", [b"", b"six\n", b"six\nseven\neight\n"])
def test_another_file_is_read_from_its_beginning(path: Path, other: bytes) -> None:
    tail = Tail(path)
    path.write_bytes(b"one\ntwo\n")
    tail.read()
    path.write_bytes(other)
    assert tail.read() == Fresh(other.splitlines(), again=True)


def test_a_file_that_is_gone_is_told_once(path: Path) -> None:
    tail = Tail(path)
    path.write_bytes(b"one\n")
    tail.read()
    path.unlink()
    assert tail.read() == Fresh([], again=True)
    assert tail.read() == Fresh([])


def test_the_end_alone_is_read_of_a_long_file(path: Path) -> None:
    path.write_bytes(b"".join(b"line %04d\n" % number for number in range(1000)))
    assert Tail(path, last=25).read().lines == [b"line 0998", b"line 0999"]
    assert Tail(path, last=10_000).read().lines[0] == b"line 0000"


def test_a_look_reads_a_bounded_piece(path: Path) -> None:
    row = b"x" * 99 + b"\n"
    path.write_bytes(row * (2 * PIECE_BYTES // len(row)))
    tail = Tail(path)
    first = tail.read().lines
    assert len(first) == PIECE_BYTES // len(row)
    rest = 0
    while lines := tail.read().lines:
        assert len(lines) <= len(first)
        rest += len(lines)
    assert len(first) + rest == 2 * PIECE_BYTES // len(row)


def test_a_line_without_an_end_in_sight_is_passed_over(path: Path) -> None:
    path.write_bytes(b"x" * (PIECE_BYTES + 10) + b"\nnext\n")
    tail = Tail(path)
    assert len(tail.read().lines) == 1
    assert tail.read().lines == [b"x" * 10, b"next"]
