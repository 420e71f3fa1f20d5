import shutil
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.checkup import Finding, clock, disk, show
from common.errors import FedpruneError
from common.secret_files import PASSPHRASE
from server.doctor import examine
from tests.deployment.federation import Authority, Federation, found, make_plan
from tests.founding import put_under_passphrase

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return found(tmp_path_factory.mktemp("founded"), make_plan())


@pytest.fixture
def home(founded: Federation, tmp_path: Path) -> Path:
    return Path(shutil.copytree(founded.server, tmp_path / "server"))


def bad(home: Path, now: datetime = NOW) -> dict[str, Finding]:
    return {found.what: found for found in examine(home, now) if found.state == "bad"}


def test_a_sound_home_has_no_bad_finding(home: Path) -> None:
    assert bad(home) == {}


def test_a_certificate_runs_out_with_notice(home: Path) -> None:
    soon = {found.what: found for found in examine(home, NOW + timedelta(days=350))}
    assert soon["server.pem"].state == "note"
    assert soon["consent"].said.startswith("expired on")
    later = bad(home, NOW + timedelta(days=400))
    assert set(later) == {"server.pem", "consent"}
    assert later["server.pem"].said.startswith("expired on")
    assert "fedprune-server rotate" in later["server.pem"].remedy


def test_consent_runs_out_with_notice(home: Path) -> None:
    def consent(days: int) -> Finding:
        found = {one.what: one for one in examine(home, NOW + timedelta(days=days))}
        return found["consent"]

    assert [consent(days).state for days in (0, 70, 80, 91)] == ["good", "good", "note", "bad"]
    assert "every member join and approve" in consent(91).remedy
    (home / "bundle.json").unlink()
    assert consent(0).state == "note"
    (home / "bundle.json").write_text("{")
    assert consent(0).state == "bad"


@pytest.mark.parametrize(
    ("state", "judged"), [(0, "good"), (1, "good"), (5, "note"), (None, "note")]
)
def test_a_clock_that_nothing_sets_is_told(
    state: int | None, judged: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.checkup._clock_state", lambda: state)
    assert {one.what: one.state for one in examine(home, NOW)}["clock"] == judged


def test_the_kernel_is_asked_about_the_clock() -> None:
    (found,) = clock()
    assert found.what == "clock"


def test_looking_leaves_nothing_behind(home: Path) -> None:
    shutil.rmtree(home / "state", ignore_errors=True)
    before, times = sorted(home.rglob("*")), home.stat().st_mtime_ns
    assert bad(home) == {}
    assert (sorted(home.rglob("*")), home.stat().st_mtime_ns) == (before, times)


def test_a_folder_that_may_not_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The right is asked for, since whoever runs the tests may be root, who has every right.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    (found,) = disk(tmp_path)
    assert found.remedy == f"give this user the right to write in {tmp_path}"


def test_a_clock_that_is_behind_is_told(home: Path) -> None:
    found = bad(home, NOW - timedelta(days=30))
    assert set(found) == {"ca.pem", "server.pem"}
    assert found["ca.pem"].remedy == "set this machine's clock"


def test_a_key_open_to_others_is_told(home: Path) -> None:
    (home / "server.key").chmod(0o640)
    (found,) = bad(home).values()
    assert (found.what, found.said) == ("server.key", "mode 0640 lets others at it")


def test_a_key_under_a_passphrase_is_looked_into_by_whoever_has_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_under_passphrase(home / "server.key", "right")
    pair = {found.what: found for found in examine(home, NOW)}["key pair"]
    assert (pair.state, pair.said) == ("note", "server.key is under a passphrase: not looked into")
    monkeypatch.setenv(PASSPHRASE, "wrong")
    assert "the passphrase is wrong" in bad(home)["key pair"].said
    monkeypatch.setenv(PASSPHRASE, "right")
    assert bad(home) == {}


def test_a_certificate_of_another_authority_is_told(home: Path) -> None:
    Authority.make().issue(home)
    assert set(bad(home)) == {"issuer"}


def test_a_certificate_without_its_key_is_told(home: Path) -> None:
    kept = (home / "server.pem").read_bytes()
    Authority.make().issue(home)
    (home / "server.pem").write_bytes(kept)
    assert set(bad(home)) == {"key pair"}


def test_another_name_is_told(home: Path) -> None:
    (home / "server.toml").write_text('address = "bank.example:9092"\nlisten = "127.0.0.1"\n')
    assert "not made out to bank.example" in bad(home)["name"].said


def test_a_taken_port_is_told(home: Path, founded: Federation) -> None:
    host, port = founded.address.split(":")
    with socket.create_server((host, int(port))):
        assert set(bad(home)) == {"port"}


def test_files_that_are_missing_are_told(tmp_path: Path) -> None:
    found = bad(tmp_path)
    assert {"ca.pem", "server.pem", "server.key", "issuer", "server.toml"} <= set(found)
    assert all(finding.remedy for finding in found.values())


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.checkup.FREE_BYTES", 1 << 62)
    (found,) = disk(tmp_path)
    assert (found.state, found.remedy) == ("bad", "make room: ledger and journal need 1 GiB")


def test_a_bad_finding_ends_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    show([Finding("disk", "good", "free")])
    with pytest.raises(FedpruneError, match="not ready: port"):
        show([Finding("disk", "good", "free"), Finding("port", "bad", "taken", "stop it")])
    assert "bad   port  taken" in capsys.readouterr().out


def test_a_finding_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show([Finding("members", "note", "ash\ngood  clock\x1b[2J", "look\x1b[2J")])
    said = capsys.readouterr()
    assert said.out == "note  members  ash good  clock [2J\n"
    assert "\x1b" not in said.err
