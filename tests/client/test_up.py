"""What an institution's processes go by, when what was approved says otherwise than before."""

import sys
from pathlib import Path

import pytest

from client.config import load_config
from client.consent import PIN
from client.supernode import read_from_files
from client.up import Whereabouts, children, greeting
from common.consent.approval import Pin
from common.handover import AskedOnce
from common.processes import Child, write_secret

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs memfd_create")
HASHES = dict.fromkeys(("charter", "authority", "plan_hash", "roster_hash"), "0" * 64)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    (tmp_path / "client.toml").write_text('name = "ash"\ndata = "records.csv"\n')
    for name in ("node.key", "ca.pem"):
        write_secret(tmp_path / name, name.encode())
    approve(tmp_path, "fed.example:9092")
    return tmp_path


def approve(home: Path, address: str, expires: int = 2**31) -> None:
    fields = {"federation": "small", "expires": expires, "address": address} | HASHES
    pin = Pin.model_validate(fields)
    write_secret(home / PIN, pin.to_bytes())


def supernode(home: Path, whereabouts: Whereabouts) -> Child:
    return children(home, whereabouts.file, 4242, AskedOnce(lambda: ""))[0]


def dialled(child: Child) -> str:
    """Return the address that the SuperNode dials when it is started now."""
    arguments = read_from_files(child.command)
    return arguments[arguments.index("--superlink") + 1]


def test_a_server_that_moved_is_dialled_where_it_was_approved_to_be(home: Path) -> None:
    whereabouts = Whereabouts(home)
    child = supernode(home, whereabouts)
    assert child.handed is not None
    assert dialled(child) == "fed.example:9092"
    approve(home, "moved.example:443")
    whereabouts()
    assert child.handed.renewed(), "a SuperNode that runs starts again"
    assert dialled(child) == "moved.example:443"
    # A longer consent, or another plan, takes nobody out of a round.
    approve(home, "moved.example:443", expires=2**32)
    whereabouts()
    assert not child.handed.renewed()


def test_a_table_that_is_missing_is_said_at_the_start(home: Path) -> None:
    first, warning = greeting(home, load_config(home / "client.toml"))
    assert "dials fed.example:9092" in first
    assert str(home / "logs" / "executor.log") in first
    assert warning.startswith(f"WARNING: {home / 'records.csv'}: no such file")
    (home / "records.csv").touch()
    assert [*greeting(home, load_config(home / "client.toml"))] == [first]


def test_settings_that_are_broken_are_told_once(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whereabouts = Whereabouts(home)
    (home / "client.toml").write_text("name =")
    for _ in range(5):
        whereabouts()
    assert caplog.text.count("the server is looked for where it was") == 1


def test_what_cannot_be_read_leaves_it_where_it_was(home: Path) -> None:
    whereabouts = Whereabouts(home)
    child = supernode(home, whereabouts)
    assert child.handed is not None
    (home / PIN).write_text("{}")
    whereabouts()
    (home / PIN).unlink()
    whereabouts()
    assert not child.handed.renewed()
    assert dialled(child) == "fed.example:9092"
    (home / "client.toml").unlink()
    whereabouts()
    assert dialled(child) == "fed.example:9092"
