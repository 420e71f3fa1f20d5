"""A thousand ways for a network and its parties to fail, and the same code in the bench."""

import logging
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from client import policy, stages, update
from client.ledger import Ledger
from client.policy import RoundOpenedError
from common.crypto import opening, secagg
from common.crypto.opening import Opened
from common.crypto.refusals import DeadAndAliveError, SecondSurvivorsError, UnderSignedError
from common.crypto.session import Reveal
from simulations import faults
from simulations.faults import (
    DEVIATIONS,
    FAULTS,
    Seen,
    ViolationError,
    play,
    require_hidden,
    require_undetermined,
    toy_plan,
)
from simulations.rehearsal import Rehearsal

BATCHES, BATCH = 10, 100
REFUSED_TO_DEVIATING = {
    RoundOpenedError.reason,
    UnderSignedError.reason,
    SecondSurvivorsError.reason,
    DeadAndAliveError.reason,
}


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "fedprune")


def play_all(seeds: int) -> None:
    for seed in range(seeds):
        play(seed)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_schedule_ends_in_right_sums_or_a_named_abort(batch: int) -> None:
    met: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    opened = 0
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        outcome = play(seed)
        assert outcome.opened + outcome.lost > 0 or outcome.abort
        met += outcome.faults
        opened += outcome.opened
        refused += outcome.refusals
    assert set(met) >= {*FAULTS, *filter(None, DEVIATIONS)}
    assert set(refused) >= REFUSED_TO_DEVIATING
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


def forget_openings(monkeypatch: pytest.MonkeyPatch) -> None:
    right = stages.unmask

    def forgetful(institution: Any, memory: Any, request: Any) -> Any:
        return memory, right(institution, memory, request)[1]

    monkeypatch.setattr(stages, "unmask", forgetful)
    monkeypatch.setattr(Ledger, "mark", lambda *_: 0)


def test_a_second_opening_of_an_epoch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "DEVIATIONS", ("",))
    forget_openings(monkeypatch)
    with pytest.raises(ViolationError, match="opened one epoch twice"):
        play_all(200)


def test_a_repeated_round_is_noticed_once_institutions_open_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faults, "DEVIATIONS", ("repeat opened round",))
    play_all(20)
    monkeypatch.setattr(Ledger, "mark", lambda *_: 0)
    monkeypatch.setattr(policy, "require_round", lambda *_: None)
    monkeypatch.setattr(update, "require_round", lambda *_: None)
    with pytest.raises(ViolationError, match="the opened sums determine a member"):
        play_all(20)


def test_two_survivor_sets_are_noticed_once_institutions_open_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faults, "DEVIATIONS", ("split survivors",))
    play_all(20)
    # Without faults, so that no duplicate is opened twice first.
    monkeypatch.setattr(faults, "RATES", (0.0,))
    forget_openings(monkeypatch)
    monkeypatch.setattr(secagg, "_require_signed", lambda *_: None)
    with pytest.raises(ViolationError, match="both secrets of a member"):
        play_all(20)


def seen_openings(*openings: tuple[str, int, str]) -> Seen:
    """Five members mask; each opening is of an opener, a round and the members left out."""
    rehearsal, seen = Rehearsal.of(5), Seen()
    names = toy_plan(5).names
    descriptors = {
        round_number: replace(rehearsal.descriptor(names), round=round_number)
        for _, round_number, _ in openings
    }
    for descriptor in descriptors.values():
        for name in names:
            seen.vector(name, descriptor)
    for opener, round_number, left_out in openings:
        survived = tuple(name[-1] not in left_out for name in names)
        reveal = Reveal(survived=survived, openings=(b"k" * 16,) * len(names))
        seen.reveal(f"bank-{opener}", descriptors[round_number].digest(), reveal)
    return seen


def test_shares_opened_for_several_survivor_sets_add_up() -> None:
    plan = toy_plan(5)
    assert (plan.terms.threshold, plan.terms.colluders) == (4, 1)
    seen = seen_openings(("0", 1, "4"), ("1", 1, "3"), ("2", 1, ""), ("3", 1, ""))
    (digest,) = seen.sent
    assert seen.rebuilt(digest, frozenset(), alive=True) == {"bank-0", "bank-1", "bank-2"}
    assert seen.rebuilt(digest, frozenset({"bank-4"}), alive=True) == set(plan.names)
    assert seen.rebuilt(digest, frozenset({"bank-4"}), alive=False) == set()
    require_hidden(plan, seen)


def test_both_secrets_are_noticed_though_no_set_was_opened_by_two() -> None:
    openings = [("0", 1, "3"), ("1", 1, "34"), ("2", 1, "23"), ("0", 1, "4"), ("1", 1, "0")]
    require = partial(require_hidden, toy_plan(5))
    with pytest.raises(ViolationError, match="both secrets of a member"):
        require(seen_openings(*openings, ("2", 1, "")))
    with pytest.raises(ViolationError, match="opened one epoch twice"):
        require(seen_openings(*openings))


def test_a_second_opening_is_noticed_even_where_it_determines_nothing() -> None:
    with pytest.raises(ViolationError, match="bank-0 opened one epoch twice"):
        require_hidden(toy_plan(5), seen_openings(("0", 1, ""), ("0", 1, "")))
    require_hidden(toy_plan(5), seen_openings(("0", 1, ""), ("0", 2, "")))


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
