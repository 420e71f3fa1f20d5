import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.journal import JOURNAL
from server.live.watch import Runs
from simulations import execute as executing
from simulations import live
from simulations.cli import main
from simulations.live import shown
from tests.commands import Outcome, invoke, trial_file


def run(folder: Path, *options: object) -> Outcome:
    plan = trial_file(folder)
    return invoke(main, "run", plan, "--no-baselines", "--out", folder / "out", *options)


class Told:
    """Stands for the console, and keeps the address that is printed on it."""

    def __init__(self) -> None:
        self.address = ""

    def print(self, text: str, **_: object) -> None:
        self.address = text.removeprefix("live view: ")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    console = Told()
    monkeypatch.setattr(live, "errors", console)
    return console


def test_a_live_run_is_shown_while_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    seen: list[dict[str, Any]] = []
    watched = executing._watch

    def watch(*arguments: Any) -> Any:
        inner = watched(*arguments)

        def look(model: Any, report: Any) -> None:
            seen.append(httpx.get(f"{told.address}api/runs/out").json()["view"])
            inner(model, report)

        return look

    monkeypatch.setattr(executing, "_watch", watch)
    assert run(tmp_path, "--live").code == 0
    assert len(seen) == 5
    assert all(view["phase"] in ("began", "rounds") and view["simulated"] for view in seen)
    with pytest.raises(httpx.ConnectError):
        httpx.get(told.address)


def test_the_journal_of_a_live_run_says_who_was_in_its_sums(tmp_path: Path) -> None:
    assert run(tmp_path, "--live", "--json").code == 0
    runs = Runs(tmp_path / "out", single=True)
    look = runs.look("out")
    assert look is not None
    assert look.view["phase"] == "finished"
    assert look.view["unread"] == 0
    assert [one["rounds"] for one in look.view["institutions"]] == [5, 5, 5]
    model = (tmp_path / "out/model.safetensors").read_bytes()
    # The same seed without the page gives the same model, and no journal.
    assert run(tmp_path).code == 0
    assert not (tmp_path / "out" / JOURNAL).exists()
    assert (tmp_path / "out/model.safetensors").read_bytes() == model


def test_a_page_that_does_not_start_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    outcome = run(tmp_path, "--live")
    assert outcome.code == 1
    assert outcome.complaint == "the live view did not start: run without --live"


def test_the_page_ends_with_what_it_shows(tmp_path: Path, told: Told) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"auc": 0.7}))
    with pytest.raises(KeyError), shown(tmp_path):
        raise KeyError
    assert told.address.startswith("http://127.0.0.1:")
    with pytest.raises(httpx.ConnectError):
        httpx.get(told.address)
