"""The life of a run: what each round leaves behind, repeats, losses and their limits."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from client.policy import EpochReplayedError, RoundOpenedError
from common.crypto import secagg
from common.entropy import Entropy, SeededEntropy, SystemEntropy
from common.errors import AggregationError, PlanError
from common.model import layout_of
from common.plan import Plan
from common.pruning.schedules import sparsity_after
from server.aggregation import Attempt
from server.model import GlobalModel
from server.rounds import RoundReport, initial_model, run_rounds
from simulations.grid import Absent, nobody_leaves
from tests.support import connect, count_training, leaving, node_of, small_plan

SECURE = small_plan()
PLAIN = small_plan(aggregation={"kind": "plain"})
Rounds = list[tuple[GlobalModel, RoundReport]]


def start(plan: Plan) -> GlobalModel:
    return initial_model(plan, SeededEntropy(0).stream("initial-weights"))


def rounds_of(
    plan: Plan, absent: Absent = nobody_leaves, entropy: Entropy | None = None
) -> Iterator[tuple[GlobalModel, RoundReport]]:
    """Run a plan over real client apps."""
    exchange, _ = connect(plan, absent, entropy)
    return run_rounds(start(plan), plan, "run", exchange)


@pytest.fixture(scope="module")
def finished() -> Rounds:
    """Return all rounds of an undisturbed run."""
    return list(rounds_of(SECURE))


def test_a_run_is_its_rounds_and_the_final_evaluation(finished: Rounds) -> None:
    assert [report.round for _, report in finished] == list(range(7))
    assert [report.epoch for _, report in finished] == list(range(1, 8))
    assert all(report.survivors == SECURE.names for _, report in finished)
    counted = [sorted(report.counts) for _, report in finished]
    both = ["test", "validation"]
    assert counted == [[], [], ["validation"], [], ["validation"], [], both]
    last = finished[-1][1].counts
    assert (last["validation"].sum(), last["test"].sum()) == (4 * 16, 4 * 40)
    np.testing.assert_array_equal(finished[-1][0].weights, finished[-2][0].weights)


def test_masks_are_nested_exact_and_where_the_zeros_are(finished: Rounds) -> None:
    before = np.ones(85, np.bool_)
    protected = layout_of(SECURE.model, 4).protected(biases=False)
    for model, report in finished:
        due = sparsity_after(SECURE, min(report.round + 1, 6))
        assert model.kept == round(85 * (1 - due))
        assert not (model.mask & ~before).any()
        assert model.mask[protected].all()
        assert not model.weights[~model.mask].any()
        assert model.weights[model.mask].all()
        assert (report.kept, report.sparsity) == (before.sum(), 1 - before.sum() / 85)
        before = model.mask
    assert before.sum() == round(85 * 0.25)


def test_sparsity_follows_the_plan() -> None:
    due = [sparsity_after(SECURE, finished) for finished in range(7)]
    assert due[0] == 0
    assert due[4:] == [0.75] * 3
    assert due == sorted(due)
    assert 0 < due[1] < due[2] < due[3] < 0.75
    late = small_plan(pruning={"start": 0.5, "end": 0.9})
    assert [sparsity_after(late, finished) for finished in (3, 6)] == [0, 0.75]


def test_lowest_magnitudes_go_first(finished: Rounds) -> None:
    protected = layout_of(SECURE.model, 4).protected(biases=False)
    unpruned = small_plan(aggregation={"kind": "plain"}, pruning={"sparsity": 0.0})
    exchange, _ = connect(unpruned)
    model, _ = next(run_rounds(start(unpruned), unpruned, "run", exchange))
    scores = np.where(protected, np.inf, np.abs(model.weights))
    kept = np.sort(np.argsort(scores, kind="stable")[85 - finished[0][0].kept :])
    np.testing.assert_array_equal(np.flatnonzero(finished[0][0].mask), kept)


def test_upload_shrinks_with_the_mask(finished: Rounds) -> None:
    up = [report.bytes_up for _, report in finished]
    # Keys took a trip of their own in the first round only.
    assert up[1] - up[3] == pytest.approx(3 * (finished[1][1].kept - finished[3][1].kept), abs=12)
    assert up[0] > up[1] + 3 * (85 - finished[1][1].kept)
    assert all(report.bytes_down > report.bytes_up > 0 for _, report in finished)


def test_time_comes_from_the_clock_that_is_given() -> None:
    exchange, _ = connect(PLAIN)
    ticks = iter(range(100))
    rounds = run_rounds(start(PLAIN), PLAIN, "run", exchange, clock=lambda: next(ticks))
    assert [report.seconds for _, report in rounds] == [1] * 7


def test_departures_leave_secure_and_plain_runs_bit_identical() -> None:
    def ends(plan: Plan, names: str) -> NDArray[np.float32]:
        absent = leaving(
            plan, names, "train.update", lambda group: group.split("/")[0] in {"1", "4"}
        )
        *_, (model, report) = rounds_of(plan, absent)
        assert report.survivors == plan.names
        return model.weights

    assert ends(SECURE, "elm").tobytes() == ends(PLAIN, "elm").tobytes()
    assert ends(SECURE, "elm").tobytes() != ends(SECURE, "ash").tobytes()


def test_weights_are_the_average_over_declared_sizes() -> None:
    absent = leaving(PLAIN, "elm", "train.update", lambda group: True)
    model, report = next(rounds_of(PLAIN, absent))
    assert report.survivors == ("ash", "birch", "cedar")
    exchange, _ = connect(PLAIN, absent)
    _, sums = Attempt(replace(start(PLAIN), epoch=1), PLAIN, "run", exchange).run()
    expected = start(PLAIN).weights + (sums["update"] / (1 + 0.75 + 0.5)).astype(np.float32)
    np.testing.assert_allclose(model.weights[model.mask], expected[model.mask], rtol=1e-6)
    assert not np.allclose(
        model.weights[model.mask], (start(PLAIN).weights + sums["update"] / 3)[model.mask]
    )


def test_a_repeated_round_trains_nobody_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_training(monkeypatch)
    absent = leaving(SECURE, "ash birch", "train.update", lambda group: group == "0/1")
    rounds = rounds_of(SECURE, absent)
    model, report = next(rounds)
    assert (report.round, report.epoch, report.survivors) == (0, 3, SECURE.names)
    assert len(calls) == 4
    # The same vectors as in a run where nobody left, although half were computed an epoch later.
    np.testing.assert_array_equal(model.weights, next(rounds_of(SECURE))[0].weights)
    assert [following.round for _, following in rounds] == list(range(1, 7))
    assert len(calls) == 4 * 6 + 4


def test_a_repeated_round_resends_the_stored_vector_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors: list[bytes] = []
    right = secagg.mask

    def noted(accepted: secagg.Accepted, vector: NDArray[np.uint32]) -> Any:
        vectors.append(vector.tobytes())
        return right(accepted, vector)

    monkeypatch.setattr(secagg, "mask", noted)
    absent = leaving(SECURE, "ash birch", "train.update", lambda group: group == "0/1")
    # A second training could not repeat its noise.
    exchange, _ = connect(SECURE, absent, SystemEntropy())
    rounds = run_rounds(start(SECURE), SECURE, "run", exchange)
    assert next(rounds)[1].epoch == 3
    next(rounds)
    present = vectors[:2]  # cedar and elm, whose first vectors came to nothing
    assert set(present) < set(vectors[2:6])
    assert not set(vectors[:6]) & set(vectors[6:])


def test_after_an_opening_the_round_is_lost_rather_than_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    absent = leaving(SECURE, "ash birch", "train.unmask", lambda group: group == "0/1")
    rounds = rounds_of(SECURE, absent)
    model, report = next(rounds)
    assert (report.round, report.epoch, report.survivors) == (0, 1, ())
    # Institutions that opened would refuse; the server does not even ask.
    assert RoundOpenedError.reason not in caplog.text
    assert EpochReplayedError.reason not in caplog.text
    np.testing.assert_array_equal(model.weights, start(SECURE).weights)
    np.testing.assert_array_equal(model.mask, start(SECURE).mask)
    assert (report.counts, report.bytes_up) == ({}, 0)
    following, report = next(rounds)
    assert (report.round, report.survivors) == (1, SECURE.names)
    assert not np.array_equal(following.weights, model.weights)


def test_a_lost_round_is_made_up_for_by_the_next_cut() -> None:
    absent = leaving(SECURE, "ash birch", "train.update", lambda group: group[0] in "13")
    rounds = list(rounds_of(SECURE, absent))
    lost = [report.round for _, report in rounds if not report.survivors]
    assert lost == [1, 3]
    for index in lost:
        np.testing.assert_array_equal(rounds[index][0].weights, rounds[index - 1][0].weights)
        assert rounds[index][0].kept == rounds[index - 1][0].kept
    assert rounds[-1][0].kept == round(85 * 0.25)


def test_too_many_lost_rounds_in_a_row_end_the_run() -> None:
    plan = small_plan(aggregation={"attempts": 2})
    absent = leaving(plan, "ash birch", "train.update", lambda group: group[0] >= "2")
    rounds = rounds_of(plan, absent)
    kept = [next(rounds)[1] for _ in range(3)]
    assert [(report.round, report.survivors != ()) for report in kept] == [
        (0, True),
        (1, True),
        (2, False),
    ]
    with pytest.raises(AggregationError, match="2 rounds in a row could not be completed"):
        next(rounds)


def test_who_is_away_is_waited_for_before_each_further_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away, waited = set[str](), list[int]()
    exchange, _ = connect(SECURE, lambda message: "all" in away)
    rounds = run_rounds(start(SECURE), SECURE, "run", exchange)

    def wait(least: int) -> None:
        waited.append(least)
        if len(waited) == 2:
            away.clear()

    monkeypatch.setattr(exchange, "await_connected", wait)
    assert next(rounds)[1].survivors == SECURE.names
    assert waited == []
    away.add("all")
    _, report = next(rounds)
    assert (report.round, report.survivors) == (1, SECURE.names)
    assert waited == [SECURE.least] * 2


def test_rounds_lost_here_and_there_do_not_end_it() -> None:
    plan = small_plan(aggregation={"attempts": 2})
    absent = leaving(plan, "ash birch", "train.update", lambda group: group[0] in "024")
    reports = [report for _, report in rounds_of(plan, absent)]
    assert [report.round for report in reports if not report.survivors] == [0, 2, 4]
    assert len(reports) == 7


class Forgetful(ClientApp):
    """An app whose node restarts, and so forgets, before one update."""

    def __init__(self, app: ClientApp, node: int, group: str) -> None:
        super().__init__()
        self._app, self._node, self._group = app, node, group

    def __call__(self, message: Message, context: Context) -> Message:
        facts = message.metadata
        if (facts.dst_node_id, facts.group_id) == (self._node, self._group):
            context.state.clear()
        return self._app(message, context)


@pytest.mark.parametrize("plan", [SECURE, PLAIN])
def test_an_institution_that_restarts_is_back_in_the_round_after(plan: Plan) -> None:
    exchange, _ = connect(plan, wrap=lambda app: Forgetful(app, node_of(plan, "elm"), "5/6"))
    reports = [report for _, report in run_rounds(start(plan), plan, "run", exchange)]
    present = ["elm" in report.survivors for report in reports]
    # Its keys are lost, which plain sums do without; its mask stands in the ledger.
    assert present == [True] * 5 + [plan is PLAIN, True]


def test_first_model_is_the_streams_and_unpruned() -> None:
    model = start(SECURE)
    assert (model.round, model.epoch, model.kept, model.holders) == (0, 0, 85, {})
    np.testing.assert_array_equal(start(SECURE).weights, model.weights)
    other = initial_model(SECURE, SeededEntropy(1).stream("initial-weights"))
    assert not np.array_equal(other.weights, model.weights)


def test_a_sparsity_that_no_model_could_have_is_refused_at_once() -> None:
    greedy = small_plan(pruning={"sparsity": 0.9})
    with pytest.raises(PlanError, match=r"sparsity 0\.9 would prune protected weights"):
        start(greedy)
    assert start(small_plan(pruning={"sparsity": 0.9, "biases": True})).kept == 85
