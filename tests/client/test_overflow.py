"""One record that overflows must not decide what leaves: no noise hides a NaN."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from client.data import Examples, Splits
from client.memory import Memory
from client.stages import Institution
from client.update import update
from common.crypto import ring
from common.entropy import SystemEntropy
from common.errors import PlanError
from common.plan import Plan
from tests.support import describe, request_of, small_plan, start_of

WIDTH = 100
COLUMNS = [{"name": f"x{i}", "kind": "numeric", "lo": -1, "hi": 1} for i in range(WIDTH)]
LABEL = {"column": "bad", "positive": 1, "negative": 0}


def plan_at(learning_rate: float) -> Plan:
    return small_plan(
        schema={"name": "wide", "label": LABEL, "columns": COLUMNS},
        model={"kind": "mlp", "hidden": [64] * 6},
        training={"rounds": 1, "steps": 2, "sample_rate": 1.0, "learning_rate": learning_rate},
        aggregation={"kind": "plain"},
        evaluation={"rounds": 1},
        pruning={"sparsity": 0.0},
    )


def saturated(plan: Plan, *, present: bool) -> float:
    """Return the share of an update's values that stand at their bound."""
    features = np.zeros((20 + present, WIDTH), np.float32)
    features[20:] = 1
    labels = np.zeros(len(features), np.float32)
    rows = Examples(features, labels, pd.DataFrame(index=range(len(features))))
    splits = partial(Splits, rows, rows, rows, "memory")
    model, ash = start_of(plan), Institution("ash", plan, splits, SystemEntropy())
    descriptor = describe(plan, model)
    _, reply = update(ash, Memory(), request_of(model, descriptor))
    values = ring.unpack(reply.vector, descriptor.ring_bits, descriptor.length).astype(np.int64)
    half = 1 << (descriptor.ring_bits - 1)
    centred = (values + half) % (2 * half) - half
    return float((np.abs(centred) >= descriptor.segments[0].limit - 2).mean())


def test_a_rate_that_overflows_is_refused_by_the_plan() -> None:
    with pytest.raises(PlanError, match=r"by more than 100 a step: lower training\.learning_rate"):
        plan_at(11_000.0)


def test_one_record_does_not_decide_whether_an_update_saturates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("common.plan.LONGEST_STEP", 1e6)
    plan = plan_at(11_000.0)
    for present in (False, True):
        shares = [saturated(plan, present=present) for _ in range(6)]
        assert max(shares) < 0.5, "a sum that is no number left under no noise"
