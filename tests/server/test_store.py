import csv
import json
import os
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from common.errors import DiskError
from common.export.runtime import onnxruntime
from common.export.sparse_file import read_sparse
from common.facts import metadata_of
from common.model import layout_of
from common.plan import load_plan
from common.pruning.compaction import compact
from common.pruning.masks import unpack_mask
from common.segments import TEST, VALIDATION, count_names
from server.model import GlobalModel
from server.rounds import RoundReport
from server.store import RunStore, round_row
from server.tables import COLUMNS, GROUP_COLUMNS, STAGES
from tests.support import grouped_plan, small_plan, start_of

PLAN = small_plan()
REPORT = RoundReport(
    round=2,
    epoch=3,
    survivors=("ash", "birch", "elm"),
    kept=40,
    sparsity=1 - 40 / 85,
    counts={VALIDATION: np.array([4.0, 1, 1, 4])},
    bytes_up=1_000,
    bytes_down=2_000,
    seconds=0.123456,
)


def model(round_number: int) -> GlobalModel:
    start = start_of(PLAN, round_number)
    mask = np.arange(start.mask.size) % 2 > 0
    return replace(start, weights=(start.weights + round_number) * mask, mask=mask)


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "rounds.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def crash(descriptor: int) -> None:
    raise OSError("power is gone")


def test_plan_is_kept_and_rounds_begin_empty(tmp_path: Path) -> None:
    RunStore(tmp_path / "deep" / "run", PLAN)
    assert load_plan(tmp_path / "deep" / "run" / "plan.toml") == PLAN
    assert (tmp_path / "deep" / "run" / "rounds.csv").read_text().strip() == ",".join(COLUMNS)
    assert rows(tmp_path / "deep" / "run") == []


def test_each_round_is_there_as_soon_as_it_is_kept(tmp_path: Path) -> None:
    store = RunStore(tmp_path, PLAN)
    for round_number in range(3):
        store.keep(model(round_number), replace(REPORT, round=round_number))
        assert [row["round"] for row in rows(tmp_path)] == [str(i) for i in range(round_number + 1)]
        bias = load_file(tmp_path / "model.safetensors")["output.bias"]
        assert (
            bias.tolist()
            == layout_of(PLAN.model, 4).split(model(round_number).weights)["output.bias"].tolist()
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "counts.csv",
        "model.safetensors",
        "plan.toml",
        "rounds.csv",
    ]


def test_row_holds_the_report() -> None:
    row = round_row(REPORT)
    assert {name: row[name] for name in COLUMNS[:10]} == {
        "round": 2,
        "epoch": 3,
        "survivors": 3,
        "weights_kept": 40,
        "sparsity": 0.529412,
        "auc_validation": 0.8,
        "auc_test": "",
        "bytes_up": 1_000,
        "bytes_down": 2_000,
        "seconds": 0.1235,
    }
    assert {name for name in COLUMNS[10:] if row[name] != ""} == {
        name for name in COLUMNS[10:] if VALIDATION in name
    }
    assert row["auc_validation_sd"] == 0
    noised = round_row(replace(REPORT, noise={VALIDATION: 0.1}))
    assert isinstance(noised["auc_validation_sd"], float)
    assert noised["auc_validation_sd"] > 0
    tested = replace(REPORT, counts={TEST: np.array([1.0, 0, 0, 1])})
    assert (round_row(tested)["auc_validation"], round_row(tested)["auc_test"]) == ("", 1)


def test_groups_have_a_file_of_their_own_with_a_row_for_each(tmp_path: Path) -> None:
    plan = grouped_plan()
    store = RunStore(tmp_path, plan)
    path = tmp_path / "groups.csv"
    assert path.read_text().strip() == ",".join(GROUP_COLUMNS)
    counts = {name: np.array([4.0, 1, 1, 4]) for name in count_names(plan, VALIDATION)[:-1]}
    noise = {f"{VALIDATION}/sex=f": 0.1}
    start = start_of(plan)
    store.keep(start, replace(REPORT, counts={}))
    store.keep(start, replace(REPORT, counts=counts, noise=noise))
    with path.open(newline="") as file:
        found = {row["group"]: row for row in csv.DictReader(file)}
    groups = ["sex=f", "sex=m", "age<30", "30<=age<50", "50<=age", "age=missing"]
    assert list(found) == [*groups, "pool:north", "pool:south"]
    man = found["sex=m"]
    assert [man[key] for key in ("round", "part", "auc", "auc_sd")] == [
        "2",
        "validation",
        "0.8",
        "0.0",
    ]
    assert (man["positives"], man["negatives"]) == ("5.0", "5.0")
    assert float(found["sex=f"]["auc_sd"]) > 0
    # A pool that was not looked at is named, and nothing of it is told.
    unread = found["pool:south"]
    assert {name for name, cell in unread.items() if cell} == {"round", "part", "group"}
    assert [row["auc_validation"] for row in rows(tmp_path)] == ["", "0.8"]


