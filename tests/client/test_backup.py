"""An institution's home comes back but for its table, and its ledger forgets nothing unsaid."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from client.backup import archived
from client.config import load_institution
from client.ledger import Ledger
from client.ledger_file import SqliteStore
from client.refusals import LedgerBehindError
from common.errors import ConfigError
from common.secret_files import PASSPHRASE
from tests.founding import NAMES, Federation, found, good, refused
from tests.ledgers import NOON, TRAIN, at, budget, ledger_on

ASH = NAMES[0]


@pytest.fixture(scope="module")
def _founded(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    federation = found(tmp_path_factory.mktemp("founded"))
    federation.approve(ASH)
    return federation


@pytest.fixture
def federation(_founded: Federation, tmp_path: Path) -> Federation:
    return _founded.copy_to(tmp_path)


def ledger_of(home: Path) -> Ledger:
    return ledger_on(SqliteStore(home / "ledger.sqlite"))


def spend(home: Path, *rounds: int) -> None:
    for number in rounds:
        ledger_of(home).charge(at(number), (TRAIN,), budget(), NOON)


def restored(federation: Federation, backup: Path) -> str:
    """Restore a backup to the institution ``again``; return what was said."""
    return good(federation.do("again", "restore", backup)).out


@pytest.mark.parametrize("passphrase", ["", "right"])
def test_an_institution_comes_back_and_takes_part(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str
) -> None:
    home, backup = federation.at(ASH), tmp_path / "backup"
    spend(home, 0, 1)
    if passphrase:
        monkeypatch.setenv(PASSPHRASE, passphrase)
    # Another process is in the middle of a transaction, as a running executor may be.
    with closing(sqlite3.connect(home / "ledger.sqlite", isolation_level=None)) as live:
        live.execute("BEGIN IMMEDIATE")
        good(federation.do(ASH, "backup", backup))
        live.execute("ROLLBACK")
    said = restored(federation, backup)
    again = federation.at("again")
    names = {path.name for path in home.iterdir()} - {"ledger.sqlite-wal", "ledger.sqlite-shm"}
    assert {path.name for path in again.iterdir()} - names <= {
        "ledger.sqlite-wal",
        "ledger.sqlite-shm",
    }
    assert names - {path.name for path in again.iterdir()} == {"records.csv"}
    assert _log(again).startswith(_log(home))
    assert b'"event":"restored","made":' in _log(again).removeprefix(_log(home))
    charters = [path.relative_to(home).as_posix() for path in home.glob("charters/*")]
    assert charters
    for name in {*names, *charters} - {"records.csv", "ledger.sqlite", "audit", "charters"}:
        assert (again / name).read_bytes() == (home / name).read_bytes()
        assert (again / name).stat().st_mode == (home / name).stat().st_mode
    assert ledger_of(again).read()[1] == ledger_of(home).read()[1]
    opened = load_institution(again / "client.toml")
    assert opened.membership is not None
    lines = ledger_of(home).sequence
    assert f"Its ledger holds as far as it goes, {lines} lines." in said


def _log(home: Path) -> bytes:
    return (home / "audit" / "log.jsonl").read_bytes()


def test_nothing_of_the_table_goes_in(federation: Federation) -> None:
    home = federation.at(ASH)
    rows = (home / "records.csv").read_bytes().splitlines()[1:]
    (home / "loans.parquet").write_bytes(b"others")
    files = archived(home, 0).files
    assert {"client.toml", "keys.json", "node.key", "consent.json"} <= files.keys()
    assert not {"records.csv", "loans.parquet"} & files.keys()
    assert not any(row in file.data for file in files.values() for row in rows)


def test_a_ledger_that_lost_lines_says_so_and_stops(federation: Federation, tmp_path: Path) -> None:
    home, backup = federation.at(ASH), tmp_path / "backup"
    spend(home, 0)
    good(federation.do(ASH, "backup", backup))
    spend(home, 1, 2)
    signed = ledger_of(home).sequence
    said = restored(federation, backup)
    assert "Whatever was spent since is not in it." in said
    assert "refuses everything (ledger-behind)" in said
    behind = ledger_of(federation.at("again"))
    with pytest.raises(LedgerBehindError):
        behind.require_current(signed)
    behind.require_current(behind.sequence)


def test_an_altered_ledger_is_not_restored_in_silence(
    federation: Federation, tmp_path: Path
) -> None:
    home, backup = federation.at(ASH), tmp_path / "backup"
    spend(home, 0, 1)
    with closing(sqlite3.connect(home / "ledger.sqlite", isolation_level=None)) as database:
        database.execute("DELETE FROM entries WHERE sequence = 1")
    good(federation.do(ASH, "backup", backup))
    refused(federation.do("again", "restore", backup), "ledger")


def test_a_home_in_pieces_is_refused(federation: Federation, tmp_path: Path) -> None:
    home = federation.at(ASH)
    settings = (home / "client.toml").read_text()
    text = settings.replace('"ledger.sqlite"', '"../ledger.sqlite"')
    assert text != settings
    (home / "client.toml").write_text(text)
    complaint = refused(federation.do(ASH, "backup", tmp_path / "backup"), "lies outside")
    assert "ledger.sqlite" in complaint
    assert not (tmp_path / "backup").exists()


def test_a_servers_backup_is_no_institutions(federation: Federation, tmp_path: Path) -> None:
    good(federation.operate("backup", tmp_path / "backup"))
    refused(federation.do("again", "restore", tmp_path / "backup"), "restore it by fedprune-server")
    with pytest.raises(ConfigError, match=r"client\.toml"):
        archived(tmp_path, 0)
