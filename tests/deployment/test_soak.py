"""The watch over long runs sees a leak that was planted, and none where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.deployment.soak import (
    BAR,
    MEBI,
    OWN,
    Sample,
    Soak,
    in_process,
    sample,
    slope_of,
    steepness,
)

ROUNDS = 60
LEAK = 256 << 10
"""Bytes a round: 25 times the bar."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")


@pytest.mark.parametrize("leaks", [False, True])
def test_a_planted_leak_is_found_and_nothing_else_grows_without_bound(
    tmp_path: Path, leaks: bool
) -> None:
    kept, opened = list[bytes](), list[int]()

    def leak() -> None:
        kept.append(os.urandom(LEAK))
        opened.append(os.open(os.devnull, os.O_RDONLY))

    try:
        soak = in_process(tmp_path / "federation", ROUNDS, every=2, leak=leak if leaks else int)
    finally:
        for handle in opened:
            os.close(handle)
    slope = soak.slopes[OWN]
    assert soak.rounds == ROUNDS + 1
    if leaks:
        assert slope.memory_mib > 0.8 * 100 * LEAK / MEBI
        assert slope.handles == pytest.approx(100)
    else:
        # So few rounds tell little of a process that other tests have filled before.
        assert slope.memory_mib < 10 * BAR
        assert slope.handles == 0
    growth = soak.growth
    assert growth["server: rounds.csv"] < 20_000
    assert growth["server: journal.jsonl"] < 200_000
    assert growth["server: audit/log.jsonl"] < 400_000
    assert growth["server: checkpoint.safetensors"] < 2_000
    assert not [kind for kind in growth if kind.endswith((".partial", "-wal"))]


def test_a_step_is_no_slope_and_a_leak_under_noise_is_one() -> None:
    step = [(number, 100 if number < 90 else 5000) for number in range(100)]
    assert steepness(step) == 0, "most pairs lie on one side of it"
    flat = [Sample(number, int(50 * MEBI) + (number % 7) * 4096, 10) for number in range(100)]
    assert abs(slope_of(flat).memory_mib) < 0.1
    grown = [Sample(one.round, one.resident + one.round * 20_000, 10) for one in flat]
    assert slope_of(grown).memory_mib == pytest.approx(100 * 20_000 / MEBI, rel=0.1)


def test_only_rounds_after_the_warm_up_count() -> None:
    soak = Soak(seconds=[0.1] * 30 + [0.3] * 70)
    filling = [Sample(number, min(number, 30) << 20, 5) for number in range(100)]
    soak.samples = {"one": filling, "two": filling[:2]}
    assert soak.slopes.keys() == {"one"}, "two samples show no slope"
    assert soak.slopes["one"].memory_mib == 0
    assert soak.slowing == pytest.approx(3.0)


def test_a_process_that_is_gone_is_not_sampled() -> None:
    child = subprocess.Popen((sys.executable, "-c", "pass"), cwd=ROOT)
    child.wait()
    with pytest.raises((ProcessLookupError, FileNotFoundError)):
        sample(0, child.pid)
    assert sample(0, os.getpid()).handles > 2
