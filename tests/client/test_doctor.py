import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.config import load_institution
from client.doctor import examine
from client.entries import Place
from client.spending import budget_of
from common.checkup import Finding
from tests.deployment.federation import Federation, found, make_plan

NOW = datetime.now(UTC)
UNREACHED = {"server"}
"""No server runs here."""


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return found(tmp_path_factory.mktemp("founded"), make_plan())


@pytest.fixture
def home(founded: Federation, tmp_path: Path) -> Path:
    return Path(shutil.copytree(founded.institution("bank-00"), tmp_path / "bank-00"))


def bad(home: Path, now: datetime = NOW) -> dict[str, Finding]:
    return {found.what: found for found in examine(home, now) if found.state == "bad"}


def test_a_server_that_is_down_is_all_that_a_sound_home_lacks(home: Path) -> None:
    found = bad(home)
    assert set(found) == UNREACHED
    assert "is the server up?" in found["server"].remedy


def test_consent_and_authority_run_out(home: Path) -> None:
    soon = {found.what: found for found in examine(home, NOW + timedelta(days=80))}
    assert soon["consent"].state == "note"
    later = bad(home, NOW + timedelta(days=100))
    assert set(later) == {"consent"} | UNREACHED
    assert "approve it" in later["consent"].remedy
    assert set(bad(home, NOW + timedelta(days=3700))) == {"ca.pem", "consent"} | UNREACHED


def test_looking_leaves_nothing_behind(home: Path) -> None:
    """Whoever looks may be another user than `up`, who could not write what it left."""
    for folder in ("audit", "state"):
        shutil.rmtree(home / folder, ignore_errors=True)
    before = sorted(home.rglob("*"))
    times = home.stat().st_mtime_ns
    assert set(bad(home)) == UNREACHED
    assert (sorted(home.rglob("*")), home.stat().st_mtime_ns) == (before, times)


def test_a_ledger_that_is_none_is_told(home: Path) -> None:
    ledger = home / "ledger.sqlite"
    ledger.write_bytes(b"")
    assert set(bad(home)) == UNREACHED
    ledger.write_text("no ledger at all")
    assert "restore the latest backup" in bad(home)["ledger"].remedy


def test_a_node_key_open_to_others_is_told(home: Path) -> None:
    (home / "node.key").chmod(0o644)
    assert bad(home)["node.key"].remedy == f"chmod 0600 {home / 'node.key'}"


def test_a_plan_altered_after_approval_is_told(home: Path) -> None:
    (home / "plan.toml").write_text(make_plan(epsilon=9.0).to_toml())
    assert "read the plan again" in bad(home)["plan and data"].said


def test_a_table_that_does_not_fit_is_told_without_its_content(home: Path) -> None:
    table = (home / "loans.csv").read_text().splitlines()
    table[1] = table[1].replace(table[1].split(",")[0], "secret", 1)
    (home / "loans.csv").write_text("\n".join([table[0].replace(",", ",x", 1), *table[1:]]))
    found = bad(home)
    assert set(found) == {"plan and data"} | UNREACHED
    assert "secret" not in found["plan and data"].said


def test_a_home_without_its_files_is_told(tmp_path: Path) -> None:
    assert set(bad(tmp_path)) == {"ca.pem", "node.key", "client.toml"}


def test_what_was_joined_by_is_to_be_approved(home: Path) -> None:
    shutil.copy(home / "bundle.json", home / "pending.json")
    for name in ("consent.json", "ca.pem"):
        (home / name).unlink()
    assert "fedprune-client approve" in bad(home)["ca.pem"].remedy
    (home / "pending.json").unlink()
    assert bad(home)["ca.pem"].remedy.startswith("join the bundle")


def limit(home: Path, epsilon: float) -> None:
    settings = home / "client.toml"
    settings.write_text(settings.read_text().replace("plan = 9.5", f"plan = {epsilon}"))


def test_a_plan_beyond_the_own_limit_is_told(home: Path) -> None:
    """Else all is good, and every round is refused."""
    limit(home, 1.0)
    found = bad(home)
    assert set(found) == {"budget"} | UNREACHED
    assert "beyond the 1 of limits.plan" in found["budget"].said


def test_an_open_run_goes_on_whatever_another_would_need(home: Path) -> None:
    institution = load_institution(home / "client.toml")
    plan, ledger = institution.plan, institution.ledger
    place, budget = Place("run", plan.digest(), 0, 0), budget_of(plan)
    ledger.charge(place, budget.releases, budget, int(NOW.timestamp()))
    limit(home, 1.0)
    assert set(bad(home)) == UNREACHED
    notes = {found.what: found.said for found in examine(home, NOW) if found.state == "note"}
    assert "for another run than the open one" in notes["budget"]
    ledger.close("run", int(NOW.timestamp()))
    assert set(bad(home)) == {"budget"} | UNREACHED


def test_a_ledger_that_was_altered_is_told(home: Path) -> None:
    institution = load_institution(home / "client.toml")
    institution.ledger.mark("epoch", Place("run", institution.plan.digest(), 0, 0), 1)
    with closing(sqlite3.connect(home / "ledger.sqlite")) as database:
        database.execute("UPDATE entries SET time = 2")
        database.commit()
    assert "was altered" in bad(home)["ledger"].said
