"""One suite for both journals: counters only grow, and the durable one survives its process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from client.journal import DurableJournal, Journal, VolatileJournal
from client.policy import RoundReplayedError

Open = Callable[[], Journal]


@pytest.fixture(params=["volatile", "durable"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    return VolatileJournal() if request.param == "volatile" else DurableJournal(tmp_path / "j")


def test_epochs_of_a_plan_never_repeat(journal: Journal) -> None:
    assert journal.last_epoch("plan") == -1
    journal.begin_epoch("plan", 3)
    for epoch in (3, 2, 0):
        with pytest.raises(RoundReplayedError, match="in the past"):
            journal.begin_epoch("plan", epoch)
    journal.begin_epoch("other", 1)
    journal.begin_epoch("plan", 4)
    assert (journal.last_epoch("plan"), journal.last_epoch("other")) == (4, 1)


def test_no_round_of_a_run_is_computed_twice(journal: Journal) -> None:
    journal.begin_round("run", 0)
    journal.begin_round("run", 2)
    journal.begin_round("other", 0)
    for round_number in (2, 1):
        with pytest.raises(RoundReplayedError):
            journal.begin_round("run", round_number)


def test_the_durable_journal_survives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    DurableJournal(path).begin_epoch("plan", 7)
    again = DurableJournal(path)
    assert again.last_epoch("plan") == 7
    with pytest.raises(RoundReplayedError):
        again.begin_epoch("plan", 7)
    assert VolatileJournal().last_epoch("plan") == -1
