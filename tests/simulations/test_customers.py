"""Whole runs whose unit is a customer: from a table to a model, in both noise modes."""

from collections.abc import Callable
from functools import lru_cache, partial
from math import sqrt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from client import update
from client.cleaning import clean
from client.data import Splits, prepare
from client.memory import Memory
from client.stages import Institution
from client.training import LocalSteps, SharedStep, release, train
from common.crypto import ring
from common.entropy import SeededEntropy
from common.errors import DataError
from common.histograms import histogram
from common.plan import Plan
from common.segments import TEST, VALIDATION, counting_noise
from server.store import model_bytes
from simulations.inputs import Options, assemble, rounded
from simulations.run import Run, simulate
from tests.commands import trial_file
from tests.support import WIDTH, all_splits, customer_plan, describe, request_of, start_of

CAP = 3
MODES: dict[str, dict[str, Any]] = {
    "local": {},
    "shared": {"privacy": {"noise": "shared"}, "training": {"steps": 1, "rounds": 6}},
}


@lru_cache(maxsize=4)
def splits_of(plan: Plan) -> dict[str, Splits]:
    """Return rows of customers, one to five each, under the plan's cap."""
    prepared = {}
    for index, name in enumerate(plan.names):
        random = np.random.default_rng(index)
        customers = np.repeat(np.arange(150), random.integers(1, 6, 150))
        features = random.uniform(-1, 1, (len(customers), WIDTH))
        frame = pd.DataFrame({f"x{i}": features[:, i] for i in range(WIDTH)})
        frame = frame.assign(id=customers, bad=(features[:, 0] > 0.3).astype(int))
        table = clean(frame, plan.schema_, name)
        prepared[name] = prepare(table, plan.schema_, plan.customer_cap)
    return prepared


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["secure", "plain"])
def test_a_run_by_customers_clips_and_samples_as_planned(
    mode: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = customer_plan(CAP, aggregation={"kind": kind}, **MODES[mode])
    seen: list[float] = []
    work: dict[str, Callable[..., Any]] = {"train": train, "release": release}

    def watched(name: str) -> Callable[..., Any]:
        def call(network: Any, examples: Any, how: LocalSteps | SharedStep, stream: Any) -> Any:
            seen.append(how.row_norm)
            assert examples.customers is not None
            assert np.bincount(examples.customers).max() == CAP
            return work[name](network, examples, how, stream)

        return call

    for name in work:
        monkeypatch.setattr(update, name, watched(name))
    run = Run(plan)
    simulate(run, splits_of(plan), seed=0)
    assert run.finished == 6
    assert seen == [1.0 / CAP] * 6 * len(plan.names)
    assert 0.99 <= run.epsilon <= 1
    assert b"id, at most 3 rows each" in model_bytes(run.final, plan)


def test_secure_and_plain_runs_by_customers_give_the_same_bits() -> None:
    secure, plain = (Run(customer_plan(CAP, aggregation={"kind": k})) for k in ("secure", "plain"))
    for run in (secure, plain):
        simulate(run, splits_of(run.plan), seed=0)
    np.testing.assert_array_equal(secure.final.weights, plain.final.weights)


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_are_not_in_the_plans_units_train_nothing(mode: str) -> None:
    plan = customer_plan(CAP, **MODES[mode])
    model, uncapped = start_of(plan), splits_of(customer_plan(5))
    for rows in (all_splits(plan), uncapped):
        member = Institution("ash", plan, partial(rows.__getitem__, "ash"), SeededEntropy(0))
        with pytest.raises(DataError, match="not in the units of the plan"):
            update._compute(member, describe(plan, model), model.weights, model.mask)


def counts_of(plan: Plan, seed: int) -> NDArray[np.float64]:
    """Return the validation counts of zero records that an institution sends."""
    model = start_of(plan, round_number=2)
    splits = splits_of(plan)["ash"]
    nobody = splits.validation.features[:0]
    empty = type(splits.validation)(
        nobody, splits.validation.labels[:0], pd.DataFrame(), np.zeros(0, np.intp)
    )
    bare = Splits(splits.train, empty, empty, "memory")
    member = Institution("ash", plan, lambda: bare, SeededEntropy(seed))
    descriptor = describe(plan, model)
    _, reply = update.update(member, Memory(), request_of(model, descriptor))
    vector = ring.unpack(reply.vector, descriptor.ring_bits, descriptor.length)
    return ring.decode_vector(descriptor, vector, 1)[VALIDATION]


def test_counts_carry_the_noise_of_a_customer() -> None:
    plan = customer_plan(
        CAP,
        aggregation={"kind": "plain"},
        evaluation={"noise": "gaussian", "bins": 500, "epsilon": 0.5},
    )
    noise = np.concatenate([counts_of(plan, seed) for seed in range(6)])
    sd, error = counting_noise(plan, VALIDATION), 4 / sqrt(2 * len(noise))
    assert abs(noise.std() / sd - 1) < error
    assert abs(noise.std() / (sd / CAP) - 1) > error
    run = Run(customer_plan(CAP, evaluation={"noise": "gaussian"}))
    simulate(run, splits_of(run.plan), seed=0)
    # Four of them add theirs, and the server's account of it is as large.
    assert run.reports[-1].noise[TEST] == 2 * counting_noise(run.plan, TEST)
    assert counting_noise(run.plan, TEST) / CAP == counting_noise(
        customer_plan(1, evaluation={"noise": "gaussian"}), TEST
    )


def test_a_customer_moves_counts_by_the_cap_at_most() -> None:
    plan = customer_plan(CAP)
    test = splits_of(plan)["ash"].test
    assert test.customers is not None
    logits = test.features.sum(1)
    whole = histogram(logits, test.labels, 10)
    moved = []
    for customer in range(test.customers.max() + 1):
        rest = test.customers != customer
        without = histogram(logits[rest], test.labels[rest], 10)
        moved.append(float(np.linalg.norm(whole - without)))
    assert sqrt(3) <= max(moved) <= CAP
    # All of its rows in one bin: no smaller noise would do.
    alike = histogram(np.zeros(CAP, np.float32), np.ones(CAP, np.float32), 10)
    assert np.linalg.norm(alike) == CAP


def test_the_embedded_table_is_capped_and_declares_what_is_left() -> None:
    quiet = {("privacy", "epsilon"): "none"}
    capped = quiet | {("privacy", "unit"): "customer_id", ("privacy", "rows_per_customer"): 2}
    records, customers = (
        assemble(Options(institutions=4, settings=settings)) for settings in (quiet, capped)
    )
    for member in customers.plan.institutions:
        whole = customers.splits[member.name]
        parts = [whole.train, whole.validation, whole.test]
        assert member.size == rounded(sum(map(len, parts)))
        for part in parts:
            assert part.customers is not None
            assert np.bincount(part.customers).max() == 2
    sizes = [sum(i.size for i in each.plan.institutions) for each in (customers, records)]
    assert 0.7 < sizes[0] / sizes[1] < 0.95


def test_a_plan_file_by_customers_runs(tmp_path: Any) -> None:
    privacy = {"unit": "customer_id", "rows_per_customer": 2, "epsilon": 2.0}
    federation = assemble(Options(trial_file(tmp_path, privacy=privacy)))
    run = Run(federation.plan)
    simulate(run, federation.splits, seed=0)
    assert run.finished == 4
    assert 1.9 < run.epsilon <= 2
