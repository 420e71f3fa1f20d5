"""A network that is cut heals: the others go on, and who was cut off comes back."""

from pathlib import Path

import pytest

from client.cli import main
from tests.commands import invoke
from tests.deployment.cuts import stormy_plan, weather

pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

CUT_SECONDS, TIMEOUT = 10.0, 6.0
"""A cut outlasts every trip that it interrupts."""


def test_the_cut_come_back_while_the_others_go_on(tmp_path: Path) -> None:
    plan = stormy_plan(rounds=60, timeout=TIMEOUT)
    with weather(tmp_path, plan) as storm:
        storm.await_all(0)
        one = storm.cut(plan.names[:1], "reset", CUT_SECONDS)
        everybody = storm.cut(plan.names, "swallow", CUT_SECONDS)
        epochs = [event["epoch"] for event in storm.kept]
    assert one.rounds_of_others, one
    assert not everybody.rounds_of_others
    assert epochs == sorted(set(epochs)), "an epoch was used twice"
    for name in plan.names:
        verified = invoke(main, "ledger", "verify", tmp_path / name / "client.toml")
        assert verified.code == 0, verified.err
