import os
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from client import executor
from client.consent import PIN
from client.executor import AGAIN_SECONDS, Approved, Executor, Watch
from common.errors import ConfigError, DataError
from common.processes import Presence, is_present
from common.timings import Timings, read_tally


def opened(path: Path) -> Any:
    if (text := path.read_text()) == "bad":
        raise ConfigError("no approved plan")
    return "".join(text)  # Another object each time.


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(executor, "load_institution", opened)
    path = tmp_path / "client.toml"
    path.write_text("first")
    return path


def change(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))


def test_an_institution_is_opened_once_until_its_file_changes(file: Path) -> None:
    approved = Approved(file)
    first = approved()
    assert approved() is first
    change(file, "second")
    assert str(approved()) == "second"


def test_what_was_approved_before_does_not_outlive_a_file_that_approves_nothing(
    file: Path,
) -> None:
    approved = Approved(file)
    approved()
    change(file, "bad")
    for _ in range(2):
        with pytest.raises(ConfigError):
            approved()
    change(file, "third")
    assert str(approved()) == "third"


def test_a_new_approval_counts_though_the_file_stays(file: Path) -> None:
    approved = Approved(file)
    first = approved()
    pin = file.with_name(PIN)
    pin.write_text("approved")
    file.write_text("other")
    os.utime(file, ns=(0, approved.changed[0]))
    assert str(approved()) == "other"
    assert approved() is not first
    change(pin, "approved again")
    second = approved()
    pin.unlink()
    assert approved() is not second


class Opened:
    """An institution whose table may be away."""

    def __init__(self, text: str) -> None:
        self.text, self.train = text, range(3)

    @property
    def splits(self) -> "Opened":
        if self.text == "away":
            raise DataError("the database is away")
        return self


def test_readiness_is_told_and_taken_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = [0.0], list[str]()

    def open_again(path: Path) -> Any:
        looks.append(opened(path))
        return Opened(looks[-1])

    monkeypatch.setattr(executor, "load_institution", open_again)
    there = file.with_name("executor")
    file.write_text("away")
    watch = Watch(Approved(file), Presence(there), lambda seconds: None, lambda: now[0])
    assert not is_present(there)
    watch(0.5)
    assert looks == ["away"], "a database that is away is not asked all the time"
    change(file, "here")
    watch(0.5)
    assert is_present(there)
    now[0] += 2 * AGAIN_SECONDS
    watch(0.5)
    assert looks == ["away", "here"]
    change(file, "bad")
    watch(0.5)
    assert not is_present(there)
    file.write_text("here again")
    os.utime(file, ns=(0, 1))
    watch(0.5)
    assert is_present(there)
    file.unlink()
    watch(0.5)
    assert not is_present(there), "nothing can be opened without the file"


def test_what_was_away_is_looked_for_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, there = [0.0], file.with_name("executor")
    one = Opened("away")
    monkeypatch.setattr(executor, "load_institution", lambda path: one)
    watch = Watch(Approved(file), Presence(there), lambda seconds: None, lambda: now[0])
    one.text = "back"
    watch(0.5)
    assert not is_present(there)
    now[0] += AGAIN_SECONDS
    watch(0.5)
    assert is_present(there)


@pytest.mark.parametrize("name", ["consent.json", "plan.toml", "roster.json", "keys.json"])
def test_what_is_approved_counts_without_a_restart(file: Path, name: str) -> None:
    beside = file.with_name(name)
    beside.write_text("")
    approved = Approved(file)
    first = approved()
    change(beside, "")
    assert approved() is not first
    second = approved()
    assert approved() is second
    beside.unlink()
    assert approved() is not second


def test_an_exceptions_text_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, part, 1)
    app = ClientApp()

    @app.query()
    def answer(message: Message, context: Context) -> Message:
        raise ValueError("a customer's name")

    message = Message(RecordDict(), 1, "query")
    context = Context(1, 1, {}, RecordDict(), {})
    serving = Executor("127.0.0.1:1", b"secret", app)
    for sent in (message, Message(RecordDict(), 1, "train.unknown")):
        assert serving.answer(sent, context).error.reason == "refused"


def test_an_answer_is_timed_and_counted_by_its_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, part, 1)
    serving = Executor("127.0.0.1:1", b"secret", ClientApp(), Timings(tmp_path))
    for kind in ("train.update", "train.unknown", "query"):
        message = Message(RecordDict(), 1, kind)
        serving.answer(message, Context(1, 1, {}, RecordDict(), {}))
    tally = read_tally(tmp_path)
    assert tally.stages.keys() == {"update"}
    assert min(tally.received, tally.sent) > 0
