"""What only the file can do: last, exclude other processes, and show that it was altered."""

import multiprocessing
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from client.entries import Shrunk
from client.ledger_file import SqliteStore
from client.limits import Limits
from client.policy import RoundChargedError
from client.refusals import LedgerAlteredError, LedgerBehindError, OverLimitError
from tests.ledgers import NOON, TRAIN, at, budget, ledger_on

ONCE = Limits(plan="none", year="none", ever=6, accountant="rdp")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def filled(path: Path) -> None:
    ledger = ledger_on(SqliteStore(path))
    for number in range(3):
        ledger.mark("epoch", at(number, epoch=number + 1), NOON)
        ledger.charge(at(number), (TRAIN,), budget(), NOON)
        ledger.store(at(number), f"binding {number}", b"mask", b"vector", NOON)
    ledger.revoke(at(2), Shrunk("full", b"fewer"), NOON)


def altered(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute(statement).rowcount == 1


def spend(path: Path, run: str, plan: str, barrier: object, outcomes: object) -> None:
    assert hasattr(barrier, "wait")
    assert hasattr(outcomes, "put")
    ledger = ledger_on(SqliteStore(path), ONCE)
    barrier.wait()
    try:
        for number in range(20):
            ledger.charge(at(number, run=run, plan=plan), (TRAIN,), budget(), NOON)
            ledger.store(at(number, run=run, plan=plan), "binding", b"", b"vector", NOON)
    except (OverLimitError, RoundChargedError) as error:
        outcomes.put(type(error).__name__)
    else:
        outcomes.put("spent")


@pytest.mark.parametrize(
    ("others", "refusal"),
    [(("two", "bb"), "OverLimitError"), (("one", "aa"), "RoundChargedError")],
    ids=["two runs", "one run twice"],
)
def test_two_processes_cannot_both_spend(path: Path, others: tuple[str, str], refusal: str) -> None:
    SqliteStore(path)
    context = multiprocessing.get_context("spawn")
    barrier, outcomes = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=spend, args=(path, *names, barrier, outcomes))
        for names in (("one", "aa"), others)
    ]
    for process in processes:
        process.start()
    told = [outcomes.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert refusal in told
    ledger = ledger_on(SqliteStore(path))
    ledger.verify()
    charged = [entry for entry in ledger.read()[1] if entry.kind == "charged"]
    assert len({(entry.run, entry.round) for entry in charged}) == len(charged)
    assert len({entry.run for entry in charged}) == 1


def test_two_runs_both_spend_where_the_limit_allows_it(path: Path) -> None:
    for run, plan in (("one", "aa"), ("two", "bb")):
        ledger_on(SqliteStore(path)).charge(at(0, run=run, plan=plan), (TRAIN,), budget(), NOON)
    assert len(ledger_on(SqliteStore(path)).read()[0].accounts) == 2


def test_a_ledger_that_is_open_elsewhere_sees_what_was_written_there(path: Path) -> None:
    here, there = ledger_on(SqliteStore(path)), ledger_on(SqliteStore(path))
    here.charge(at(0), (TRAIN,), budget(), NOON)
    with pytest.raises(RoundChargedError):
        there.charge(at(0), (TRAIN,), budget(), NOON)
    there.charge(at(1), (TRAIN,), budget(), NOON)
    assert here.sequence == there.sequence == here.verify() == 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET steps = 4 WHERE sequence = 4",
        "UPDATE entries SET steps = 4 WHERE sequence = 8",
        "UPDATE entries SET hash = previous WHERE sequence = 11",
        "UPDATE entries SET digest = '' WHERE sequence = 11",
        "DELETE FROM entries WHERE sequence = 5",
        "DELETE FROM entries WHERE sequence = 1",
        "UPDATE vectors SET vector = x'00'",
        "UPDATE vectors SET mask = x'00'",
        "UPDATE vectors SET binding = 'binding 1'",
        "UPDATE vectors SET round = 1",
        "UPDATE vectors SET plan = 'bb'",
        "DELETE FROM vectors",
        "UPDATE entries SET digest = '' WHERE sequence = 12",
        "DELETE FROM entries WHERE sequence = 12",
        "UPDATE rosters SET roster = x'00'",
        "UPDATE rosters SET approved = 'other'",
        "UPDATE rosters SET plan = 'bb'",
        "DELETE FROM rosters",
    ],
)
def test_every_alteration_is_found(path: Path, statement: str) -> None:
    filled(path)
    assert ledger_on(SqliteStore(path)).verify() == 12
    altered(path, statement)
    with pytest.raises(LedgerAlteredError):
        ledger_on(SqliteStore(path)).verify()


