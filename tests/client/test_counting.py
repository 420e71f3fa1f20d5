"""What an institution counts apart: by brute force, how far one record or customer moves it."""

from collections.abc import Mapping
from dataclasses import replace
from math import sqrt

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from client.counting import group_rows, released_counts
from client.data import Examples
from common.entropy import SeededEntropy
from common.plan import Plan
from common.segments import TEST, VALIDATION, count_names, counting_noise, sensitivity
from tests.support import FIELDS, NORTH, PROTECTED, grouped_plan, small_examples, small_plan

Counts = Mapping[str, NDArray[np.float64]]
PLAN = grouped_plan()
POOLED = grouped_plan(
    institutions=[{"name": f"i{index:02}", "size": 100} for index in range(12)],
    evaluation={
        "pools": {
            "low": [f"i{index:02}" for index in range(6)],
            "middle": [f"i{index:02}" for index in range(3, 9)],
        }
    },
)


def counted(plan: Plan, name: str, examples: Examples, part: str = VALIDATION) -> Counts:
    """Return an institution's counts under logits that follow from each row alone."""
    logits = (3 * examples.features[:, 0]).astype(np.float32)
    stream = SeededEntropy(0, name).stream
    return released_counts(plan, name, part, (examples, logits), stream)


def without(examples: Examples, gone: NDArray[np.bool_]) -> Examples:
    protected = examples.protected[~gone].reset_index(drop=True)
    return Examples(examples.features[~gone], examples.labels[~gone], protected)


def moved(one: Counts, other: Counts) -> float:
    return float(np.linalg.norm(np.concatenate([one[name] - other[name] for name in one])))


def test_groups_of_a_column_share_out_the_rows() -> None:
    examples = small_examples(300, seed=1)
    counts = counted(PLAN, "ash", examples)
    assert tuple(counts) == count_names(PLAN, VALIDATION)
    rows = group_rows(PLAN, examples)
    for column in ("sex", "age"):
        mine = [name for name in rows if column in name]
        assert (np.sum([rows[name] for name in mine], axis=0) == 1).all()
        total = np.sum([counts[f"{VALIDATION}/{name}"] for name in mine], axis=0)
        assert (total == counts[VALIDATION]).all()
        assert all(rows[name].any() for name in mine)
    age = examples.protected["age"]
    assert (rows["30<=age<50"] == ((age >= 30) & (age < 50))).all()
    assert (rows["age=missing"] == age.isna()).all()
    assert (rows["sex=m"] == (examples.protected["sex"] == "m")).all()


def test_cuts_belong_to_the_group_above() -> None:
    ages = pd.DataFrame({"sex": ["f"] * 4, "age": [29.9, 30.0, 50.0, np.nan]})
    rows = group_rows(PLAN, replace(small_examples(4, 0), protected=ages))
    groups = ("age<30", "30<=age<50", "50<=age", "age=missing")
    assert [rows[name].tolist().index(True) for name in groups] == [0, 1, 2, 3]


def test_a_pool_holds_its_members_rows_alone() -> None:
    examples = small_examples(50, seed=2)
    for name in PLAN.names:
        counts = counted(PLAN, name, examples)
        mine, other = ("north", "south") if name in NORTH else ("south", "north")
        assert (counts[f"{VALIDATION}/pool:{mine}"] == counts[VALIDATION]).all()
        assert not counts[f"{VALIDATION}/pool:{other}"].any()


@pytest.mark.parametrize(
    ("plan", "name", "reach"), [(PLAN, "ash", 4), (POOLED, "i04", 5), (POOLED, "i00", 4)]
)
def test_no_record_moves_all_counts_further_than_is_priced(
    plan: Plan, name: str, reach: int
) -> None:
    examples = small_examples(40, seed=3)
    everybody = counted(plan, name, examples)
    distances = [
        moved(everybody, counted(plan, name, without(examples, np.arange(40) == row)))
        for row in range(40)
    ]
    assert distances == pytest.approx([sqrt(reach)] * 40)
    assert max(distances) <= sensitivity(plan) + 1e-9
    if name != "i00":  # In fewer pools than others are.
        assert max(distances) == pytest.approx(sensitivity(plan))


def test_a_customer_moves_them_by_its_rows_at_most() -> None:
    columns = FIELDS["schema"]["columns"] + PROTECTED
    schema = FIELDS["schema"] | {"columns": columns, "customer": "id"}
    plan = small_plan(
        schema=schema,
        privacy={"unit": "id", "rows_per_customer": 3},
        evaluation={"groups": ["sex"]},
    )
    examples = small_examples(30, seed=4)
    for alike in (False, True):
        if alike:
            examples.features[:3] = examples.features[0]
            examples.labels[:3] = examples.labels[0]
            examples.protected.loc[:2, "sex"] = "f"
        gone = np.arange(30) < 3
        distance = moved(
            counted(plan, "ash", examples), counted(plan, "ash", without(examples, gone))
        )
        assert distance <= sensitivity(plan) + 1e-9
    assert distance == pytest.approx(sensitivity(plan)) == pytest.approx(3 * sqrt(2))


def test_every_count_that_tells_of_rows_has_its_own_noise() -> None:
    noised = grouped_plan(evaluation={"noise": "gaussian", "bins": 400})
    for part in (VALIDATION, TEST):
        sigma = counting_noise(noised, part)
        alone = small_plan(evaluation={"noise": "gaussian", "bins": 400})
        assert sigma == pytest.approx(2 * counting_noise(alone, part))
        counts = counted(noised, "elm", small_examples(50, seed=5), part)
        quiet = counted(grouped_plan(evaluation={"bins": 400}), "elm", small_examples(50, 5), part)
        drawn = {name: counts[name] - quiet[name] for name in counts}
        assert not drawn.pop(f"{part}/pool:north").any()
        for name, noise in drawn.items():
            assert noise.std() == pytest.approx(sigma, rel=0.15), name
        both = np.corrcoef(np.array(list(drawn.values())))
        assert np.abs(both - np.eye(len(drawn))).max() < 0.2
