import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from common.bill import installed_bill
from common.errors import ConfigError
from tests.supply.lock import locked_bill, pinned, project

BUILDS = re.compile("cuda|nvidia|triton")
"""Of a CUDA build of torch, which the lock leaves out."""


def test_a_lock_pins_for_this_machine(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(
        "# made by hand\nRich==14.3.4\n\n"
        "old==1 ; python_full_version < '3.0'\nold==2 ; python_full_version >= '3.0'\n"
        "never==1 ; sys_platform == 'never'\n"
    )
    pins = pinned(lock)
    assert {name: str(line.specifier) for name, line in pins.items()} == {
        "rich": "==14.3.4",
        "old": "==2",
    }


def test_the_lock_is_what_the_project_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    metadata = tmp_path / "fedprune-9.dist-info/METADATA"
    metadata.parent.mkdir()
    needs = [f"Requires-Dist: {line}" for line in project()["project"]["dependencies"]]
    metadata.write_text("\n".join(["Name: fedprune", "Version: 9", *needs]) + "\n")
    installed = [part.name for part in installed_bill().components if not BUILDS.search(part.name)]
    assert installed == sorted(pinned())


def test_what_is_installed_is_what_is_locked() -> None:
    bill = locked_bill(pinned())
    assert len(bill.components) > 60
    assert set(bill.root.needs) <= {part.name for part in bill.components}


def test_another_version_than_the_locked_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"flwr 1.41.0 is installed, .* ==1.40.0: run `make set"):
        locked_bill({"flwr": Requirement("flwr==1.40.0")})
    with pytest.raises(ConfigError, match="never-heard-of is not installed"):
        locked_bill({"never-heard-of": Requirement("never-heard-of==1")})
