from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.explanation import explain
from common.encoding import Features, Floats
from common.plan import Plan
from common.schema import FeatureSchema
from tests.models import random_network
from tests.support import small_plan

Predict = Callable[[Features], Features]
NUMERIC = {"kind": "numeric", "lo": 0, "hi": 1}
COLUMNS: list[dict[str, Any]] = [
    {"name": "age", **NUMERIC, "protected": True},
    {"name": "debt", **NUMERIC, "codes": [1], "missing": "indicator"},
    {"name": "town", "kind": "categorical", "values": ["a", "b", "c"]},
    {"name": "income", **NUMERIC, "feature": False},
    {"name": "limit", **NUMERIC},
]
RATIO = {"name": "burden", "numerator": "debt", "denominator": "income", "lo": 0, "hi": 1}
LABEL = {"column": "bad", "positive": 1, "negative": 0}
SCHEMA = FeatureSchema.model_validate(
    {"name": "five", "label": LABEL, "columns": COLUMNS, "ratios": [RATIO]}
)
OWNERS = [("debt",)] * 3 + [("town",)] * 3 + [("limit",), ("debt", "income")]
"""What each feature is made of, by hand."""


def features_of(rows: int, seed: int = 0, width: int = SCHEMA.width) -> Features:
    return np.random.default_rng(seed).uniform(-1, 1, (rows, width)).astype(np.float32)


def network(seed: int = 0, scale: float = 1.0, **sections: Any) -> Predict:
    plan: Plan = small_plan(schema=SCHEMA.model_dump(exclude_none=True), **sections)
    made = random_network(plan, seed, scale)

    def predict(features: Features) -> Features:
        with torch.no_grad():
            logits: Features = made(torch.from_numpy(features)).numpy()
        return logits

    return predict


def product(*places: int) -> Predict:
    return lambda features: features[:, list(places)].prod(axis=1) + np.float32(0.25)


def explained(predict: Predict, features: Features, pairs: int) -> tuple[float, Floats]:
    return explain(features, predict(features), predict, SCHEMA, pairs)


def shapley(predict: Predict, features: Features) -> Floats:
    """Return the contributions by their definition, over all sets of the other columns."""
    names = [column.name for column in SCHEMA.inputs]

    def worth(inside: tuple[str, ...]) -> Floats:
        held = [set(owners) <= set(inside) for owners in OWNERS]
        return predict(features * np.array(held)).astype(np.float64)

    columns = []
    for name in names:
        others = [other for other in names if other != name]
        columns.append(
            sum(
                (worth((*inside, name)) - worth(inside)) / comb(len(others), size) / len(names)
                for size in range(len(names))
                for inside in combinations(others, size)
            )
        )
    return np.column_stack(columns)


@settings(max_examples=25)
@given(
    rows=st.integers(0, 20),
    pairs=st.integers(1, 5),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["wide_and_deep", "mlp", "logistic"]),
)
def test_contributions_and_base_add_up_to_the_logit(
    rows: int, pairs: int, seed: int, kind: str
) -> None:
    predict, features = network(seed, model={"kind": kind}), features_of(rows, seed)
    base, parts = explained(predict, features, pairs)
    assert parts.shape == (rows, 4)
    np.testing.assert_allclose(base + parts.sum(axis=1), predict(features), rtol=0, atol=1e-9)


def test_base_is_the_answer_to_zero_features() -> None:
    predict = network()
    base, parts = explained(predict, np.zeros((1, SCHEMA.width), np.float32), 2)
    assert base == predict(np.zeros((1, SCHEMA.width), np.float32))[0]
    np.testing.assert_array_equal(parts, 0)


@pytest.mark.parametrize(
    "predict",
    [network(model={"kind": "logistic"}), product(0, 6), product(0, 7)],
    ids=["linear with a ratio", "two columns", "a column and its ratio"],
)
def test_one_pair_is_exact_where_columns_interact_two_by_two(predict: Predict) -> None:
    features = features_of(30)
    found = explained(predict, features, 1)[1]
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(found, shapley(predict, features), atol=1e-6)


@pytest.mark.parametrize("predict", [product(3, 7), network(model={"hidden": [8, 8]})])
def test_more_pairs_come_closer_to_the_shapley_value(predict: Predict) -> None:
    features = features_of(30)
    exact = shapley(predict, features)
    one, many = (np.abs(explained(predict, features, pairs)[1] - exact).max() for pairs in (1, 200))
    assert one > 0.02
    assert many < one / 4


def test_column_that_moves_nothing_contributes_nothing() -> None:
    parts = explained(product(6), features_of(9), 3)[1]
    np.testing.assert_array_equal(parts[:, :3], 0)
    assert np.abs(parts[:, 3]).min() > 0


def test_equal_rows_are_explained_alike_wherever_they_stand() -> None:
    # One product a row: a matrix library may round a row otherwise in another company.
    predict, features = product(0, 6, 7), features_of(20)
    whole = explained(predict, features, 3)[1]
    alone = np.concatenate([explained(predict, features[[row]], 3)[1] for row in range(20)])
    np.testing.assert_array_equal(whole, alone)


def test_single_column_is_the_whole_difference() -> None:
    fields = {"name": "one", "label": LABEL, "columns": [COLUMNS[4]]}
    features = features_of(5, width=1)
    base, parts = explain(
        features, features[:, 0], lambda rows: rows[:, 0], FeatureSchema.model_validate(fields), 1
    )
    assert base == 0
    np.testing.assert_array_equal(parts, features)
