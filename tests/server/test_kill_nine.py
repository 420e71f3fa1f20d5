"""No kill -9 of the server costs more than the one round whose opening it had asked for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from server import record, store
from server.record import RunRecord
from tests.server.kill_nine import Observed, harness_plan, perform, require_whole

RECORD = cast(Any, RunRecord)
"""What the broken ones change, in their own process alone."""

FEWEST_POINTS = 30


def killed_everywhere(folder: Path, kind: str, step: int) -> list[Observed]:
    """Return what was seen for each point, until there is none to be killed at any more."""
    seen: list[Observed] = []
    while not seen or seen[-1].kills:
        fatal = 1 + len(seen) * step
        seen.append(perform(folder / str(fatal), fatal, kind=kind))
        require_whole(folder / str(fatal), seen[-1], harness_plan(kind))
    return seen


@pytest.mark.parametrize(("kind", "step"), [("secure", 1), ("plain", 4)])
def test_killed_at_any_point_the_run_goes_on_to_the_same_end(
    tmp_path: Path, kind: str, step: int
) -> None:
    *killed, undisturbed = killed_everywhere(tmp_path, kind, step)
    assert len(killed) * step > FEWEST_POINTS
    assert undisturbed.lost == []
    whole = [observed for observed in killed if not observed.lost]
    assert {observed.model for observed in whole} == {undisturbed.model}
    lost = [observed.lost for observed in killed if observed.lost]
    if kind == "plain":
        assert not lost
    else:
        assert {tuple(rounds) for rounds in lost} == {(0,), (1,)}
        assert len(lost) < len(killed) / 3


def note_nothing() -> None:
    """Ask for openings without a word."""
    RECORD.note = lambda self, step, model: None


def draw_anew() -> None:
    """Forget which run it was, but for its model."""
    right = RECORD.begin

    def begin(self: RunRecord, fresh: Callable[[], Any]) -> tuple[str, Any]:
        known, model = right(self, fresh)
        return (known if self._saved is None else "f" * 32), model

    RECORD.begin = begin


def write_in_place() -> None:
    """Write over the only checkpoint."""

    def in_place(path: Path, data: bytes) -> None:
        half = len(data) // 2
        path.write_bytes(data[:half])
        path.replace(path)  # Where the harness kills.
        path.write_bytes(data)

    for module in (record, store):
        cast(Any, module).write_atomically = in_place


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (note_nothing, "went further than this record"),
        (draw_anew, "another run began"),
        (write_in_place, "altered or damaged"),
    ],
)
def test_a_server_that_does_it_wrong_is_found_out(
    tmp_path: Path, broken: Callable[[], None], found: str
) -> None:
    def faults() -> Iterator[str]:
        for fatal in range(8, 40, 2):
            folder = tmp_path / str(fatal)
            try:
                require_whole(folder, perform(folder, fatal, broken), harness_plan())
            except AssertionError as error:
                yield str(error)

    assert any(found in fault for fault in faults())
