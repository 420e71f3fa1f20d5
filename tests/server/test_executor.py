from pathlib import Path

import pytest

from common.errors import ConfigError
from server.executor import configured


def prepare(home: Path, name: str) -> None:
    (home / "runs" / name).mkdir(parents=True)
    (home / "runs" / name / "plan.toml").touch()


def test_a_run_is_given_paths_of_the_home_alone(tmp_path: Path) -> None:
    prepare(tmp_path, "first")
    assert configured(tmp_path, "first") == {
        "plan": str(tmp_path / "runs" / "first" / "plan.toml"),
        "out": str(tmp_path / "runs" / "first"),
        "roster": str(tmp_path / "roster.json"),
        "state": str(tmp_path / "state"),
    }


@pytest.mark.parametrize("name", ["", ".", "..", "../first", "/etc", "first/", "other", "x" * 65])
def test_another_name_is_no_run(tmp_path: Path, name: str) -> None:
    prepare(tmp_path, "first")
    with pytest.raises(ConfigError, match="is no run here"):
        configured(tmp_path, name)