def test_an_alteration_stops_the_run(path: Path) -> None:
    filled(path)
    altered(path, "UPDATE entries SET epoch = 0 WHERE sequence = 9")
    ledger = ledger_on(SqliteStore(path))
    with pytest.raises(LedgerAlteredError, match="line 9 of the ledger was altered"):
        ledger.charge(at(3), (TRAIN,), budget(), NOON)
    with pytest.raises(LedgerAlteredError):
        ledger.standing("run", "aa")


@pytest.mark.parametrize("statement", ["UPDATE rosters SET roster = x'00'", "DELETE FROM rosters"])
def test_an_altered_roster_is_not_acted_under(path: Path, statement: str) -> None:
    filled(path)
    assert ledger_on(SqliteStore(path)).roster("aa", "full") == b"fewer"
    altered(path, statement)
    with pytest.raises(LedgerAlteredError, match="roster"):
        ledger_on(SqliteStore(path)).roster("aa", "full")


def test_a_file_put_back_under_a_living_process_is_read_anew(path: Path) -> None:
    ledger = ledger_on(SqliteStore(path))
    ledger.charge(at(0), (TRAIN,), budget(), NOON)
    backup = path.read_bytes()
    for number in (1, 2):
        ledger.charge(at(number), (TRAIN,), budget(), NOON)
    ledger.require_current(5)
    path.write_bytes(backup)
    with pytest.raises(LedgerBehindError, match="ends at line 3"):
        ledger.require_current(5)
    # One that went another way is found by its lines, not by their number.
    path.write_bytes(backup)
    for number in (3, 4, 5):
        ledger_on(SqliteStore(path)).charge(at(number), (TRAIN,), budget(), NOON)
    with pytest.raises(RoundChargedError):
        ledger.charge(at(5), (TRAIN,), budget(), NOON)
    assert ledger.verify() == 6


def test_what_is_no_ledger_is_not_taken_for_one(path: Path) -> None:
    path.write_text("a note\n" * 300)
    with pytest.raises(LedgerAlteredError, match="not a database"):
        SqliteStore(path)


def test_the_file_is_for_its_owner_alone_and_synced(path: Path) -> None:
    filled(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with SqliteStore(path)._connection() as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_an_erased_vector_is_not_left_in_the_file(path: Path) -> None:
    secret = bytes(range(64, 96)) * 8
    ledger = ledger_on(SqliteStore(path))
    ledger.charge(at(0), (TRAIN,), budget(), NOON)
    ledger.store(at(0), "binding", b"", secret, NOON)
    assert secret in path.read_bytes()
    ledger.mark("opened", at(0), NOON)
    assert secret not in b"".join(file.read_bytes() for file in path.parent.iterdir())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET run = x'00ff' WHERE sequence = 2",
        "UPDATE entries SET noise_multiplier = 9e999 WHERE sequence = 2",
        "UPDATE entries SET steps = 'many' WHERE sequence = 2",
        "UPDATE vectors SET vector = 'text'",
    ],
)
def test_a_cell_of_another_type_is_an_alteration_by_name(path: Path, statement: str) -> None:
    filled(path)
    altered(path, statement)
    with pytest.raises(LedgerAlteredError, match="it was altered; restore it"):
        ledger_on(SqliteStore(path)).verify()
