from pathlib import Path

import pandas as pd
import pytest

import fedprune
from common.errors import ConfigError
from common.plan import load_plan
from tests.commands import trial_plan


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> fedprune.Comparison:
    return fedprune.compare(
        trial_plan(training={"rounds": 1, "steps": 1}),
        scores=["magnitude"],
        sparsities=[0.5],
        epsilons=["none", 2.0],
        seeds=2,
        rank="exact",
        out=tmp_path_factory.mktemp("runs") / "compared",
    )


def test_the_table_is_that_of_the_file(compared: fedprune.Comparison) -> None:
    written = pd.read_csv(compared.directory / "compare.csv", keep_default_na=False)
    assert [*compared.table["model"]] == [*written["model"]]
    assert [*compared.table.columns] == [*written.columns]
    assert set(compared.table["kind"]) == {"pruned", "random", "same size", "dense", "logistic"}


def test_a_model_is_recommended_at_each_budget(compared: fedprune.Comparison) -> None:
    assert [*compared.advice.index] == ["none", 2.0]
    assert compared.advice["reason"].str.len().min() > 0
    first = compared.recommended
    assert first.digest() == load_plan(compared.directory / "recommended.toml").digest()
    assert first.privacy.epsilon == "none"
    second = compared.recommended_at(2.0)
    assert (second.privacy.epsilon, second.pruning.sparsity) == (2.0, 0.5)
    with pytest.raises(KeyError):
        compared.recommended_at(3.0)


def test_its_figure_has_every_kind(compared: fedprune.Comparison) -> None:
    (axes,) = compared.figure(2.0).axes
    labels = axes.get_legend_handles_labels()[1]
    assert {"dense", "logistic", "magnitude weight", "random weight"} <= {*labels}


def test_a_recommended_plan_is_run_as_it_is(compared: fedprune.Comparison) -> None:
    run = fedprune.simulate(compared.recommended, baselines=False)
    assert run.plan.digest() == compared.recommended.digest()


def test_the_same_call_goes_on(
    compared: fedprune.Comparison, capfd: pytest.CaptureFixture[str]
) -> None:
    cells = {file.name: file.stat().st_mtime_ns for file in compared.directory.glob("cells/*")}
    again = fedprune.compare(
        compared.plan,
        scores=["magnitude"],
        sparsities=[0.5],
        epsilons=["none", 2.0],
        seeds=2,
        rank="exact",
        out=compared.directory,
    )
    assert {f.name: f.stat().st_mtime_ns for f in compared.directory.glob("cells/*")} == cells
    assert again.summary == compared.summary
    assert capfd.readouterr() == ("", "")


def test_an_unknown_score_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown pruning score 'luck'"):
        fedprune.compare(trial_plan(), scores=["luck"], out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
