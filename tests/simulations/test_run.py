"""Whole federations: pruned exactly, private as planned, the same whether masked or not."""

from dataclasses import dataclass, field
from math import inf

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict
from scipy.stats import ks_2samp
from sklearn.metrics import average_precision_score, roc_auc_score

from client.data import Splits
from common.entropy import SeededEntropy
from common.errors import AggregationError, DataError
from common.model import Network, layout_of
from common.plan import Plan
from common.pruning.rules import deepest
from common.pruning.schedules import sparsity_after
from server.evaluation import metrics
from server.model import GlobalModel
from server.rounds import RoundReport, initial_model
from simulations.departures import STAGES, departures
from simulations.grid import InProcessGrid
from simulations.run import Run, exact_metrics, simulate
from tests.support import all_splits, small_plan, small_splits

PLAN = small_plan()
SPLITS = all_splits(PLAN)
QUIET = {"privacy": {"epsilon": "none"}, "training": {"rounds": 10, "steps": 10}}


@dataclass
class Watched:
    """A run and everything that was seen of it."""

    run: Run
    seen: list[tuple[GlobalModel, RoundReport]] = field(default_factory=list)

    def __call__(self, model: GlobalModel, report: RoundReport) -> None:
        self.seen.append((model, report))


def simulated(
    plan: Plan = PLAN,
    seed: int = 0,
    dropout: float = 0.0,
    splits: dict[str, Splits] = SPLITS,
) -> Watched:
    watched = Watched(Run(plan))
    simulate(watched.run, splits, seed, dropout, watched)
    return watched


def bits(watched: Watched) -> bytes:
    """Return everything that a run decided, bit for bit."""
    parts = [model.weights.tobytes() + model.mask.tobytes() for model, _ in watched.seen]
    counts = [values.tobytes() for _, report in watched.seen for values in report.counts.values()]
    return b"".join(parts + counts)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"model": {"kind": "mlp"}},
        {"model": {"kind": "logistic"}, "pruning": {"sparsity": 0.5}},
        {"privacy": {"epsilon": "none"}, "pruning": {"biases": True, "sparsity": 0.9}},
    ],
)
def test_masks_are_nested_and_sparsity_exact_after_every_round(sections: dict[str, object]) -> None:
    plan = small_plan(**sections)
    size = layout_of(plan.model, plan.schema_.width).size
    protected = layout_of(plan.model, plan.schema_.width).protected(biases=plan.pruning.biases)
    before = np.ones(size, np.bool_)
    watched = simulated(plan)
    for model, report in watched.seen:
        due = sparsity_after(plan, min(report.round + 1, plan.training.rounds))
        assert model.kept == round(size * (1 - due))
        assert not (model.mask & ~before).any()
        assert model.mask[protected].all()
        np.testing.assert_array_equal(model.weights != 0, model.mask)
        before = model.mask
    assert before.sum() == round(size * (1 - deepest(plan))) < size
    assert len(watched.seen) == plan.training.rounds + 1


def test_secure_and_plain_runs_agree_bit_for_bit() -> None:
    secure = simulated()
    plain = simulated(small_plan(aggregation={"kind": "plain"}))
    assert bits(secure) == bits(plain)
    # A vector is as long masked as not; keys and shares come on top.
    for (_, masked), (_, bare) in zip(secure.seen, plain.seen, strict=True):
        assert masked.bytes_up > bare.bytes_up > 0


def test_another_seed_is_another_run() -> None:
    assert bits(simulated(seed=1)) == bits(simulated(seed=1)) != bits(simulated(seed=2))


