"""A server comes back from its backup with everything that it may do, and with its runs."""

import shutil
from collections.abc import Iterable
from itertools import count
from pathlib import Path

import pytest

from common.archive import File
from common.backup import gathered
from common.errors import ConfigError
from server import backup as module
from server.backup import archived
from server.home import ServerHome
from server.journal import JOURNAL
from server.record import CHECKPOINT
from tests.founding import NAMES, Federation, found, good, refused


@pytest.fixture(scope="module")
def _founded(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return found(tmp_path_factory.mktemp("founded"))


@pytest.fixture
def federation(_founded: Federation, tmp_path: Path) -> Federation:
    return _founded.copy_to(tmp_path)


def test_a_restored_server_is_the_server(federation: Federation, tmp_path: Path) -> None:
    server, backup = federation.server, tmp_path / "backup"
    for left_out in ("state/superlink.sqlite", "state/desk.key", "logs/superlink.log"):
        (server / left_out).parent.mkdir(exist_ok=True)
        (server / left_out).write_text("made anew")
    (server / "state" / "adverts-aa.json").write_text("{}")
    said = good(federation.operate("backup", backup)).out
    assert "the private keys among them" in said
    good(federation.operate("restore", backup, home="again"))
    kept = {path: file.data for path, file in archived(federation.path / "again", 0).files.items()}
    before = {path: file.data for path, file in archived(server, 0).files.items()}
    grown = {"audit/log.jsonl", "audit/head"}
    assert kept.keys() == before.keys()
    assert {path for path in kept if kept[path] != before[path]} == grown
    told = kept["audit/log.jsonl"].removeprefix(before["audit/log.jsonl"])
    assert b'"event":"restored"' in told
    assert told.count(b"\n") == 1
    assert {"ca.key", "operator.key", "roster.json", "state/adverts-aa.json"} <= kept.keys()
    everything = {
        path.relative_to(server).as_posix() for path in server.rglob("*") if path.is_file()
    }
    assert everything - kept.keys() == {
        "audit/lock",
        "state/superlink.sqlite",
        "state/desk.key",
        "logs/superlink.log",
    }
    # It can do what only the authority can.
    shutil.rmtree(server)
    (federation.path / "again").rename(server)
    federation.act("revoke-elm", "revoke", "elm")
    assert ServerHome(server).members.keys() == set(NAMES) - {"elm"}
    good(federation.operate("rotate"))


def test_an_operators_folder_is_one_too(federation: Federation, tmp_path: Path) -> None:
    good(federation.operate("backup", tmp_path / "backup", home="bob"))
    assert "operator.key" in archived(federation.path / "bob", 0).files
    complaint = refused(federation.operate("backup", tmp_path / "none", home="nobody"), "no server")
    assert "--home" in complaint


def run_of(home: Path) -> Path:
    out = home / "runs" / "first"
    out.mkdir(parents=True)
    return out


def finish_round(out: Path, number: int) -> None:
    (out / CHECKPOINT).write_text(f"after {number}")
    (out / JOURNAL).write_text("line\n" * number)


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_a_run_is_copied_between_two_of_its_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    out = run_of(tmp_path)
    (tmp_path / "server.toml").touch()
    finish_round(out, 1)
    reads: list[list[str]] = []

    def meanwhile(home: Path, patterns: Iterable[str]) -> dict[str, File]:
        reads.append(list(patterns))
        found = gathered(home, reads[-1])
        if sum(pattern[0].startswith("runs/") for pattern in reads) == moment + 1 and found:
            finish_round(out, 2)
        return found

    monkeypatch.setattr(module, "gathered", meanwhile)
    files = archived(tmp_path, 0).files
    checkpoint, journal = (files[f"runs/first/{name}"].data for name in (CHECKPOINT, JOURNAL))
    assert (checkpoint, journal) in {(b"after 1", b"line\n"), (b"after 2", b"line\n" * 2)}


def test_a_run_that_never_rests_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rounds = run_of(tmp_path), count()
    (tmp_path / "server.toml").touch()

    def busy(home: Path, patterns: Iterable[str]) -> dict[str, File]:
        found = gathered(home, patterns)
        finish_round(out, next(rounds))
        return found

    monkeypatch.setattr(module, "gathered", busy)
    with pytest.raises(ConfigError, match="finishes rounds faster than it is copied"):
        archived(tmp_path, 0)
