import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from server import recovery
from server.control import FAILED, FINISHED, RUNNING, RunState
from server.recovery import (
    INTERRUPTED,
    NO_HEARTBEAT,
    TRIES,
    Standing,
    resume_interrupted,
    standing_of,
)

SAVED = datetime(2026, 7, 1, 12, tzinfo=UTC)
UNFINISHED = b'{"event":"began"}\n{"event":"kept"}\n'
DIED = f"{NO_HEARTBEAT} or so"


def a_try(
    status: str = FINISHED, outcome: str = FAILED, details: str = DIED, minutes: int = 1
) -> RunState:
    """Return a try that began so many minutes after the last finished round."""
    began = (SAVED + timedelta(minutes=minutes)).isoformat()
    return RunState(minutes, "first", status, outcome, details, began)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "first"
    home.mkdir()
    for name in ("plan.toml", "checkpoint.safetensors"):
        (home / name).touch()
    (home / "journal.jsonl").write_bytes(UNFINISHED)
    keep(home, SAVED)
    return home


def keep(home: Path, when: datetime) -> None:
    os.utime(home / "checkpoint.safetensors", (when.timestamp(),) * 2)


@pytest.mark.parametrize(
    ("last", "standing"),
    [
        (a_try(RUNNING, "", ""), Standing.GOING),
        (a_try("pending", "", ""), Standing.GOING),
        (a_try(outcome="completed", details=""), Standing.COMPLETED),
        (a_try(details=NO_HEARTBEAT), Standing.AGAIN),
        (a_try(details=f"{INTERRUPTED}the server was stopped"), Standing.AGAIN),
        (a_try(details="bank-03 did not join within 90 s"), Standing.WAITING),
        (a_try(outcome="stopped", details=""), Standing.WAITING),
        (a_try(outcome="stopped", details=NO_HEARTBEAT), Standing.WAITING),
    ],
)
def test_only_a_death_is_undone(folder: Path, last: RunState, standing: Standing) -> None:
    assert standing_of([last], folder) is standing


def test_the_record_knows_of_an_end_that_nobody_was_told(folder: Path) -> None:
    (folder / "journal.jsonl").write_bytes(UNFINISHED + b'{"event":"finished"}\n')
    assert standing_of([a_try()], folder) is Standing.COMPLETED
    (folder / "journal.jsonl").write_bytes(UNFINISHED + b'{"event":"finished"}')
    assert standing_of([a_try()], folder) is Standing.AGAIN, "half a line says nothing"


def test_a_run_that_gets_no_further_waits(folder: Path) -> None:
    tries = [a_try(minutes=number) for number in range(1, TRIES + 1)]
    assert standing_of(tries[:-1], folder) is Standing.AGAIN
    assert standing_of(tries, folder) is Standing.WAITING
    keep(folder, SAVED + timedelta(minutes=1, seconds=1))
    assert standing_of(tries, folder) is Standing.AGAIN, "it got further since the first"
    (folder / "checkpoint.safetensors").unlink()
    assert standing_of(tries, folder) is Standing.WAITING


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, object]]]:
    """Return what an executor that comes up asks of SuperLink, given the tries there were."""

    def told(folder: Path, *tries: RunState) -> list[tuple[str, object]]:
        said: list[tuple[str, object]] = []
        parts: dict[str, Any] = {
            "runs": lambda _: list(tries),
            "start_run": lambda _, name: said.append(("start", name)),
            "stop_run": lambda _, number: said.append(("stop", number)),
        }
        for name, part in parts.items():
            monkeypatch.setattr(recovery, name, part)
        resume_interrupted(cast(Any, None), folder)
        return said

    return told


Asked = Callable[..., list[tuple[str, object]]]


def test_an_executor_takes_up_what_the_one_before_left(folder: Path, asked: Asked) -> None:
    runs = folder.parent
    # SuperLink does not know yet that it died.
    assert asked(runs, a_try(RUNNING, "", "")) == [("start", "first"), ("stop", 1)]
    assert asked(runs, a_try()) == [("start", "first")]
    assert asked(runs, a_try("pending", "", "")) == [], "it is about to take this one"
    assert asked(runs, a_try(outcome="stopped", details="")) == []


def test_an_executor_gives_up_what_kills_it(folder: Path, asked: Asked) -> None:
    tries = [a_try(minutes=number) for number in range(1, TRIES)]
    assert asked(folder.parent, *tries, a_try(RUNNING, "", "", TRIES)) == [("stop", TRIES)]


def test_what_an_operator_stopped_meanwhile_stays_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [[a_try()], [a_try(outcome="stopped", details="")]]
    monkeypatch.setattr(recovery, "runs", lambda _: listed.pop(0))
    monkeypatch.setattr(recovery, "start_run", lambda *_: pytest.fail("it was stopped"))
    resume_interrupted(cast(Any, None), folder.parent)
    assert not listed


def test_an_executor_begins_nothing_else(folder: Path, asked: Asked) -> None:
    (folder / "plan.toml").unlink()
    assert asked(folder.parent, a_try()) == []
    assert asked(folder.parent, a_try(RUNNING, "", "")) == [("stop", 1)]
