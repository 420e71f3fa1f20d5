"""A real server whose executor dies or is stopped before any institution has come."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.plan import plan_from_dict
from server import control
from server.cli import main
from server.control import RunState
from server.desk import find_desk
from server.recovery import TRIES, Standing, standing_of, tries_of
from tests.commands import invoke
from tests.deployment.federation import (
    Federation,
    await_health,
    found,
    make_plan,
    processes_of,
    start_up,
    stop,
    tails,
    up,
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # Flower's own
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

JOIN_SECONDS = 600.0
"""What the runs here wait for institutions that do not come."""


@dataclass
class Server:
    """A server, of a federation whose institutions stay away, and its `up`."""

    federation: Federation
    running: list[subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    fields = make_plan().to_dict()
    fields["privacy"] |= {"epsilon": "none"}
    fields["aggregation"] |= {"timeout": JOIN_SECONDS}
    made = found(tmp_path_factory.mktemp("recovery"), plan_from_dict(fields))
    with up(("server.cli", made.server)) as started:
        await_health(made)
        yield Server(made, started)


@pytest.fixture
def home(server: Server) -> Path:
    return server.federation.server


def tries(home: Path, run: str) -> list[RunState]:
    desk = find_desk(home)
    control.await_superlink(desk)
    with control.at(desk) as superlink:
        return tries_of(control.runs(superlink)).get(run, [])


def await_tries(home: Path, run: str, number: int) -> None:
    """Wait until a run is at work for this time."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        found = tries(home, run)
        if len(found) == number and found[-1].status == control.RUNNING and has_begun(home, run):
            return
        time.sleep(0.1)
    raise AssertionError(f"{tries(home, run)}\n{tails(home)}")


def has_begun(home: Path, run: str) -> bool:
    path = home / "runs" / run / "journal.jsonl"
    return path.exists() and b'"began"' in path.read_bytes()


def executor(home: Path) -> int:
    (number,) = [
        int(number)
        for number in processes_of(home)
        if b"server.executor" in Path(f"/proc/{number}/cmdline").read_bytes()
    ]
    return number


def operate(home: Path, *arguments: object, code: int = 0) -> str:
    done = invoke(main, *arguments, "--home", home)
    assert done.code == code, done.err + tails(home)
    return done.out + done.err


def test_a_run_that_dies_again_and_again_waits(home: Path) -> None:
    operate(home, "start", "--run", "deadly")
    # The first finished nothing but its beginning, which is on the disk.
    for number in range(1, TRIES + 2):
        await_tries(home, "deadly", number)
        assert standing_of(tries(home, "deadly"), home / "runs" / "deadly") is Standing.GOING
        os.kill(executor(home), signal.SIGKILL)
    deadline = time.monotonic() + 90
    while "to go on: fedprune-server resume deadly" not in (told := operate(home, "status")):
        assert time.monotonic() < deadline, told + tails(home)
        time.sleep(0.5)
    assert len(tries(home, "deadly")) == TRIES + 1
    operate(home, "resume", "deadly")
    await_tries(home, "deadly", TRIES + 2)
    operate(home, "stop", "deadly")


def test_a_stopped_run_waits_for_its_operator(home: Path) -> None:
    operate(home, "start", "--run", "stopped")
    await_tries(home, "stopped", 1)
    assert "goes on: `fedprune-server stop stopped`" in operate(home, "resume", "stopped", code=3)
    operate(home, "stop", "stopped")
    assert standing_of(tries(home, "stopped"), home / "runs" / "stopped") is Standing.WAITING
    assert "to go on: fedprune-server resume stopped" in operate(home, "status")
    operate(home, "resume", "stopped")
    await_tries(home, "stopped", 2)
    operate(home, "stop", "stopped")
    assert len(tries(home, "deadly")) == TRIES + 2, "what was stopped stays so"


def test_a_server_that_is_stopped_and_started_again_goes_on(server: Server, home: Path) -> None:
    operate(home, "start", "--run", "restarted")
    await_tries(home, "restarted", 1)
    assert stop(server.running) == [0]
    server.running[:] = [start_up("server.cli", home)]
    await_health(server.federation)
    await_tries(home, "restarted", 2)
    operate(home, "stop")


@pytest.mark.parametrize("name", ["other", "../deadly", ""])
def test_what_is_no_run_is_not_resumed(home: Path, name: str) -> None:
    assert "is no run here" in operate(home, "resume", name, code=3)
