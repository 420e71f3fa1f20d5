import multiprocessing
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from threading import Timer

import pytest

from common.errors import AggregationError, ConfigError
from simulations import campaign
from simulations.campaign import CELLS, CellStore, Failure, Results, finish, here, runner_of
from simulations.cells import Cell, Outcome, execute_cell
from simulations.inputs import Federation
from tests.commands import trial_plan


@pytest.fixture
def cells(federation: Federation) -> dict[str, Cell]:
    plan = trial_plan(training={"rounds": 1})
    return {f"{seed}": Cell((plan,), federation.splits, seed) for seed in range(3)}


def nothing_run(cells: Mapping[str, Cell]) -> Results:
    if cells:
        raise AssertionError(f"cells were run again: {list(cells)}")
    yield from ()


def files(directory: Path) -> set[str]:
    return {path.name for path in (directory / CELLS).iterdir()}


@pytest.mark.usefixtures("terminal")
def test_finished_cells_are_kept_and_not_run_again(
    cells: dict[str, Cell], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = finish(cells, CellStore(tmp_path), here, "compared")
    assert files(tmp_path) == {"0.json", "1.json", "2.json"}
    assert finish(cells, CellStore(tmp_path), nothing_run, "compared") == first
    assert len({found.test for found in first.values() if isinstance(found, Outcome)}) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("3/3") == 2
    # Negative control: forgotten cells are run again.
    with pytest.raises(AssertionError, match="run again"):
        finish(cells, CellStore(tmp_path, fresh=True), nothing_run, "compared")
    assert files(tmp_path) == set()


def test_interrupted_campaign_goes_on_where_it_stopped(
    cells: dict[str, Cell], tmp_path: Path
) -> None:
    def pressed(cells: Mapping[str, Cell]) -> Results:
        running = here(cells)
        yield next(running)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish(cells, CellStore(tmp_path), pressed, "compared")
    assert files(tmp_path) == {"0.json"}
    # A kill while writing leaves a partial file, which counts for nothing.
    (tmp_path / CELLS / "1.json.partial").write_text('{"weights"')
    run: list[str] = []

    def watched(cells: Mapping[str, Cell]) -> Results:
        run.extend(cells)
        yield from here(cells)

    resumed = finish(cells, CellStore(tmp_path), watched, "compared")
    assert run == ["1", "2"]
    assert resumed == finish(cells, CellStore(tmp_path, fresh=True), here, "compared")


def test_error_of_a_cell_is_its_own(
    cells: dict[str, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def broken(cell: Cell, engine: str) -> Outcome:
        if cell.seed == 0:
            raise AggregationError("the model has diverged: lower training.learning_rate")
        if cell.seed == 1:
            raise ZeroDivisionError("of a record: 7")
        return execute_cell(cell, engine)

    monkeypatch.setattr(campaign, "execute_cell", broken)
    results = finish(cells, CellStore(tmp_path), here, "compared")
    assert results["0"] == Failure("the model has diverged: lower training.learning_rate")
    # What is unforeseen is named by its type: its text may hold anything.
    assert results["1"] == Failure("unexpected ZeroDivisionError")
    assert isinstance(results["2"], Outcome)
    assert files(tmp_path) == {"2.json"}
    monkeypatch.undo()
    again = finish(cells, CellStore(tmp_path), here, "compared")
    assert all(isinstance(found, Outcome) for found in again.values())


def test_damaged_cell_is_named(cells: dict[str, Cell], tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    (tmp_path / CELLS / "1.json").write_text('{"weights": 3}')
    with pytest.raises(ConfigError, match=r"1\.json: is no finished cell: remove it, or start"):
        finish(cells, store, here, "compared")


def test_processes_find_what_one_process_finds(cells: dict[str, Cell], tmp_path: Path) -> None:
    alone = finish(cells, CellStore(tmp_path), here, "compared")
    assert runner_of(1) is here
    broken = cells | {"x": Cell((trial_plan(training={"rounds": 1}),), {}, 0)}
    several = finish(broken, CellStore(tmp_path, fresh=True), runner_of(2), "compared")
    assert several.pop("x") == Failure("unexpected KeyError")
    assert several == alone
    assert multiprocessing.active_children() == []


def test_ctrl_c_ends_the_processes(cells: dict[str, Cell], tmp_path: Path) -> None:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    # Workers take seconds to import what they need: this comes before any cell is done.
    press = Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    try:
        press.start()
        with pytest.raises(KeyboardInterrupt):
            finish(cells, CellStore(tmp_path), runner_of(2), "compared")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        press.cancel()
        signal.signal(signal.SIGINT, previous)
    assert multiprocessing.active_children() == []
    assert files(tmp_path) == set()


def test_an_engine_that_spreads_a_run_is_started_once_at_a_time() -> None:
    with pytest.raises(ConfigError, match="--jobs 2 would start engine 'ray' as often"):
        runner_of(2, "ray")
    assert runner_of(1, "ray") is not runner_of(1)