def test_model_is_read_back_bit_for_bit_with_its_mask(tmp_path: Path) -> None:
    kept = model(1)
    RunStore(tmp_path, PLAN).keep(kept, REPORT)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    layout = layout_of(PLAN.model, PLAN.schema_.width)
    assert list(layout.split(kept.weights)) == [entry.name for entry in layout.entries]
    for name, tensor in layout.split(kept.weights).items():
        assert tensors[name].tobytes() == tensor.tobytes()
        assert tensors[name].shape == tensor.shape
    assert set(tensors) == {entry.name for entry in layout.entries} | {"mask"}
    mask = unpack_mask(tensors["mask"].tobytes(), layout.size)
    np.testing.assert_array_equal(mask, kept.mask)
    assert not np.array_equal(mask, start_of(PLAN).mask)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert metadata["plan_sha256"] == PLAN.digest()
    assert json.loads(metadata["model"]) == PLAN.model.model_dump(mode="json")
    assert json.loads(metadata["features"]) == list(PLAN.schema_.feature_names)


def test_a_finished_run_leaves_the_model_in_each_form(tmp_path: Path) -> None:
    store, last = RunStore(tmp_path, PLAN), model(2)
    ticks = count()
    shrank = store.finish(last, lambda: next(ticks) / 1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "compact.safetensors",
        "counts.csv",
        "facts.json",
        "model.onnx",
        "model.sparse",
        "plan.toml",
        "rounds.csv",
        "shrinkage.json",
    ]
    small = compact(PLAN.model, 4, last.weights, last.mask)
    features = np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(["logit"], {"features": features})
    np.testing.assert_allclose(logits, small.forward(features), rtol=1e-6, atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map == metadata_of(PLAN)
    sparse = read_sparse((tmp_path / "model.sparse").read_bytes())
    assert sparse.metadata == metadata_of(PLAN)
    np.testing.assert_array_equal(sparse.model.forward(features), small.forward(features))
    tensors = load_file(tmp_path / "compact.safetensors")
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        name: tensor.shape for name, tensor in small.tensors.items()
    }
    assert json.loads((tmp_path / "shrinkage.json").read_text()) == shrank
    for name, file in (("compact", "compact.safetensors"), ("sparse", "model.sparse")):
        assert shrank[name]["bytes_stored"] == (tmp_path / file).stat().st_size
    assert shrank["compact"]["neurons"] == sum(small.sizes) < shrank["dense"]["neurons"]
    # A clock that ticks 1 ms whenever it is read: a turn of k calls took 1 / k.
    assert shrank["dense"]["latency_ms"] == pytest.approx({"1": 0.02, "256": 1, "65536": 1})
    assert shrank["compact"]["latency_ms"] == shrank["dense"]["latency_ms"]


def test_a_crash_while_a_round_is_kept_leaves_the_last_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path, PLAN)
    store.keep(model(0), replace(REPORT, round=0))
    before = {name: (tmp_path / name).read_bytes() for name in ("rounds.csv", "model.safetensors")}
    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(DiskError, match="power is gone: make room"):
        store.keep(model(1), replace(REPORT, round=1))
    for name, content in before.items():
        assert (tmp_path / name).read_bytes() == content


def test_counts_are_kept_as_they_were_opened(tmp_path: Path) -> None:
    plan = grouped_plan()
    store = RunStore(tmp_path, plan)
    women = f"{VALIDATION}/sex=f"
    counts = {VALIDATION: np.array([4.0, 1, -1, 4]), women: np.array([1.0, 0, 0, 2])}
    store.keep(start_of(plan), replace(REPORT, counts=counts, noise={VALIDATION: 0.5}))
    with (tmp_path / "counts.csv").open(newline="") as file:
        found = [tuple(row.values()) for row in csv.DictReader(file)]
    assert found == [
        ("2", "validation", "", "0.5", "0", "4", "-1"),
        ("2", "validation", "", "0.5", "1", "1", "4"),
        ("2", "validation", "sex=f", "0.0", "0", "1", "0"),
        ("2", "validation", "sex=f", "0.0", "1", "0", "2"),
    ]


def test_seconds_of_a_trip_that_was_not_made_are_empty() -> None:
    row = round_row(replace(REPORT, stages={"update": 0.25, "unmask": 0.5}))
    assert [row[f"seconds_{stage}"] for stage in STAGES] == ["", 0.25, "", 0.5]
