"""One suite for all stores of the ledger: what is charged, kept, marked and refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from client.entries import Mark, Place, Shrunk
from client.ledger import Ledger, Store
from client.limits import Limits
from client.policy import (
    EpochReplayedError,
    RoundChargedError,
    RoundOpenedError,
    SignedTwiceError,
)
from client.refusals import (
    ClockSetBackError,
    LedgerBehindError,
    OverdrawnError,
    OverLimitError,
    RunReopenedError,
)
from common.crypto.refusals import MaskedTwiceError
from common.errors import PolicyError
from tests.ledgers import COUNT, NOON, STORES, TRAIN, at, budget, ledger_on, store_of

ONE_PLAN = Limits(plan=6, year=7, ever=8, accountant="rdp")
"""A run of the budget costs epsilon 5.4, a second one brings it to 7.6, a third to 9.4."""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_of(request.param, tmp_path)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return ledger_on(store)


def charge(ledger: Ledger, place: Place, now: int = NOON) -> None:
    ledger.charge(place, (TRAIN,), budget(), now)


def test_a_round_is_charged_once_and_rounds_only_grow(ledger: Ledger) -> None:
    charge(ledger, at(0))
    charge(ledger, at(3))
    for past in (3, 2, 0):
        with pytest.raises(RoundChargedError, match="charged before"):
            charge(ledger, at(past, epoch=9))
    charge(ledger, at(4))
    book, entries = ledger.read()
    assert [entry.round for entry in entries if entry.kind == "charged"] == [0, 3, 4]
    assert sum(release.steps for *_, release in book.spent("loans", NOON)) == 306
    assert ledger.verify() == len(entries) == 5


def test_a_refusal_leaves_no_trace(ledger: Ledger, store: Store) -> None:
    charge(ledger, at(0))
    before = ledger.read()[1]
    with pytest.raises(OverdrawnError):
        ledger.charge(at(1), (TRAIN, replace(COUNT, steps=7)), budget(), NOON)
    assert ledger.read()[1] == before == ledger_on(store).read()[1]
    charge(ledger, at(1))
    assert len(ledger.read()[1]) == len(before) + 1


def test_more_than_the_run_reserved_is_refused(ledger: Ledger) -> None:
    charge(ledger, at(0))
    quieter = replace(TRAIN, noise_multiplier=1.0)
    unknown = replace(TRAIN, part="test")
    for wrong in (quieter, unknown, replace(TRAIN, sample_rate=0.1), replace(TRAIN, steps=296)):
        with pytest.raises(OverdrawnError):
            ledger.charge(at(1), (wrong,), budget(), NOON)
    ledger.charge(at(1), (replace(TRAIN, steps=295),), budget(), NOON)
    # Saying a larger budget later does not make it one.
    with pytest.raises(OverdrawnError, match="301 steps are more than the 300"):
        ledger.charge(at(2), (replace(TRAIN, steps=1),), budget(1_000), NOON)


def test_limits_hold_for_a_plan_a_year_and_ever(store: Store) -> None:
    ledger = ledger_on(store, ONE_PLAN)
    ledger.charge(at(0), (replace(TRAIN, steps=300),), budget(), NOON)
    with pytest.raises(OverLimitError, match=r"limits\.plan"):
        charge(ledger, at(0, run="again"), NOON + 1)
    with pytest.raises(OverLimitError, match=r"limits\.year"):
        charge(ledger, at(0, run="other", plan="bb"), NOON + 1)
    later = NOON + 366 * 24 * 3600
    charge(ledger, at(0, run="other", plan="bb"), later)
    ledger.charge(at(1, run="other", plan="bb"), (replace(TRAIN, steps=295),), budget(), later)
    ledger.charge(at(2, run="other", plan="bb"), (COUNT,) * 6, budget(), later)
    with pytest.raises(OverLimitError, match=r"limits\.ever"):
        charge(ledger, at(0, run="third", plan="cc"), later + 366 * 24 * 3600)


def test_room_is_asked_for_before_a_run_begins(store: Store) -> None:
    ledger = ledger_on(store, ONE_PLAN)
    ledger.require_room(at(0), budget(), NOON)
    assert ledger.sequence == 0
    charge(ledger, at(0))
    ledger.require_room(at(0), budget(), NOON)
    with pytest.raises(OverLimitError):
        ledger.require_room(at(0, run="other", plan="bb"), budget(), NOON)


def test_another_table_has_its_own_budget(store: Store) -> None:
    charge(ledger_on(store, ONE_PLAN), at(0))
    with pytest.raises(OverLimitError):
        charge(ledger_on(store, ONE_PLAN), at(0, run="other", plan="bb"))
    charge(ledger_on(store, ONE_PLAN, "cards"), at(0, run="other", plan="bb"))
    with pytest.raises(RunReopenedError, match="another plan or table"):
        charge(ledger_on(store, ONE_PLAN, "cards"), at(1))


def test_a_run_reserves_what_it_has_not_charged_yet_until_it_is_closed(store: Store) -> None:
    limits = replace_limits(year="none", ever=6.0)
    ledger = ledger_on(store, limits)
    charge(ledger, at(0))
    with pytest.raises(OverLimitError):
        charge(ledger, at(0, run="other", plan="bb"))
    ledger.close("run", NOON)
    small = replace(TRAIN, steps=5)
    ledger.charge(at(0, run="other", plan="bb"), (small,), budget(40), NOON)
    with pytest.raises(RunReopenedError, match="over"):
        charge(ledger, at(1))
    for unknown in ("run", "nothing"):
        with pytest.raises(RunReopenedError, match="not open"):
            ledger.close(unknown, NOON)


def replace_limits(**values: object) -> Limits:
    return ONE_PLAN.model_copy(update=values)


def test_a_later_run_of_the_plan_ends_the_earlier_one(ledger: Ledger) -> None:
    charge(ledger, at(0))
    charge(ledger, at(0, run="later"))
    with pytest.raises(RunReopenedError, match="over"):
        charge(ledger, at(1))
    charge(ledger, at(1, run="later"))
    charge(ledger, at(0, run="elsewhere", plan="bb"))
    charge(ledger, at(2, run="later"))


def test_the_clock_may_go_back_five_minutes(ledger: Ledger) -> None:
    charge(ledger, at(0), NOON)
    charge(ledger, at(1), NOON - 300)
    charge(ledger, at(2), NOON)
    with pytest.raises(ClockSetBackError, match="301 s behind"):
        charge(ledger, at(3), NOON - 301)
    with pytest.raises(ClockSetBackError):
        ledger.mark("epoch", at(3), NOON - 301)
    charge(ledger, at(3), NOON)


def test_a_ledger_behind_its_own_signature_is_refused(ledger: Ledger) -> None:
    assert ledger.sequence == 0
    charge(ledger, at(0))
    ledger.require_current(3)
    with pytest.raises(LedgerBehindError, match=r"ends at line 3, .* signed at line 4"):
        ledger.require_current(4)


@pytest.mark.parametrize(
    ("mark", "refusal"),
    [("epoch", EpochReplayedError), ("masked", MaskedTwiceError), ("signed", SignedTwiceError)],
)
def test_an_epoch_is_used_once_over_all_runs_of_a_plan(
    ledger: Ledger, mark: Mark, refusal: type[PolicyError]
) -> None:
    ledger.mark(mark, at(0, epoch=4), NOON)
    for place in (at(0, epoch=4), at(9, epoch=3), at(0, epoch=4, run="other")):
        with pytest.raises(refusal, match="in the past"):
            ledger.mark(mark, place, NOON)
    ledger.mark(mark, at(0, epoch=4, plan="bb"), NOON)
    ledger.mark(mark, at(0, epoch=5, run="other"), NOON)
    assert (ledger.standing("other", "aa").epoch == 5) == (mark == "epoch")


def test_a_round_is_opened_once_in_a_run(ledger: Ledger) -> None:
    ledger.mark("opened", at(2, epoch=4), NOON)
    for past in (2, 1):
        with pytest.raises(RoundOpenedError):
            ledger.mark("opened", at(past, epoch=9), NOON)
    ledger.mark("opened", at(0, epoch=1, run="other"), NOON)
    assert [ledger.standing(run, "aa").opened for run in ("run", "other", "new")] == [2, 0, -1]


def test_a_mark_returns_the_number_of_its_line(ledger: Ledger) -> None:
    assert ledger.mark("epoch", at(0, epoch=1), NOON) == 1
    charge(ledger, at(0))
    assert ledger.mark("epoch", at(0, epoch=2), NOON) == ledger.sequence == 5


def test_a_roster_after_revocations_is_of_its_plan_and_approved_roster(
    ledger: Ledger, store: Store
) -> None:
    assert ledger.roster("aa", "full") == b""
    ledger.revoke(at(0), Shrunk("full", b"fewer"), NOON)
    ledger.revoke(at(0, plan="bb"), Shrunk("full", b"others"), NOON)
    for seen in (ledger, ledger_on(store)):
        assert (seen.roster("aa", "full"), seen.roster("bb", "full")) == (b"fewer", b"others")
        assert seen.roster("aa", "approved since") == seen.roster("cc", "full") == b""
    ledger.revoke(at(3, run="next"), Shrunk("full", b"fewest"), NOON)
    assert ledger_on(store).roster("aa", "full") == b"fewest"
    assert ledger.verify() == 3


def test_what_is_stored_comes_back_after_a_restart(ledger: Ledger, store: Store) -> None:
    charge(ledger, at(3, epoch=7))
    ledger.mark("epoch", at(3, epoch=7), NOON)
    ledger.store(at(3, epoch=7), "binding", b"mask", b"vector", NOON)
    found = ledger_on(store).standing("run", "aa")
    assert found == ledger.standing("run", "aa")
    assert (found.round, found.binding, found.mask, found.vector) == (
        3,
        "binding",
        b"mask",
        b"vector",
    )
    other = ledger.standing("other", "aa")
    assert (other.round, other.mask, other.vector, other.epoch) == (-1, b"", b"", 7)
    assert "vector" not in repr(found).replace("vector_", "")


def test_a_vector_is_stored_for_a_charged_round_alone(ledger: Ledger) -> None:
    with pytest.raises(OverdrawnError, match="was not charged"):
        ledger.store(at(0), "binding", b"", b"vector", NOON)
    charge(ledger, at(0))
    with pytest.raises(OverdrawnError):
        ledger.store(at(1), "binding", b"", b"vector", NOON)
    assert ledger.standing("run", "aa").vector == b""
    ledger.store(at(0), "binding", b"", b"vector", NOON)
    assert ledger.standing("run", "aa").vector == b"vector"


def test_opening_erases_the_vector_and_keeps_the_mask(ledger: Ledger) -> None:
    charge(ledger, at(0))
    ledger.store(at(0), "binding", b"mask", b"vector", NOON)
    ledger.mark("opened", at(0, run="other"), NOON)
    assert ledger.standing("run", "aa").vector == b"vector"
    ledger.mark("opened", at(0), NOON)
    found = ledger.standing("run", "aa")
    assert (found.round, found.vector, found.mask) == (0, b"", b"mask")
    assert ledger.verify() == 6


def test_an_open_run_counts_within_any_year_until_it_is_closed(store: Store) -> None:
    ledger = ledger_on(store, replace_limits(ever="none"))
    charge(ledger, at(0))
    later = NOON + 366 * 24 * 3600
    # What it may still charge is spent from now on, however long it slept.
    with pytest.raises(OverLimitError, match=r"limits\.year"):
        charge(ledger, at(0, run="other", plan="bb"), later)
    ledger.close("run", later)
    charge(ledger, at(0, run="other", plan="bb"), later)


def test_small_steps_back_of_the_clock_do_not_add_up(ledger: Ledger) -> None:
    charge(ledger, at(0), NOON)
    charge(ledger, at(1), NOON - 300)
    with pytest.raises(ClockSetBackError, match="301 s behind"):
        charge(ledger, at(2), NOON - 301)
