from pathlib import Path

from common.trail.events import Opened
from common.trail.file import FOLDER
from common.trail.following import Follower
from common.trail.lines import Line
from tests.common.trail.logs import said, trail_at


def rounds(lines: list[Line]) -> list[int]:
    return [line.event.round for line in lines if isinstance(line.event, Opened)]


def test_each_line_comes_once_in_order_and_through_rotations(tmp_path: Path) -> None:
    trail, follower = trail_at(tmp_path, rotate_bytes=2_000), Follower(tmp_path / FOLDER)
    assert list(follower.new()) == [], "there is no log yet"
    trail.append(said(0))
    seen = rounds(list(follower.new()))
    for number in range(1, 40):
        trail.append(said(number))
        if number % 7 == 0:
            seen += rounds(list(follower.new()))
    assert len(list((tmp_path / FOLDER).glob("log-*.jsonl"))) > 5
    seen += rounds(list(follower.new()))
    assert seen == list(range(40))
    assert list(follower.new()) == []


def test_a_late_follower_begins_with_the_file_before_the_current_one(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    for number in range(4):
        trail.append(said(number))
        trail.rotate()
    trail.append(said(4))
    follower = Follower(tmp_path / FOLDER)
    assert rounds(list(follower.new())) == [3, 4]
    trail.append(said(5))
    assert rounds(list(follower.new())) == [5]


def test_a_line_half_written_waits_and_one_that_is_none_is_passed_over(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(0))
    file = tmp_path / FOLDER / "log.jsonl"
    whole = file.read_bytes()
    trail.append(said(1))
    later = file.read_bytes()[len(whole) :]
    file.write_bytes(whole + later[:-9])
    follower = Follower(tmp_path / FOLDER)
    assert rounds(list(follower.new())) == [0]
    file.write_bytes(whole + later + b"no line\n")
    assert rounds(list(follower.new())) == [1]
    assert list(follower.new()) == []
