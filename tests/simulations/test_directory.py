import json
from pathlib import Path

import pytest

from common.errors import ConfigError
from simulations.directory import LOCK, OURS, claimed, write_results


def listing(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_new_directory_is_made_and_kept(tmp_path: Path) -> None:
    with claimed(tmp_path / "runs" / "a") as directory:
        assert directory.is_dir()
        (directory / "rounds.csv").write_text("round\n")
    assert listing(directory) == {LOCK: "", "rounds.csv": "round\n"}


def test_second_run_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with claimed(tmp_path / "a"):
        (tmp_path / "a" / "rounds.csv").write_text("round\n")
        refused = pytest.raises(ConfigError, match=r"a: another run writes here: name another")
        with refused, claimed(tmp_path / "a"):
            raise AssertionError("two runs hold one directory")
        with claimed(tmp_path / "b"):
            assert "rounds.csv" in listing(tmp_path / "a")
    with claimed(tmp_path / "a"):
        assert listing(tmp_path / "a") == {LOCK: ""}


def test_failed_run_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(tmp_path):
        raise ZeroDivisionError
    with claimed(tmp_path) as directory:
        assert directory == tmp_path


def test_earlier_results_are_removed_whole(tmp_path: Path) -> None:
    for name in OURS:
        (tmp_path / name).write_text("old")
    assert {"model.safetensors.partial", "curves.svg"} <= OURS
    with claimed(tmp_path):
        assert listing(tmp_path) == {LOCK: "old"}


def test_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"summary\.json: is a file: name another"), claimed(path):
        raise AssertionError("a file is no directory")
    assert path.read_text() == "{}"


@pytest.mark.parametrize("name", ["thesis.tex", "rounds.csv.bak", ".git"])
def test_directory_of_others_is_left_as_it_was(tmp_path: Path, name: str) -> None:
    before = {name: "years of work", "summary.json": "{}"}
    for path, text in before.items():
        (tmp_path / path).write_text(text)
    with pytest.raises(ConfigError, match="which no run wrote"), claimed(tmp_path):
        raise AssertionError("a directory of others was taken")
    assert listing(tmp_path) == before
    # Not even beside the results of a run.
    (tmp_path / LOCK).write_text("")
    with pytest.raises(ConfigError, match=f"holds '{name}', which no run wrote"), claimed(tmp_path):
        raise AssertionError("a directory of others was taken")
    assert listing(tmp_path) == before | {LOCK: ""}


def test_own_plan_where_no_run_was_is_not_taken_for_a_result(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text("# by hand")
    with pytest.raises(ConfigError, match=r"holds 'plan\.toml'"), claimed(tmp_path):
        raise AssertionError("a plan of the researcher's was taken for a result")
    assert listing(tmp_path) == {"plan.toml": "# by hand"}


def test_results_are_written_whole(tmp_path: Path) -> None:
    write_results(tmp_path, {"auc": 0.7, "rounds": 3}, "<svg/>")
    written = listing(tmp_path)
    assert set(written) == {"summary.json", "curves.svg"}
    assert json.loads(written["summary.json"]) == {"auc": 0.7, "rounds": 3}
    assert written["curves.svg"] == "<svg/>"


def test_summary_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(tmp_path, {"auc": float("nan")}, "<svg/>")
    assert listing(tmp_path) == {}
