import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from common.trail.events import Revoked, RunEnded
from server.journal import JOURNAL
from server.live.link import NOBODY, Answer, Link, processes
from server.live.view import Node, Process, Server, viewed
from server.live.watch import (
    GROUPS,
    MOST_WATCHED,
    PLAN,
    ROUNDS,
    SIMULATED,
    TICK_SECONDS,
    Look,
    Runs,
    RunWatch,
)
from tests.server.live.federations import HASH, RUN, Federation, simulated

NAMES = ("ash", "birch", "cedar", "elm")


class Clock:
    """Moves on by more than a tick whenever it is asked, unless it is held."""

    def __init__(self) -> None:
        self.now, self.held = 0.0, False

    def __call__(self) -> float:
        self.now += 0 if self.held else 2 * TICK_SECONDS
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spring(tmp_path: Path) -> Federation:
    return Federation(tmp_path, NAMES, rounds=20)


@pytest.fixture
def runs(spring: Federation, clock: Clock) -> Runs:
    return Runs(spring.home, clock)


def look(runs: Runs, name: str = "spring") -> Look:
    found = runs.look(name)
    assert found is not None
    return found


def states(view: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["state"], one["words"]) for one in view["institutions"]}


def test_a_run_is_followed_from_its_beginning_to_its_end(spring: Federation, runs: Runs) -> None:
    view = look(runs).view
    assert (view["phase"], view["stage"], view["done"]) == ("began", "institutions join", 0)
    assert states(view) == dict.fromkeys(NAMES, ("well", "arrived"))
    spring.ask()
    view = look(runs).view
    assert view["stage"] == "institutions train and send masked vectors"
    assert states(view) == dict.fromkeys(NAMES, ("working", "in round 0"))
    spring.end()
    view = look(runs).view
    assert (view["phase"], view["round"], view["done"]) == ("rounds", 0, 1)
    assert states(view) == dict.fromkeys(NAMES, ("well", "in the sum of round 0"))
    spring.go(2, without=["elm"])
    spring.refuse("elm")
    view = look(runs).view
    assert states(view)["elm"] == ("missing", "last in round 0")
    assert [one["rounds"] for one in view["institutions"]] == [3, 3, 3, 1]
    assert view["institutions"][3]["refusal"] == "budget"
    assert (view["refused"], view["refusals"][0]["who"]) == (1, "elm")
    assert view["audit"][0]["event"] == "was_refused"
    spring.go(18)
    spring.audit(Revoked(institution="elm", signing_public=HASH, signers=()))
    view = look(runs).view
    assert view["stage"] == "all rounds are over, results are being written"
    assert states(view)["elm"] == ("out", "revoked")
    spring.note("finished", round=21)
    view = look(runs).view
    assert (view["phase"], view["done"], view["rounds"]) == ("finished", 20, 20)
    assert len(look(runs).points) == 21
    assert json.loads(json.dumps(view, allow_nan=False)) == view


def test_how_a_run_failed_is_told_by_the_log_or_by_superlink(
    spring: Federation, runs: Runs
) -> None:
    spring.go(2)
    spring.audit(RunEnded(run=RUN, outcome="failed", error="2 rounds in a row"))
    view = look(runs).view
    assert (view["phase"], view["stage"]) == ("failed", "failed: 2 rounds in a row")
    pages = RunWatch(spring.folder).pages()
    assert viewed(pages, Server())["phase"] == "rounds"
    nodes = {"ash": Node("online", "2027-01-15T08:00:00Z"), "elm": Node("offline", "")}
    view = viewed(pages, Server(nodes=nodes, outcomes={"spring": "stopped"}))
    assert (view["phase"], view["stage"], view["connected"]) == ("stopped", "stopped", 1)
    assert [one["connection"] for one in view["institutions"]] == ["online", "", "", "offline"]


def test_versions_grow_with_changes_alone(spring: Federation, runs: Runs) -> None:
    spring.go(2)
    first = look(runs)
    assert look(runs) is first
    spring.go(1)
    second = look(runs)
    assert (second.version, second.generation) == (first.version + 1, first.generation)
    assert second.points[:2] == first.points


def test_files_are_looked_at_once_a_tick(spring: Federation, runs: Runs, clock: Clock) -> None:
    first = look(runs)
    clock.held = True
    spring.go(1)
    assert look(runs) is first
    clock.held = False
    assert look(runs) is not first


def test_another_run_in_the_same_directory_is_another_generation(
    spring: Federation, runs: Runs
) -> None:
    spring.go(5)
    first = look(runs)
    (spring.folder / JOURNAL).write_text('{"event":"began","run":"other"}\n')
    (spring.folder / ROUNDS).write_text("round,survivors\r\n0,4\r\n")
    second = look(runs)
    assert second.generation != first.generation
    assert [point[0] for point in second.points] == [0]
    assert second.view["counted"] == 0


