"""Kill -9 of each kind of process, in the middle of a run of five institutions over TLS.

Eight of the 40 cases of `benchmarks/kill_matrix.py`, two in a run, on one federation; a killed
SuperNode stays away for a minute, so its case comes last.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.recovery import Standing, standing_of
from tests.deployment.matrix import THRESHOLD, VICTIM, Matrix, WrongSumsError, brought_up

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # Flower's own
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

SECONDS = 20.0
"""A trip: what an institution that dies costs."""

CHOSEN = {
    "two-servers": (("ServerApp", "join"), ("SuperLink", "mask")),
    "far-and-near": (("executor", "charge"), ("SuperLink", "checkpoint")),
    "near-and-far": (("ServerApp", "charge"), ("executor", "unmask")),
    "last-round": (("ServerApp", "opening"), ("SuperNode", "evaluation")),
}
"""Whom to kill when, two in each run."""


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    with brought_up(tmp_path_factory.mktemp("matrix"), SECONDS) as made:
        yield made


@pytest.mark.long
def test_a_stopped_run_waits_for_its_operator(matrix: Matrix) -> None:
    matrix.operate("start", "--run", "stopped")
    matrix.await_moment("stopped", "ServerApp", "checkpoint")
    matrix.operate("stop", "stopped")
    assert standing_of(matrix.tries("stopped"), matrix.out("stopped")) is Standing.WAITING
    assert "to go on: fedprune-server resume stopped" in matrix.operate("status").out
    matrix.operate("resume", "stopped")
    assert matrix.finish("stopped") == ""
    assert matrix.verify("stopped")[1] >= THRESHOLD
    assert "is complete" in matrix.refused("resume", "stopped")


@pytest.mark.long
def test_a_server_that_is_started_again_goes_on(matrix: Matrix) -> None:
    matrix.operate("start", "--run", "restarted")
    matrix.await_moment("restarted", "ServerApp", "checkpoint")
    matrix.restart()
    assert matrix.finish("restarted") == ""
    assert matrix.verify("restarted")[1] >= THRESHOLD


@pytest.mark.parametrize("run", CHOSEN)
def test_killed_in_the_middle_it_ends_with_the_right_sums(matrix: Matrix, run: str) -> None:
    ended = matrix.play(run, *CHOSEN[run])
    assert len(ended.lost) <= [process for process, _ in CHOSEN[run]].count("ServerApp")


def test_a_sum_of_others_would_be_noticed(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    (run, kills), *_ = CHOSEN.items()
    if not matrix.out(run).exists():
        matrix.play(run, *kills)
    matrix.verify(run)
    one_more = matrix.counts[VICTIM] + Counter([("validation", "age_band=30-44", "negatives")])
    monkeypatch.setitem(matrix.counts, VICTIM, one_more)
    with pytest.raises(WrongSumsError, match="round 1 is not the sum of its survivors"):
        matrix.verify(run)