def test_dropout_keeps_secure_runs_reproducible() -> None:
    assert bits(simulated(seed=3, dropout=0.2)) == bits(simulated(seed=3, dropout=0.2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_runs_with_dropouts_complete(seed: int) -> None:
    watched = simulated(seed=seed, dropout=0.2)
    present = [len(report.survivors) for _, report in watched.seen]
    assert len(present) == 7
    assert min(present) < 4
    assert set(present) <= {0, 3, 4}
    assert watched.run.final.kept == round(85 * 0.25)
    # A repeated round takes an epoch beyond the one whose keys were sent ahead.
    assert watched.run.final.epoch >= 7


def test_too_many_dropouts_end_the_run_and_keep_its_rounds() -> None:
    watched = Watched(Run(small_plan(aggregation={"attempts": 1})))
    with pytest.raises(AggregationError, match="could not be completed by 3 institutions"):
        simulate(watched.run, SPLITS, 0, 0.35, watched)
    assert 0 < len(watched.run.reports) == len(watched.seen) < 7
    assert watched.run.final is watched.seen[-1][0]
    assert watched.run.finished == len(watched.seen)


def test_nobody_there_at_all_leaves_no_model() -> None:
    watched = Watched(Run(small_plan(aggregation={"attempts": 1})))
    with pytest.raises(AggregationError, match="rounds in a row"):
        simulate(watched.run, SPLITS, 0, 1.0, watched)
    assert watched.seen == []
    with pytest.raises(AggregationError, match="no round was finished"):
        _ = watched.run.final


def test_interruption_keeps_the_finished_rounds() -> None:
    run = Run(PLAN)

    def interrupt(model: GlobalModel, report: RoundReport) -> None:
        if report.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(run, SPLITS, 0, watch=interrupt)
    assert [report.round for report in run.reports] == [0, 1, 2]
    assert run.finished == 3


def test_epsilon_is_what_the_finished_rounds_have_spent() -> None:
    run = simulated().run
    assert run.finished == 6  # the last report is an evaluation
    assert 0.999 <= run.epsilon <= 1
    half = Run(PLAN, reports=run.reports[:3])
    assert 0 < half.epsilon < 0.95 * run.epsilon
    assert Run(PLAN).epsilon == 0
    loud = Run(small_plan(privacy={"epsilon": "none"}), reports=run.reports)
    assert loud.epsilon == inf


def test_an_unfit_table_is_refused_before_the_first_round() -> None:
    few = SPLITS | {"elm": small_splits(3, rows=30)}
    with pytest.raises(DataError, match=r"22 training rows are fewer than one batch of 28\.8"):
        simulated(splits=few)


def test_training_without_noise_learns_what_noise_hides() -> None:
    test = {name: part.test for name, part in SPLITS.items()}
    quiet = small_plan(**QUIET)
    learned = simulated(quiet)
    auc, pr_auc, _ = exact_metrics(learned.run.final, quiet, test)
    # The labels' own log-odds reach .72 on these rows.
    assert auc > 0.65
    assert pr_auc > 0.65
    untrained = initial_model(quiet, SeededEntropy(0).stream("initial-weights"))
    assert auc > exact_metrics(untrained, quiet, test)[0] + 0.1
    counted = metrics(learned.seen[-1][1].counts["test"])
    assert counted.roc_auc == pytest.approx(auc, abs=0.03)
    assert counted.positives == sum(part.labels.sum() for part in test.values())


def test_exact_metrics_are_of_the_pooled_rows() -> None:
    model = simulated().run.final
    test = {name: part.test for name, part in SPLITS.items()}
    network = Network(PLAN.model, PLAN.schema_.width)
    network.load(model.weights, model.mask)
    features = np.concatenate([part.features for part in test.values()])
    labels = np.concatenate([part.labels for part in test.values()])
    with torch.no_grad():
        logits = network(torch.from_numpy(features)).numpy()
    auc, pr_auc, ks = exact_metrics(model, PLAN, test)
    assert auc == pytest.approx(roc_auc_score(labels, logits))
    assert pr_auc == pytest.approx(average_precision_score(labels, logits))
    assert ks == pytest.approx(ks_2samp(logits[labels == 1], logits[labels == 0]).statistic)
    assert exact_metrics(model, PLAN, {"ash": test["ash"]})[0] != auc


def departed(seed: int, rate: float) -> dict[tuple[int, str], list[bool]]:
    """Return for each node and attempt at which trips it is absent."""
    InProcessGrid(lambda: None, [])  # type: ignore[arg-type] # gives this process a run
    leaves = departures(seed, rate)
    return {
        (node, group): [
            leaves(node, Message(RecordDict(), node, trip, group_id=group).metadata)
            for trip in STAGES
        ]
        for node in range(2, 42)
        for group in ("0/1", "0/2", "1/3", "2/4", "3/5")
    }


def test_departures_have_their_rate_and_last_for_the_attempt() -> None:
    gone = departed(0, 0.3)
    leavers = [trips for trips in gone.values() if any(trips)]
    assert abs(len(leavers) / len(gone) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(gone))
    assert all(trips == sorted(trips) for trips in gone.values())
    firsts = np.bincount([trips.index(True) for trips in leavers], minlength=3)
    assert firsts.min() > 0
    assert departed(0, 0.3) == gone != departed(1, 0.3)


def test_nobody_departs_at_rate_zero_nor_before_joining() -> None:
    assert not any(any(trips) for trips in departed(0, 0.0).values())
    assert all(trips[-1] for trips in departed(0, 1.0).values())
    join = Message(RecordDict(), 2, "query.join", group_id="join")
    assert not departures(0, 1.0)(2, join.metadata)
