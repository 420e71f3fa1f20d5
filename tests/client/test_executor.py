import os
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from client import executor
from client.executor import Approved, Executor
from common.errors import ConfigError


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
