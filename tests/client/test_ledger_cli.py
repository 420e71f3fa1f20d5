import csv
import sqlite3
from contextlib import closing
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest

from client.cli import main
from client.ledger_file import SqliteStore
from tests.commands import invoke
from tests.ledgers import NOON, TRAIN, at, budget, ledger_on

CLIENT = """
name = "ash"
plan = "plan.toml"
plan_hash = "{hash}"
data = "table.csv"

[ledger]
table = "loans"

[ledger.limits]
plan = 6
year = "none"
ever = 8
accountant = "rdp"
"""


@pytest.fixture
def client_file(tmp_path: Path) -> Path:
    path = tmp_path / "client.toml"
    path.write_text(CLIENT.format(hash="0" * 64))
    return path


@pytest.fixture
def filled(client_file: Path) -> Path:
    ledger = ledger_on(SqliteStore(client_file.with_name("ledger.sqlite")))
    ledger.charge(at(0), (TRAIN,), budget(), NOON)
    ledger.store(at(0), "binding", b"", b"vector", NOON)
    return client_file


def test_show_tells_what_was_spent_and_what_is_left(filled: Path) -> None:
    told = invoke(main, "ledger", "show", "--home", filled.parent)
    assert told.code == 0
    spent = {cells[0]: cells[1:] for cells in rows(told.out) if len(cells) == 3}
    assert float(spent["ever"][0]) == pytest.approx(5.37, abs=0.01)
    assert spent["ever"][1:] == ["8"]
    assert spent["year"][1:] == ["none"]
    assert spent["plan aa"] == [spent["ever"][0], "6"]
    run = next(cells for cells in rows(told.out) if cells[0] == "run" and cells[1] == "aa")
    assert (run[3:5], run[6]) == (["record", "1"], "open")
    assert 0 < float(run[5]) < float(spent["ever"][0])
    assert "line=4 head=" in told.out


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if "│" in line]
    return [[cell.strip() for cell in line.strip("│ ").split("│")] for line in lines]


def test_verify_holds_and_finds_an_alteration(filled: Path) -> None:
    told = invoke(main, "ledger", "verify", "--home", filled.parent)
    assert (told.code, told.out.strip()) == (0, "4 lines hold")
    path = filled.with_name("ledger.sqlite")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE entries SET steps = 1 WHERE sequence = 3")
    told = invoke(main, "ledger", "verify", "--home", filled.parent)
    assert told.code == 5
    assert "line 3 of the ledger was altered" in told.err


def test_export_is_every_line_and_no_vector(filled: Path, tmp_path: Path) -> None:
    told = invoke(main, "ledger", "export", "--home", filled.parent)
    lines = list(csv.DictReader(StringIO(told.out)))
    assert [line["kind"] for line in lines] == ["reserved", "reserved", "charged", "stored"]
    assert all(line["previous"] == before["hash"] for before, line in pairwise(lines))
    assert "vector" not in told.out.replace("vector_", "")
    out = tmp_path / "copy.csv"
    assert invoke(main, "ledger", "export", "--home", filled.parent, "--out", str(out)).code == 0
    assert list(csv.DictReader(StringIO(out.read_text()))) == lines


def test_a_closed_run_is_over_once(filled: Path) -> None:
    assert (
        invoke(main, "ledger", "close", "run", "--home", filled.parent).out.strip()
        == "run run is over"
    )
    for run in ("run", "unknown"):
        told = invoke(main, "ledger", "close", run, "--home", filled.parent)
        assert (told.code, "not open" in told.err) == (5, True)


def test_a_wrong_path_makes_no_ledger(client_file: Path) -> None:
    for command in ("show", "verify", "export"):
        told = invoke(main, "ledger", command, "--home", client_file.parent)
        assert (told.code, "no ledger here" in told.err) == (3, True)
    assert not client_file.with_name("ledger.sqlite").exists()


def test_limits_are_positive_or_none(filled: Path) -> None:
    filled.write_text(filled.read_text().replace("ever = 8", "ever = -1"))
    told = invoke(main, "ledger", "show", "--home", filled.parent)
    assert (told.code, "ledger.limits.ever" in told.err) == (3, True)
