"""A flood of refusals costs a line a minute, and none of them is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.entropy import SeededEntropy
from common.errors import ConfigError, DiskError, PolicyError
from common.trail.counts import FOLD_SECONDS
from common.trail.events import (
    Event,
    Opened,
    Refused,
    RefusedAgain,
    RunEnded,
    WasRefused,
    WasRefusedAgain,
)
from common.trail.examination import read
from common.trail.file import FOLDER, FileTrail, files_of
from common.trail.folding import Folding
from common.trail.interface import TEXT, Trail, Untold, refusals_noted
from common.trail.lines import Author
from common.trail.refusals import TrailError
from tests.common.trail.logs import NOON, said, trail_at

FIRST = Refused(what="update", told="failed", because="own words")
ENDED = RunEnded(run="run", outcome="finished", error="")


class Process:
    """A process that writes to a log: its clock, and what waits for its minute."""

    def __init__(self, home: Path, now: float = NOON) -> None:
        self.now, self.waiting = now, list[Callable[[], None]]()
        stream = SeededEntropy(0, "ash").stream("audit")
        author = Author("institution", "ash")
        self.file = FileTrail(home / FOLDER, author, stream, lambda: self.now)
        self.trail = Folding(self.later).onto(self.file)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        assert seconds == FOLD_SECONDS
        self.waiting.append(act)

    def minute(self) -> None:
        self.now += FOLD_SECONDS
        due, self.waiting = self.waiting, []
        for act in due:
            act()


def refuse(trail: Trail, what: str = "update", because: str = "own words", times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ConfigError), refusals_noted(trail, what):
            raise ConfigError(because)


def heard(told: str = "privacy budget", name: str = "ash") -> WasRefused:
    return WasRefused(institution=name, what="update", told=told)


def again(times: int) -> RefusedAgain:
    return RefusedAgain(what="update", told="failed", times=times)


def events(home: Path) -> list[Event]:
    found = read(files_of(trail_at(home).folder))
    found.require_whole()
    return [line.event for line in found.lines[1:]]


def test_refusals_alike_are_one_line_at_once_and_one_a_minute(tmp_path: Path) -> None:
    process = Process(tmp_path)
    refuse(process.trail)
    assert events(tmp_path) == [FIRST]
    # What the other side chose does not make them differ.
    for number in range(99):
        refuse(process.trail, because=f"run {number} is not known")
    assert events(tmp_path) == [FIRST]
    process.minute()
    assert events(tmp_path) == [FIRST, again(99)]
    refuse(process.trail, times=2)
    process.minute()
    assert events(tmp_path) == [FIRST, again(99), again(2)]
    process.minute()
    assert not process.waiting, "nothing came for a minute"
    refuse(process.trail)
    assert events(tmp_path)[3:] == [FIRST]


def test_a_flood_of_ten_thousand_makes_few_lines_whatever_it_says(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for number in range(5000):
        process.trail.append(heard(), heard(f"nobody knows {number}"))
        process.now += 0.02
    process.trail.append(ENDED)
    told = events(tmp_path)
    assert len(told) < 10
    # Each reason that nobody knows is like the next; the first of them stands there.
    assert told[:2] == [heard(), heard("nobody knows 0")]
    counted = {"privacy budget": 1, "other": 1}
    for event in told[2:-1]:
        assert isinstance(event, WasRefusedAgain)
        assert event.institution == "ash"
        counted[event.told] += event.times
    assert counted == {"privacy budget": 5000, "other": 5000}
    assert told[-1] == ENDED


def test_what_differs_and_what_is_no_refusal_stands_at_once(tmp_path: Path) -> None:
    trail = Process(tmp_path).trail
    refuse(trail)
    refuse(trail, what="join")
    with pytest.raises(PolicyError), refusals_noted(trail, "update"):
        raise PolicyError("own words")
    trail.append(heard(), heard(name="birch"), said(1), said(1))
    kinds = [event.kind for event in events(tmp_path)]
    assert kinds == ["refused"] * 3 + ["was_refused"] * 2 + ["opened"] * 2
    assert isinstance(events(tmp_path)[-1], Opened)
    assert trail.head == trail_at(tmp_path).head


def test_what_people_refuse_is_not_folded(tmp_path: Path) -> None:
    refuse(Process(tmp_path).file, times=3)
    assert events(tmp_path) == [FIRST] * 3


def test_no_count_ends_with_its_process(tmp_path: Path) -> None:
    process = Process(tmp_path)
    refuse(process.trail, times=5)
    assert events(tmp_path) == [FIRST]
    # Killed: nothing was told. Whoever writes next tells it, once its minute is over.
    follower = Process(tmp_path, process.now + 30)
    refuse(follower.trail, times=2)
    assert events(tmp_path) == [FIRST]
    follower.now += 30
    follower.file.append(said(1))
    assert events(tmp_path) == [FIRST, again(6), said(1)]
    # Nor with its run, whose end tells all.
    refuse(follower.trail, times=3)
    follower.trail.append(ENDED)
    assert events(tmp_path)[3:] == [again(3), ENDED]
    refuse(follower.trail)
    assert events(tmp_path)[5:] == [FIRST]


def test_a_clock_that_was_set_back_keeps_no_count_waiting(tmp_path: Path) -> None:
    process = Process(tmp_path)
    refuse(process.trail, times=2)
    process.now -= 10_000
    process.file.append(said(1))
    assert events(tmp_path) == [FIRST, again(1), said(1)]


def test_a_count_that_cannot_be_written_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tmp_path)
    refuse(process.trail, times=3)

    def full(*_: object) -> None:
        raise DiskError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(FileTrail, "_add", full)
        process.minute()
    process.minute()
    assert events(tmp_path)[1:] == [again(2)]


def test_a_first_refusal_that_could_not_be_written_is_tried_again(tmp_path: Path) -> None:
    trail = Process(tmp_path).trail
    (tmp_path / "audit").write_bytes(b"in the way")
    refuse(trail)
    (tmp_path / "audit").unlink()
    refuse(trail)
    assert len(events(tmp_path)) == 1


def test_counts_that_were_altered_stop_the_log(tmp_path: Path) -> None:
    process = Process(tmp_path)
    refuse(process.trail, times=2)
    for damage in (b"", b"{}", b'[{"kind": 1}]', b"\xff"):
        (tmp_path / "audit" / "counts").write_bytes(damage)
        with pytest.raises(TrailError, match="file of counts was altered: remove it"):
            process.file.append(said(1))
    assert events(tmp_path) == [FIRST]


def test_reasons_are_bounded(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    refuse(trail, what="w" * 2000, because="b" * 2000)
    (event,) = events(tmp_path)
    assert isinstance(event, Refused)
    assert (len(event.what), len(event.because)) == (TEXT, TEXT)


def test_a_simulation_folds_nothing() -> None:
    none = Untold()
    assert Folding().onto(none) is none
