"""A server whose machine is lost goes on from its backup, and its institutions find it again."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from server.journal import JOURNAL
from tests.deployment.federation import CLIENT, SERVER, await_health, found, make_plan, tails, up
from tests.deployment.loopback import operate

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

ROUNDS, RUN, PATIENCE = 15, "first", 90.0


def kept(server: Path) -> list[dict[str, Any]]:
    journal = server / "runs" / RUN / JOURNAL
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event for event in events if event["event"] == "kept"]


def test_a_run_goes_on_from_the_backup_of_a_server_that_was_up(tmp_path: Path) -> None:
    federation, backup = found(tmp_path, make_plan(rounds=ROUNDS)), tmp_path / "backup"
    server, names = federation.server, federation.plan.names
    with up(*((CLIENT, federation.institution(name)) for name in names)):
        with up((SERVER, server)):
            await_health(federation)
            assert operate(server, "start", "--run", RUN).returncode == 0
            deadline = time.monotonic() + PATIENCE
            while len(kept(server)) < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert operate(server, "stop", RUN).returncode == 0
            while "finished stopped" not in operate(server, "status").stdout:
                assert time.monotonic() < deadline, tails(server)
            done = operate(server, "backup", backup)
            assert done.returncode == 0, done.stderr
        before = kept(server)
        assert 2 <= len(before) < ROUNDS
        server.rename(tmp_path / "lost")
        done = operate(server, "restore", backup)
        assert done.returncode == 0, done.stderr
        assert kept(server) == before
        with up((SERVER, server)):
            await_health(federation)
            resumed = operate(server, "resume", RUN, "--wait")
            assert resumed.returncode == 0, resumed.stderr + tails(server)
    after = kept(server)
    assert after[: len(before)] == before
    assert [event["round"] for event in after] == list(range(ROUNDS + 1))
    # The one that it was stopped in may be lost.
    assert sum(event["survivors"] != list(names) for event in after) <= 1
