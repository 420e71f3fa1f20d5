"""A flood of refusals costs a line a minute, and none of them is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import ConfigError, DiskError, PolicyError
from common.trail.events import Event, Opened, Refused, RefusedAgain
from common.trail.examination import read
from common.trail.file import files_of
from common.trail.folding import FOLD_SECONDS, Folding
from common.trail.interface import TEXT, Trail, Untold, refusals_noted
from tests.common.trail.logs import said, trail_at


class Later:
    """What waits for its minute."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, seconds: float, act: Callable[[], None]) -> None:
        assert seconds == FOLD_SECONDS
        self.waiting.append(act)

    def minute(self) -> None:
        due, self.waiting = self.waiting, []
        for act in due:
            act()


def refuse(trail: Trail, what: str = "update", because: str = "own words", times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ConfigError), refusals_noted(trail, what):
            raise ConfigError(because)


def events(home: Path) -> list[Event]:
    found = read(files_of(trail_at(home).folder))
    found.require_whole()
    return [line.event for line in found.lines[1:]]


def test_refusals_alike_are_one_line_at_once_and_one_a_minute(tmp_path: Path) -> None:
    later = Later()
    trail = Folding(later).onto(trail_at(tmp_path))
    first = Refused(what="update", told="failed", because="own words")
    again = RefusedAgain(what="update", told="failed", times=999)
    refuse(trail)
    assert events(tmp_path) == [first]
    # What the other side chose does not make them differ.
    for number in range(999):
        refuse(trail, because=f"run {number} is not known")
    assert events(tmp_path) == [first]
    later.minute()
    assert events(tmp_path) == [first, again]
    refuse(trail, times=2)
    later.minute()
    assert events(tmp_path) == [first, again, again.model_copy(update={"times": 2})]
    later.minute()
    assert not later.waiting, "nothing came for a minute"
    refuse(trail)
    assert events(tmp_path)[3:] == [first]


def test_what_differs_and_what_is_no_refusal_stands_at_once(tmp_path: Path) -> None:
    trail = Folding(Later()).onto(trail_at(tmp_path))
    refuse(trail)
    refuse(trail, what="join")
    with pytest.raises(PolicyError), refusals_noted(trail, "update"):
        raise PolicyError("own words")
    trail.append(said(1), said(1))
    assert [event.kind for event in events(tmp_path)] == ["refused"] * 3 + ["opened"] * 2
    assert isinstance(events(tmp_path)[-1], Opened)
    assert trail.head == trail_at(tmp_path).head


def test_a_count_that_cannot_be_written_is_kept(tmp_path: Path) -> None:
    later, full = Later(), [False]
    below = trail_at(tmp_path)

    class Full:
        head = b""

        def append(self, *events: Event) -> None:
            if full[0]:
                raise DiskError("no room")
            below.append(*events)

    trail = Folding(later).onto(Full())
    refuse(trail, times=3)
    full[0] = True
    later.minute()
    full[0] = False
    later.minute()
    assert events(tmp_path)[1:] == [RefusedAgain(what="update", told="failed", times=2)]


def test_a_first_refusal_that_could_not_be_written_is_tried_again(tmp_path: Path) -> None:
    trail = Folding(Later()).onto(trail_at(tmp_path))
    (tmp_path / "audit").write_bytes(b"in the way")
    refuse(trail)
    (tmp_path / "audit").unlink()
    refuse(trail)
    assert len(events(tmp_path)) == 1


def test_reasons_are_bounded(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    refuse(trail, what="w" * 2000, because="b" * 2000)
    (event,) = events(tmp_path)
    assert isinstance(event, Refused)
    assert (len(event.what), len(event.because)) == (TEXT, TEXT)


def test_a_simulation_folds_nothing() -> None:
    later, none = Later(), Untold()
    assert Folding(later).onto(none) is none
