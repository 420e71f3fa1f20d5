import json
from pathlib import Path

import numpy as np
import pytest

from common.errors import ConfigError
from common.segments import TEST, VALIDATION
from server.report.files import read_run
from tests.reports import histogram, write_run
from tests.support import grouped_plan, small_plan, start_of

PLAN = small_plan()


def test_what_the_store_wrote_is_read_back(tmp_path: Path) -> None:
    plan = grouped_plan()
    run = read_run(write_run(tmp_path, plan))
    assert run.plan == plan
    assert run.number.tolist() == list(range(7))
    assert np.isfinite(run.column("auc_validation")).sum() == 3
    last = run.last_counted(TEST)
    assert last is not None
    assert (last.round, last.part, last.group, last.noise) == (6, TEST, "", 0.0)
    np.testing.assert_array_equal(last.counts, histogram())
    assert run.last_counted(VALIDATION, "sex=f") is not None
    assert run.last_counted(VALIDATION, "sex=x") is None
    assert run.model is not None
    size = start_of(plan).mask.size
    np.testing.assert_array_equal(run.model.mask, np.arange(size) >= 60)
    np.testing.assert_array_equal(
        run.model.weights, start_of(plan).weights * (np.arange(size) >= 60)
    )
    assert {"plan.toml", "rounds.csv", "model.safetensors"} <= run.hashes.keys()


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, PLAN, rounds=0))
    assert (run.rounds, run.groups, run.counted, run.model) == ((), (), (), None)
    assert (run.survivors, run.summary, run.facts, run.shrinkage) == ({}, {}, {}, {})
    assert not run.simulated


def test_survivors_come_from_whole_lines_of_the_journal(tmp_path: Path) -> None:
    write_run(tmp_path, PLAN, rounds=2)
    kept = {"event": "kept", "round": 0, "survivors": ["ash", "elm"]}
    lines = [json.dumps(one) for one in ({"event": "began"}, kept)]
    (tmp_path / "journal.jsonl").write_text("\n".join(lines) + '\n{"event": "ke')
    assert read_run(tmp_path).survivors == {0: ("ash", "elm")}


@pytest.mark.parametrize("name", ["plan.toml", "rounds.csv"])
def test_a_directory_without_a_run_is_refused(tmp_path: Path, name: str) -> None:
    write_run(tmp_path, PLAN, rounds=1)
    (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=f"holds no {name}: name the directory of a run"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rounds.csv", "round,epoch\n1\n"),
        ("rounds.csv", "round,epoch\n1,2,3\n"),
        ("rounds.csv", "round,epoch\none,2\n"),
        ("rounds.csv", "epoch\n2\n"),
        ("counts.csv", "round,part,group,noise,bin,negatives,positives\n1,test,,x,0,1,1\n"),
        ("counts.csv", "round,part\n1,test\n"),
        ("journal.jsonl", "no json\n"),
        ("summary.json", "[1]"),
        ("shrinkage.json", "{"),
        ("model.safetensors", "none"),
    ],
)
def test_a_file_that_no_run_wrote_is_named(tmp_path: Path, name: str, text: str) -> None:
    write_run(tmp_path, PLAN, rounds=1)
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=f"{name}: is not as a run wrote it") as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)