def test_damaged_lines_are_counted_and_passed_over(spring: Federation, runs: Runs) -> None:
    spring.go(1)
    with (spring.folder / JOURNAL).open("ab") as file:
        file.write(b"nonsense\n" + b'{"event":"unknown"}\n')
    with (spring.home / "audit/log.jsonl").open("ab") as file:
        file.write(b"nonsense\n")
    spring.table.write("not,a,row\r\n")
    spring.go(1)
    view = look(runs).view
    assert (view["unread"], view["counted"], view["done"]) == (3, 2, 2)
    assert len(look(runs).points) == 2


def test_a_plan_that_cannot_be_read_is_told(spring: Federation, runs: Runs) -> None:
    (spring.folder / PLAN).write_text("name = ")
    view = look(runs).view
    assert view["plan"] is None
    assert "not readable as TOML" in view["problem"]
    (spring.folder / PLAN).write_text(spring.plan.to_toml())
    assert look(runs).view["plan"]["digest"] == spring.plan.digest()


def test_groups_are_shown(spring: Federation, runs: Runs) -> None:
    (spring.folder / GROUPS).write_text(
        'round,part,group,auc,auc_sd\r\n3,validation,"sex=f, m",0.7,0.02\r\n'
    )
    assert look(runs).view["groups"] == [
        {"round": 3, "part": "validation", "group": "sex=f, m", "auc": 0.7, "sd": 0.02}
    ]


def test_a_finished_simulation_is_shown_as_one(tmp_path: Path, clock: Clock) -> None:
    simulated(tmp_path)
    view = look(Runs(tmp_path, clock), "sim-seed0").view
    assert (view["simulated"], view["phase"], view["audited"]) == (True, "finished", False)
    assert (view["test"]["auc"], view["done"]) == (0.7712, 6)
    assert states(view)["ash"] == ("unknown", "nothing known")


def test_runs_are_listed_and_no_name_is_a_path(spring: Federation, runs: Runs) -> None:
    simulated(spring.home)
    (spring.home / "runs" / "empty").mkdir()
    listed = {one.name: one.over for one in runs.listed()}
    assert listed == {"spring": False, "sim-seed0": True}
    assert look(runs).view["audited"]
    assert not look(runs, "sim-seed0").view["audited"]
    for name in ("empty", "..", "../runs/spring", "", "spring/", str(spring.folder)):
        assert runs.look(name) is None


@pytest.mark.parametrize("single", [True, False])
def test_one_runs_own_directory_may_be_shown(
    spring: Federation, clock: Clock, single: bool
) -> None:
    if not single:
        spring.go(1)
    runs = Runs(spring.folder, clock, single=single)
    assert [one.name for one in runs.listed()] == ["spring"]
    assert look(runs).view["plan"]["institutions"] == 4


def test_a_folder_without_runs_has_none(tmp_path: Path) -> None:
    assert Runs(tmp_path).listed() == []
    assert Runs(tmp_path / "gone").listed() == []


def test_few_runs_are_held_in_memory(tmp_path: Path, clock: Clock) -> None:
    for number in range(MOST_WATCHED + 3):
        Federation(tmp_path, NAMES, 5, f"run{number}").go(1)
    runs = Runs(tmp_path, clock)
    first = look(runs, "run0")
    for number in range(MOST_WATCHED + 3):
        look(runs, f"run{number}")
    assert len(runs._watched) == MOST_WATCHED
    again = look(runs, "run0")
    assert again.points == first.points
    assert again.generation != first.generation  # It was read anew.


def test_a_directory_of_a_simulation_has_its_lock(tmp_path: Path) -> None:
    from simulations.directory import LOCK  # noqa: PLC0415

    assert SIMULATED == LOCK


def test_the_processes_of_up_are_told(tmp_path: Path) -> None:
    assert processes(tmp_path) == ()
    (tmp_path / "state").mkdir()
    note = {"superlink": {"process": None, "failures": 2, "started": 0.0}}
    (tmp_path / "state/processes.json").write_text(json.dumps(note))
    told = "does not run; ended early 2 times in a row"
    assert processes(tmp_path) == (Process("superlink", False, told),)


def test_superlink_is_asked_aside_and_only_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Answer({"ash": Node("online", "")}, {"spring": "failed"})
    asked = []

    def ask(home: Path) -> Answer:
        asked.append(home)
        return answer

    monkeypatch.setattr("server.live.link.ask", ask)
    times = itertools.count(step=1.0)
    link = Link(tmp_path, lambda: next(times))
    try:
        assert link.latest() == NOBODY
        assert asked == []
        (tmp_path / "state").mkdir()
        (tmp_path / "state/desk.json").touch()
        while link.latest() == NOBODY:
            pass
        assert link.latest() == answer
        (tmp_path / "state/desk.json").unlink()
        while link.latest() != NOBODY:
            pass
    finally:
        link.close()
