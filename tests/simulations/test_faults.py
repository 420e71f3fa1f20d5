"""A thousand ways for a network and its parties to fail, and the same code in the bench."""

import logging
from collections import Counter
from typing import Any

import numpy as np
import pytest

from client import stages
from common.crypto import opening
from common.crypto.opening import Opened
from simulations import faults
from simulations.faults import FAULTS, ViolationError, play, require_undetermined

BATCHES, BATCH = 10, 100


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("fedprune").setLevel(logging.CRITICAL)


def play_all(seeds: int) -> None:
    for seed in range(seeds):
        play(seed)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_schedule_ends_in_right_sums_or_a_named_abort(batch: int) -> None:
    met: Counter[str] = Counter()
    opened = 0
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        outcome = play(seed)
        assert outcome.opened + outcome.lost > 0 or outcome.abort
        met += outcome.faults
        opened += outcome.opened
    assert set(met) >= set(FAULTS)
    assert opened > BATCH


def test_a_schedule_is_reproduced_by_its_seed() -> None:
    assert play(5) == play(5)
    assert play(5) != play(6)


def test_a_wrong_sum_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = opening.unmask

    def wrong(*arguments: Any) -> Opened:
        opened = right(*arguments)
        return Opened(opened.total ^ np.uint32(1), opened.culprits)

    monkeypatch.setattr(opening, "unmask", wrong)
    with pytest.raises(ViolationError, match="sum of"):
        play_all(10)


def test_a_hang_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "MOST_CALLS", 3)
    with pytest.raises(ViolationError, match="hang"):
        play_all(10)


def test_a_second_opening_of_an_epoch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = stages.unmask

    def forgetful(institution: Any, memory: Any, request: Any) -> Any:
        return memory, right(institution, memory, request)[1]

    monkeypatch.setattr(stages, "unmask", forgetful)
    with pytest.raises(ViolationError, match="opened one epoch twice"):
        play_all(200)


@pytest.mark.parametrize(
    ("rows", "colluders", "determined"),
    [
        ([[1, 1, 1, 1]], 1, False),
        ([[1, 1, 1, 1], [1, 1, 1, 0]], 1, True),
        ([[1, 1, 1, 1], [1, 1, 1, 1]], 1, False),
        ([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0]], 0, True),
        ([[1, 1, 0, 0], [0, 0, 1, 1]], 0, False),
        ([[1, 1, 0, 0], [0, 0, 1, 1]], 1, True),
        ([[1, 1, 1]], 2, True),
    ],
)
def test_determined_members_are_found_by_linear_algebra(
    rows: list[list[int]], colluders: int, determined: bool
) -> None:
    if not determined:
        require_undetermined(np.array(rows), colluders)
        return
    with pytest.raises(ViolationError, match="determine a member"):
        require_undetermined(np.array(rows), colluders)
