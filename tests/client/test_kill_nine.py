"""No kill -9 makes an institution say more than its ledger says it said."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from client.ledger import Ledger
from tests.client.kill_nine import (
    NEVER,
    Observed,
    Victim,
    forgetful,
    perform,
    require_honest,
)

INSTITUTION = cast(Any, Ledger)
"""What the broken ones change, in their own process alone."""

FEWEST_POINTS = 60
REASONS = {"round was opened", "round was charged", "epoch is over", "masked-twice"}
REASONS |= {"round is over", "out-of-order", "other-session"}


def killed_everywhere(victim_at: Callable[[int], Victim], step: int = 1) -> list[Observed]:
    """Return what was seen for each point, until there is none to be killed at any more."""
    seen: list[Observed] = []
    fatal = 1
    while not seen or seen[-1].kills:
        seen.append(perform(victim_at(fatal), fatal))
        fatal += step
    return seen


@pytest.mark.parametrize(
    ("keeps_context", "step"), [(True, 1), (False, 4)], ids=["context kept", "context lost"]
)
def test_killed_at_every_write_the_ledger_covers_what_left(
    tmp_path: Path, keeps_context: bool, step: int
) -> None:
    def victim_at(fatal: int) -> Victim:
        return Victim(tmp_path / str(fatal), keeps_context=keeps_context)

    seen = killed_everywhere(victim_at, step)
    assert len(seen) * step > FEWEST_POINTS
    for observed in seen:
        require_honest(observed)
        assert observed.completed
        assert set(observed.refusals) <= REASONS
        # It goes on after the restart, or sits out the round whose vector it lost.
        assert len(observed.released) >= 1
    assert sum(len(observed.survived) < 2 for observed in seen) > len(seen) // 4
    assert sum(1 in observed.survived for observed in seen) > len(seen) // 4
    assert seen[-1].survived == [0, 1]


def test_a_second_start_on_the_same_ledger_is_charged_anew(tmp_path: Path) -> None:
    victim = Victim(tmp_path)
    first = perform(victim, fatal=40)
    (tmp_path / "context").unlink()
    second = perform(victim, NEVER)
    require_honest(first)
    require_honest(second)
    runs = {run for run, *_ in (*first.released, *second.released)}
    assert len(runs) == 2
    assert second.survived == [0, 1]
    epochs = [epoch for _, _, epoch, _ in (*first.released, *second.released)]
    assert len(set(epochs)) == len(epochs)


def charge_late() -> None:
    """Charge a round when the next message comes: too late for a process that dies."""
    right, late = INSTITUTION.charge, list[Callable[[], None]]()

    def standing(self: Ledger, run: str, plan_hash: str) -> object:
        while late:
            late.pop()()
        return INSTITUTION._standing(self, run, plan_hash)

    def charge(self: Ledger, *arguments: object) -> None:
        late.append(lambda: right(self, *arguments))

    INSTITUTION._standing = INSTITUTION.standing
    INSTITUTION.standing = standing
    INSTITUTION.charge = charge
    INSTITUTION.store = lambda self, *_: None


def forget_vectors() -> None:
    """Charge every attempt, but keep no vector: a repeated round is computed again."""
    INSTITUTION.store = lambda self, *_: None
    right = INSTITUTION.charge

    def charge(self: Ledger, place: object, *arguments: object) -> None:
        try:
            right(self, place, *arguments)
        except Exception:
            return

    INSTITUTION.charge = charge


def mark_nothing() -> None:
    """Note neither epochs nor openings."""
    INSTITUTION.mark = lambda self, *_: self.sequence


def note_no_revocation() -> None:
    """Remember the roster in the process alone."""
    INSTITUTION.revoke = lambda self, place, shrunk, _: setattr(self, "shrunk", shrunk.roster)
    INSTITUTION.roster = lambda self, *_: getattr(self, "shrunk", b"")


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (charge_late, "understates"),
        (forget_vectors, "released twice"),
        (mark_nothing, "hides an opening"),
        (note_no_revocation, "hides a revocation"),
    ],
)
def test_an_institution_that_does_it_wrong_is_found_out(
    tmp_path: Path, broken: Callable[[], None], found: str
) -> None:
    def faults() -> Iterator[str]:
        for fatal in range(20, 60):
            try:
                require_honest(perform(Victim(tmp_path / str(fatal), broken=broken), fatal))
            except AssertionError as error:
                yield str(error)

    assert any(found in fault for fault in faults())


def test_a_ledger_that_dies_with_the_process_is_found_out(tmp_path: Path) -> None:
    observed = perform(Victim(tmp_path, store=forgetful), 5)
    with pytest.raises(AssertionError, match="understates"):
        require_honest(observed)
