import json
import sys
from dataclasses import replace
from math import inf, isfinite, log2
from pathlib import Path

import pytest

from common.errors import AggregationError
from common.plan import load_plan
from common.privacy.accounting import composed_epsilon
from common.privacy.budgets import accounted_delta, training_mechanism
from common.segments import TEST, VALIDATION, evaluation_mechanism
from simulations import tune as module
from simulations.campaign import CellStore, Failure, attempt
from simulations.cells import Cell
from simulations.cli import main
from simulations.inputs import Federation
from simulations.tune import Search, Tried, best_of, cost_of, tune, tuned
from tests.commands import Outcome, invoke, trial_file, trial_plan

SEARCH = Search(trials=4, seed=5, sparsity=None, worth=0.002)


@pytest.fixture
def small(federation: Federation) -> Federation:
    return replace(federation, plan=trial_plan(training={"rounds": 1}))


def search(federation: Federation, folder: Path, wanted: Search = SEARCH) -> list[Tried]:
    folder.mkdir(exist_ok=True)
    return tune(federation, wanted, CellStore(folder))


def test_seed_decides_the_search(small: Federation, tmp_path: Path) -> None:
    tried = search(small, tmp_path / "a")
    assert tried == search(small, tmp_path / "b")
    assert [one.number for one in tried] == [0, 1, 2, 3]
    other = search(small, tmp_path / "c", replace(SEARCH, seed=6))
    assert [one.parameters for one in other] != [one.parameters for one in tried]


def test_first_trial_is_the_plans_own(small: Federation, tmp_path: Path) -> None:
    (first,) = search(small, tmp_path, replace(SEARCH, trials=1))
    assert first.plan is not None
    assert first.plan.digest() == small.plan.digest()


def test_interrupted_search_goes_on(
    small: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(small, tmp_path / "a")
    search(small, tmp_path / "b", replace(SEARCH, trials=2))
    run = list[int]()

    def counted(cell: Cell) -> object:
        run.append(cell.seed)
        return attempt(cell)

    monkeypatch.setattr(module, "attempt", counted)
    assert search(small, tmp_path / "b") == whole
    tried_before = {SEARCH.seed, SEARCH.seed + 1}
    assert run
    assert tried_before.isdisjoint(run)


def test_value_is_the_private_metric_and_what_smallness_is_worth(
    small: Federation, tmp_path: Path
) -> None:
    for wanted in (SEARCH, replace(SEARCH, sparsity=0.5)):
        for one in search(small, tmp_path / str(wanted.sparsity), wanted):
            if one.outcome is None or one.value is None:
                assert one.reason
                continue
            private = one.outcome.final.private
            assert private is not None
            halvings = log2(one.outcome.weights / one.outcome.kept)
            bonus = 0.002 * halvings if wanted.sparsity is None else 0.0
            assert one.value == pytest.approx(private + bonus)
            if wanted.sparsity is not None:
                assert one.parameters["sparsity"] == 0.5


def test_trials_see_fresh_noise(small: Federation, tmp_path: Path) -> None:
    # The very same plan twice: another seed, another value.
    one = search(small, tmp_path / "a", replace(SEARCH, trials=1))
    two = search(small, tmp_path / "b", replace(SEARCH, trials=1, seed=6))
    assert one[0].plan is not None
    assert two[0].plan is not None
    assert one[0].plan.digest() == two[0].plan.digest()
    assert one[0].value != two[0].value


def test_search_spends_as_much_as_all_its_runs() -> None:
    plans = [tuned(trial_plan(), {"sparsity": 0.1 * index}) for index in range(6)]
    cost, plan = cost_of(plans), plans[0]
    assert cost.training == composed_epsilon(
        [training_mechanism(plan)] * 6, accounted_delta(plan), "rdp"
    )
    for spent, name in ((cost.validation, VALIDATION), (cost.test, TEST)):
        mechanism = evaluation_mechanism(plan, name)
        assert spent == composed_epsilon([mechanism] * 6, plan.privacy.delta, "rdp")
    # More than one run, less than the sum of six.
    assert 2.0 < cost.training < 12.0
    assert cost_of(plans[:1]).training == pytest.approx(2.0, abs=0.01)
    assert cost_of(plans[:5]).training < cost.training
    unbounded = cost_of([trial_plan(privacy={"epsilon": "none"})] * 2)
    assert unbounded.training == inf
    assert isfinite(unbounded.validation)


def test_what_fails_is_told_and_never_best() -> None:
    lost = Tried(0, {}, None, None, None, "would prune protected weights")
    good = Tried(1, {}, trial_plan(), None, 0.7)
    assert best_of([lost, good, replace(good, number=2)]).number == 1
    with pytest.raises(AggregationError, match="no trial has a value"):
        best_of([lost])


def test_failed_trial_does_not_end_the_search(
    small: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def broken(cell: Cell) -> object:
        return Failure("diverged") if cell.seed == SEARCH.seed else attempt(cell)

    monkeypatch.setattr(module, "attempt", broken)
    tried = search(small, tmp_path)
    assert (tried[0].value, tried[0].reason) == (None, "diverged")
    assert any(one.value is not None for one in tried[1:])


def command(*arguments: object) -> Outcome:
    return invoke(main, "tune", *arguments)


def test_command_says_what_the_search_would_spend(tmp_path: Path) -> None:
    plan, out = trial_file(tmp_path, training={"rounds": 1}), tmp_path / "a"
    outcome = command(plan, "--trials", 3, "--sparsity", 0.5, "--out", out)
    assert outcome.code == 0, outcome.err
    summary = json.loads((out / "tune.json").read_text())
    spent = summary["search_epsilon"]
    count = sum(row["weights_kept"] is not None for row in summary["trials"])
    expected = cost_of([trial_plan(training={"rounds": 1})] * count)
    assert spent == {
        "training": pytest.approx(expected.training),
        "validation": pytest.approx(expected.validation),
        "test": pytest.approx(expected.test),
    }
    assert f"would spend epsilon {expected.training:.2f} a training record" in outcome.out
    assert "search on public or synthetic data, or charge it" in outcome.out
    assert "flatters itself" in outcome.out
    assert "so it protects nobody" in outcome.out
    best = load_plan(out / "recommended.toml")
    assert best.pruning.sparsity == 0.5
    assert best.pruning.score == summary["best"]["score"]
    again = command(plan, "--trials", 3, "--sparsity", 0.5, "--json", "--out", out)
    assert again.summary == summary


@pytest.mark.parametrize(
    ("typed", "code", "complaint"),
    [
        (["--sparsity", "most"], 3, "--sparsity 'most' is no number from 0 to below 1"),
        (["--sparsity", "1.2"], 3, "pruning.sparsity 1.2"),
        (["--epsilon", "x"], 3, "'x' is neither a number nor none"),
        (["--trials", "0"], 2, "--trials"),
        (["--worth", "-1"], 2, "--worth"),
    ],
)
def test_wrong_input_is_told(tmp_path: Path, typed: list[str], code: int, complaint: str) -> None:
    outcome = command(trial_file(tmp_path), "--out", tmp_path / "a", *typed)
    assert (outcome.code, outcome.out) == (code, "")
    assert complaint in outcome.err
    assert not (tmp_path / "a").exists()


def test_without_optuna_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "simulations.tune")
    monkeypatch.setitem(sys.modules, "optuna", None)
    outcome = command(trial_file(tmp_path), "--trials", 1, "--out", tmp_path / "a")
    assert outcome.code == 3
    assert outcome.complaint == "optuna is not installed: pip install 'fedprune[tune]'"
