import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from client.app import build_app as build_client
from client.stages import Institution
from common.crypto.roster import Roster
from common.entropy import Entropy, SeededEntropy, Stream
from common.errors import ConfigError, DiskError
from common.plan import Plan
from server.app import Task, build_app
from server.journal import JOURNAL
from server.model import GlobalModel
from server.record import CHECKPOINT, RunRecord, is_finished
from server.report.page import write_report
from server.rounds import RoundReport, initial_model
from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from simulations.rehearsal import seeded_roster
from tests.support import roster_of, small_institution, small_plan

PLAN = small_plan(training={"rounds": 2})
FORMS = ["compact.safetensors", "model.onnx", "model.safetensors", "model.sparse"]


@pytest.fixture(autouse=True)
def _quick_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the timing of the finished model and what is told of it, which take seconds."""
    monkeypatch.setattr("server.store.latencies", lambda *_: {})
    monkeypatch.setattr("server.record.write_report", lambda _: None)
    monkeypatch.setattr("server.record.write_model_file", lambda _: None)


class Used:
    """Entropy that says which of the server's streams were asked for."""

    def __init__(self, seed: int = 0) -> None:
        self._entropy, self.labels = SeededEntropy(seed), list[str]()

    def stream(self, label: str) -> Stream:
        self.labels.append(label)
        return self._entropy.stream(label)


class Federation:
    """Institutions that outlast the server."""

    def __init__(self, plan: Plan = PLAN) -> None:
        self._members: dict[int, Institution] = {
            node: small_institution(plan, name)
            for node, name in enumerate(plan.names, start=SERVER_NODE + 1)
        }
        self._plan = plan

    def run(
        self, out: Path, entropy: Entropy, roster: Roster | None = None, dies: int | None = None
    ) -> list[RoundReport]:
        """Run the plan in ``out``, or go on with it; stop after a round if it is named."""
        reports: list[RoundReport] = []

        def configure(_: Context) -> Task:
            members = roster or roster_of(self._plan)
            record = RunRecord(out, self._plan, members)

            def keep(model: GlobalModel, report: RoundReport) -> None:
                record.keep(model, report)
                reports.append(report)
                if report.round == dies:
                    raise KeyboardInterrupt

            return Task(self._plan, keep, members, finish=record.finish, record=record)

        grid = InProcessGrid(
            build_client(lambda context: self._members[context.node_id]), self._members
        )
        build_app(configure, entropy)(grid, Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {}))
        return reports


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()]


def interrupted(out: Path, federation: Federation, after: int = 0) -> dict[str, bytes]:
    """Run up to a round and press Ctrl-C; return the files that lie there."""
    with pytest.raises(KeyboardInterrupt):
        federation.run(out, SeededEntropy(0), dies=after)
    return files(out)


def refusal(out: Path, plan: Plan = PLAN, roster: Roster | None = None) -> str:
    """Return why a directory is not gone on with, and check that nothing there is touched."""
    before = files(out)
    with pytest.raises(ConfigError) as caught:
        RunRecord(out, plan, roster or roster_of(plan))
    assert files(out) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_goes_on_to_the_same_model_and_draws_nothing_again(tmp_path: Path) -> None:
    first, again, whole = Used(), Used(seed=1), tmp_path / "whole"
    Federation().run(whole, first)
    assert first.labels == ["run", "initial-weights"]
    out, federation = tmp_path / "cut", Federation()
    before = interrupted(out, federation)
    assert [report.round for report in federation.run(out, again)] == [1, 2]
    assert again.labels == []
    ours, theirs = files(out), files(whole)
    assert {name: ours[name] for name in FORMS} == {name: theirs[name] for name in FORMS}
    assert ours["rounds.csv"].startswith(before["rounds.csv"])
    assert ours[JOURNAL].startswith(before[JOURNAL])
    assert {event["run"] for event in events(out)} == {events(whole)[0]["run"]}
    assert len(ours["rounds.csv"].splitlines()) == 1 + 3


def test_an_epoch_is_never_used_again(tmp_path: Path) -> None:
    federation = Federation()
    interrupted(tmp_path, federation, after=1)
    federation.run(tmp_path, SeededEntropy(0))
    tried = [event["epoch"] for event in events(tmp_path) if event["event"] == "tried"]
    # Keys of epoch 3 came with the vectors of epoch 2.
    assert tried == [1, 2, 4]


def test_an_epoch_of_a_request_that_is_still_under_way_is_left_out(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, PLAN, roster_of(PLAN))
    _, model = record.begin(lambda: ("run", _model()))
    record.note("tried", replace(model, epoch=30))
    record.close()
    record = RunRecord(tmp_path, PLAN, roster_of(PLAN))
    run, resumed = record.begin(_never)
    record.close()
    assert (run, resumed.round, resumed.epoch) == ("run", 0, 31)


def test_a_round_that_was_to_be_opened_is_lost(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, PLAN, roster_of(PLAN))
    _, model = record.begin(lambda: ("run", _model()))
    record.note("tried", replace(model, epoch=5))
    record.note("opening", replace(model, epoch=5))
    record.close()
    os.utime(tmp_path / CHECKPOINT, ns=(0, 1_000))
    for _ in range(2):
        record = RunRecord(tmp_path, PLAN, roster_of(PLAN))
        _, resumed = record.begin(_never)
        record.close()
        assert (resumed.round, resumed.epoch) == (1, 6)
        np.testing.assert_array_equal(resumed.weights, model.weights)
        rows = (tmp_path / "rounds.csv").read_text().splitlines()
        assert [row.split(",")[:3] for row in rows[1:]] == [["0", "5", "0"]]
        saved = (tmp_path / CHECKPOINT).stat().st_mtime_ns
        assert saved == 1_000, "a server that dies at every opening would go on for ever"


