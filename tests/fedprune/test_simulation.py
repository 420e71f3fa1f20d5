import json
import logging
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

import fedprune
from common.errors import BudgetError, ConfigError, DataError, PlanError
from simulations.consortium import consortium, pooled
from simulations.execute import execute
from simulations.inputs import Federation
from tests.commands import trial_file, trial_plan


@pytest.fixture(scope="module")
def short() -> dict[str, object]:
    return {"training.rounds": 2, "evaluation.rounds": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fedprune.Simulation:
    return fedprune.simulate(trial_plan(), seed=3, out=tmp_path_factory.mktemp("runs") / "run")


def test_a_run_is_that_of_the_command(
    run: fedprune.Simulation, federation: Federation, tmp_path: Path
) -> None:
    assert json.loads((run.directory / "summary.json").read_text()) == run.metrics
    told = execute(federation, 3, 0.0, tmp_path, baselines=True)
    assert {**run.metrics, "seconds": 0} == {**told, "seconds": 0}
    assert (tmp_path / "model.safetensors").read_bytes() == (
        run.directory / "model.safetensors"
    ).read_bytes()
    assert run.plan == federation.plan


def test_results_are_frames(run: fedprune.Simulation) -> None:
    assert [*run.rounds["round"]] == [0, 1, 2, 3, 4]
    assert run.rounds["weights_kept"].iloc[-1] == run.metrics["weights_kept"]
    assert [*run.quality.index] == ["pruned", "dense", "logistic"]
    assert run.quality.loc["pruned", "roc_auc"] == run.metrics["auc"]
    assert run.quality.loc["dense", "weights"] == run.metrics["weights_total"]
    assert (run.shrinkage["bytes_stored"] > 0).all()
    assert run.groups.empty
    assert run.epsilon is not None
    assert 1.5 < run.epsilon <= 2
    assert run.warnings == ()
    assert run.model.directory == run.directory


def test_a_figure_is_drawn_and_left_to_the_caller(run: fedprune.Simulation) -> None:
    figure = run.figure()
    assert figure.axes[0].get_title() == "ROC-AUC"
    assert not plt.get_fignums()


def test_nothing_is_printed_nor_left_and_torch_is_as_it_was(
    short: dict[str, object],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)
    try:
        run = fedprune.simulate(trial_plan(), settings=short, dropout=0.5, baselines=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert capfd.readouterr() == ("", "")
    assert not [*tmp_path.iterdir()]
    assert logging.getLogger("fedprune").handlers
    directory = run.directory
    assert directory.is_dir()
    del run
    assert not directory.exists()


def test_a_failed_run_leaves_no_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(BudgetError):
        fedprune.simulate(trial_plan(), epsilon=1e-7)
    assert not [*tmp_path.iterdir()]


def test_arguments_go_before_settings_and_settings_before_the_plan(
    short: dict[str, object], tmp_path: Path
) -> None:
    settings = {**short, "pruning.score": "random", "privacy.epsilon": 9.0}
    run = fedprune.simulate(
        str(trial_file(tmp_path)), epsilon="none", settings=settings, baselines=False
    )
    plan = run.plan
    assert (plan.privacy.epsilon, plan.pruning.score, plan.training.rounds) == ("none", "random", 2)
    assert run.epsilon is None
    assert run.warnings == (
        "epsilon is none: NO differential privacy, the model may reveal records",
    )
    assert [*run.quality.index] == ["pruned"]


def test_a_frame_is_a_table(short: dict[str, object]) -> None:
    frame = pooled(consortium(institutions=3))
    settings = {**short, "pruning.sparsity": 0.5}
    run = fedprune.simulate(
        data=frame,
        schema="credit_consortium",
        institutions=3,
        settings=settings,
        baselines=False,
    )
    assert len(run.plan.institutions) == 3
    assert run.model.predict(frame.head(3)).between(0, 1).all()
    with pytest.raises(ConfigError, match="the frame: its schema is not known"):
        fedprune.simulate(data=frame)
    with pytest.raises(DataError, match="the frame: column"):
        fedprune.simulate(data=pd.DataFrame({"x": [1]}), schema="credit_consortium")


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ({"settings": {"sparsity": 0.5}}, ConfigError, "'sparsity' has no section: name it as"),
        ({"settings": {"pruning.luck": 1}}, PlanError, "luck"),
        ({"sparsity": 1.2}, PlanError, "sparsity"),
        ({"engine": "steam"}, ConfigError, "unknown engine 'steam'"),
        ({"plan": "nowhere.toml"}, ConfigError, "nowhere.toml"),
    ],
)
def test_what_is_wrong_is_told(
    arguments: dict[str, object], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        fedprune.simulate(**arguments)  # type: ignore[arg-type]
