import csv
import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click import unstyle
from safetensors.numpy import load_file

from server.model import GlobalModel
from server.rounds import RoundReport
from server.store import RunStore
from simulations import execute as module
from simulations.execute import execute
from simulations.inputs import Federation


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "rounds.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def shrinkage_of(directory: Path) -> dict[str, Any]:
    forms: dict[str, Any] = json.loads((directory / "shrinkage.json").read_text())
    return forms


def test_results_agree_with_the_summary(federation: Federation, tmp_path: Path) -> None:
    summary = execute(federation, 3, 0.0, tmp_path, baselines=False)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert [int(row["round"]) for row in rows(tmp_path)] == [0, 1, 2, 3, 4]
    last = rows(tmp_path)[-1]
    assert int(last["weights_kept"]) == summary["weights_kept"]
    assert float(last["auc_test"]) == pytest.approx(summary["auc_private"], abs=1e-6)
    assert (summary["seed"], summary["interrupted"]) == (3, False)
    assert not [key for key in summary if key.endswith(("_dense", "_logistic"))]
    assert {path.name for path in tmp_path.iterdir()} == {
        "summary.json",
        "rounds.csv",
        "plan.toml",
        "model.safetensors",
        "curves.svg",
        "model.onnx",
        "model.sparse",
        "compact.safetensors",
        "shrinkage.json",
        "counts.csv",
        "facts.json",
        "report.html",
        "model-card.md",
        "model-card.json",
        "validation.html",
    }
    shrank = shrinkage_of(tmp_path)
    assert [form.pop("latency_ms", {}).keys() for form in shrank.values()] == [
        {"1", "256", "65536"},
        {"1", "256", "65536"},
        set(),
    ]
    assert shrank == summary["shrinkage"]


@pytest.mark.usefixtures("terminal")
def test_baselines_are_trained_on_request(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = execute(federation, 0, 0.0, tmp_path, baselines=True)
    for name in ("dense", "logistic"):
        assert 0.6 < summary[f"auc_{name}"] < 0.9
    assert summary["weights_dense"] == summary["weights_total"] > summary["weights_logistic"]
    captured = capsys.readouterr()
    assert captured.out == ""
    # A bar each: five rounds for the run, three times five for a baseline.
    assert [line.split()[0] for line in unstyle(captured.err).splitlines() if line] == [
        "pruned",
        "logistic",
        "dense",
    ]
    assert captured.err.count(" 15/15 ") == 2


def test_one_seed_gives_one_model_and_another_seed_another(
    federation: Federation, tmp_path: Path
) -> None:
    models = []
    for index, seed in enumerate((0, 0, 1)):
        execute(federation, seed, 0.0, tmp_path / str(index), baselines=False)
        tensors = load_file(tmp_path / str(index) / "model.safetensors")
        models.append(np.concatenate([tensors[name].ravel() for name in sorted(tensors)]))
    assert np.array_equal(models[0], models[1])
    assert not np.array_equal(models[0], models[2])


def interrupting(keep: Callable[..., None], after: int) -> Callable[..., None]:
    """Return ``keep`` with Ctrl-C pressed while it writes its round number ``after``."""

    def pressed(store: RunStore, model: GlobalModel, report: RoundReport) -> None:
        if report.round == after:
            signal.raise_signal(signal.SIGINT)
        keep(store, model, report)

    return pressed


def test_ctrl_c_keeps_what_is_finished_whole(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunStore, "keep", interrupting(RunStore.keep, 1))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        summary = execute(federation, 0, 0.0, tmp_path, baselines=True)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, previous)
    assert (summary["interrupted"], summary["rounds"]) == (True, 2)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    # The press came before the second round was written, and was answered after.
    assert len(rows(tmp_path)) == 2
    assert summary["auc_private"] is None
    assert "auc_dense" not in summary
    packed = load_file(tmp_path / "model.safetensors")["mask"]
    assert int(np.unpackbits(packed).sum()) == summary["weights_kept"]
    assert shrinkage_of(tmp_path)["sparse"] == summary["shrinkage"]["sparse"]
    assert (tmp_path / "model.onnx").is_file()


def test_ignored_ctrl_c_stays_ignored(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunStore, "keep", interrupting(RunStore.keep, 1))
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        summary = execute(federation, 0, 0.0, tmp_path, baselines=False)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert (summary["interrupted"], summary["rounds"]) == (False, 4)


def test_run_needs_no_main_thread(federation: Federation, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        summary = pool.submit(execute, federation, 0, 0.0, tmp_path, baselines=False).result()
    assert (summary["interrupted"], summary["rounds"]) == (False, 4)


def test_ctrl_c_before_the_first_round_leaves_no_summary(
    federation: Federation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def press(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "simulate", press)
    with pytest.raises(KeyboardInterrupt):
        execute(federation, 0, 0.0, tmp_path, baselines=True)
    assert "interrupted: 0 finished rounds are kept" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"plan.toml", "rounds.csv", "counts.csv"}
    assert rows(tmp_path) == []


def test_ctrl_c_in_a_baseline_keeps_the_run(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_baseline", press)
    summary = execute(federation, 0, 0.0, tmp_path, baselines=True)
    assert (summary["interrupted"], summary["rounds"]) == (True, 4)
    assert summary["auc_private"] is not None
    assert "auc_logistic" not in summary