def test_a_run_that_died_before_its_forms_were_written_asks_nobody(tmp_path: Path) -> None:
    federation = Federation()
    federation.run(tmp_path, SeededEntropy(0))
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(b"".join(lines[:-1]))
    (tmp_path / "model.onnx").unlink()
    assert Federation(PLAN).run(tmp_path, SeededEntropy(0)) == []
    assert (tmp_path / "model.onnx").is_file()
    assert events(tmp_path)[-1]["event"] == "finished"


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    Federation().run(tmp_path, SeededEntropy(0))
    assert "holds the results of another run: name another directory" in refusal(tmp_path)


def test_a_model_or_journal_without_a_checkpoint_is_left_alone(tmp_path: Path) -> None:
    interrupted(tmp_path, Federation())
    (tmp_path / CHECKPOINT).unlink()
    assert "holds the results of another run" in refusal(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert "holds the results of another run" in refusal(tmp_path)


def test_another_plan_or_roster_is_refused_by_name(tmp_path: Path) -> None:
    interrupted(tmp_path, Federation())
    other = small_plan(training={"rounds": 3})
    told = refusal(tmp_path, other)
    assert PLAN.digest() in told
    assert other.digest() in told
    strangers = seeded_roster(PLAN.names, 1)
    assert "new names or keys" in refusal(tmp_path, roster=strangers)


def test_a_roster_that_only_revokes_goes_on(tmp_path: Path) -> None:
    plan = small_plan(training={"rounds": 2}, aggregation={"threshold": 3, "colluders": 0})
    federation = Federation(plan)
    interrupted(tmp_path, federation)
    reports = federation.run(tmp_path, SeededEntropy(0), roster_of(plan).without("elm"))
    assert [report.survivors for report in reports] == [("ash", "birch", "cedar")] * 2


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda out: _flip(out / CHECKPOINT, 700), "altered or damaged"),
        (lambda out: _flip(out / CHECKPOINT, -1), "altered or damaged"),
        (lambda out: _flip(out / JOURNAL, 30), "does not fit the checkpoint"),
        (lambda out: (out / JOURNAL).unlink(), "does not fit the checkpoint"),
    ],
)
def test_what_was_altered_is_refused_by_name(
    tmp_path: Path, damage: Callable[[Path], None], problem: str
) -> None:
    interrupted(tmp_path, Federation())
    damage(tmp_path)
    (tmp_path / JOURNAL).touch()
    assert problem in refusal(tmp_path)


def test_a_checkpoint_older_than_its_journal_is_refused(tmp_path: Path) -> None:
    federation = Federation()
    old = interrupted(tmp_path, federation)[CHECKPOINT]
    interrupted(tmp_path, federation, after=1)
    (tmp_path / CHECKPOINT).write_bytes(old)
    assert "is older than the journal beside it" in refusal(tmp_path)


def test_two_processes_never_share_a_run(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, PLAN, roster_of(PLAN))
    try:
        assert "another process runs here" in refusal(tmp_path)
    finally:
        record.close()


def test_a_full_disk_is_one_line_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, whole = small_plan(training={"rounds": 1}), tmp_path / "whole"
    Federation(plan).run(whole, SeededEntropy(0))
    for fatal in count(1):
        out, federation, told = tmp_path / str(fatal), Federation(plan), ""
        with monkeypatch.context() as patch:
            met = _disk_full(patch, fatal)
            try:
                federation.run(out, SeededEntropy(0))
            except DiskError as error:
                told = str(error)
        if not met:
            break
        assert "No space left on device: make room" in told
        assert "\n" not in told
        assert not list(out.glob("*.partial"))
        federation.run(out, SeededEntropy(0))
        kept = [event for event in events(out) if event["event"] == "kept"]
        assert [event["round"] for event in kept] == [0, 1]
        lost = [event["round"] for event in kept if not event["survivors"]]
        assert len(lost) <= 1
        if not lost:
            assert files(out)["model.safetensors"] == files(whole)["model.safetensors"]
    assert not told
    assert fatal > 25


def _disk_full(monkeypatch: pytest.MonkeyPatch, fatal: int) -> list[int]:
    """Fill the disk at the write of this number; return a list that then holds it."""
    writes, met = count(1), list[int]()

    def full(file: int) -> None:
        if (number := next(writes)) >= fatal and not met:
            met.append(number)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    return met


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def _model() -> GlobalModel:
    return initial_model(PLAN, SeededEntropy(0).stream("initial-weights"))


def _never() -> tuple[str, GlobalModel]:
    raise AssertionError("a run that began must not be drawn again")


def test_a_run_ends_with_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.record.write_report", write_report)
    Federation().run(tmp_path, SeededEntropy(0))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "A federated run: 4 institutions, 2 of 2 rounds" in page
    assert "Rounds by institution" in page


@pytest.mark.parametrize("what", ["report", "model_file"])
def test_a_page_that_fails_takes_no_run_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    def fail(directory: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(f"server.record.write_{what}", fail)
    Federation().run(tmp_path, SeededEntropy(0))
    assert is_finished(tmp_path)
    assert f"the {what.replace('_', ' ')} could not be written" in caplog.text
