from typing import Any

import pytest

from common.errors import PlanError, SchemaError
from common.parsing import validated
from common.plan import plan_from_dict
from common.schema import FeatureSchema
from common.wording import keys_at
from tests.support import FIELDS

AMOUNT = {"name": "amount", "kind": "numeric", "lo": 0, "hi": 10}
SCHEMA: dict[str, Any] = {
    "name": "small",
    "label": {"column": "bad", "positive": "yes", "negative": "no"},
    "columns": [AMOUNT],
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"privacy": {"epsilon": 100}}, "privacy.epsilon 100: must be at most 50 or 'none'"),
        (
            {"pruning": {"sparsity": 90.0}},
            "pruning.sparsity 90.0: must be below 1 or 'auto' (a share: 0.9, not 90)",
        ),
        ({"training": {"rouns": 40}}, "training.rouns 40: unknown key: did you mean rounds?"),
        ({"shcema": 1}, "shcema 1: unknown key: did you mean schema?"),
        ({"colour": 1}, "colour 1: unknown key: remove it"),
        (
            {"name": "Big SECRET"},
            "name: must be lower-case letters, digits, '-' and '_', 63 at most",
        ),
        (
            {"institutions": [*FIELDS["institutions"], {"name": "oak", "size": 4}]},
            "institution 'oak', size 4: must be at least 50",
        ),
    ],
    ids=str,
)
def test_a_problem_of_a_plan_names_its_remedy(change: dict[str, Any], told: str) -> None:
    with pytest.raises(PlanError) as caught:
        plan_from_dict(FIELDS | change, "my.toml")
    assert str(caught.value) == f"my.toml: {told}"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"columns": [{**AMOUNT, "low": 3}]},
            "column 'amount', low 3: unknown key: did you mean lo?",
        ),
        # Its like is a key of another kind of column.
        ({"columns": [{**AMOUNT, "value": 3}]}, "column 'amount', value 3: unknown key: remove it"),
        (
            {"columns": [{**AMOUNT, "kind": "number"}]},
            "column 'amount': unknown kind 'number'; known: 'numeric', 'categorical'",
        ),
        (
            {"columns": [{**AMOUNT, "kind": "date"}]},
            "column 'amount': unknown kind 'date'; known: 'numeric', 'categorical': a date is no"
            " feature: turn it into days, or list the column in ignored",
        ),
        ({"columns": [{**AMOUNT, "hi": 0}]}, "column 'amount': bounds [0, 0] are empty: set lo"),
        ({"columns": [{"name": "x"}]}, "column 'x': its kind is missing: add it"),
        ({"columns": [{"kind": "numeric", "lo": 0, "hi": 1}]}, "columns.0.numeric.name: is miss"),
        (
            {"columns": [{**AMOUNT, "missing": "fill"}]},
            "column 'amount', missing: must be 'refuse', 'drop' or 'indicator'",
        ),
    ],
    ids=str,
)
def test_a_problem_of_a_schema_names_its_column(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SchemaError) as caught:
        validated(FeatureSchema.model_validate, SCHEMA | change, "s.toml", SchemaError)
    assert str(caught.value).startswith(f"s.toml: {told}")


def test_keys_are_those_of_the_place() -> None:
    assert "missing_codes" in keys_at(FeatureSchema, ["columns", 0, "numeric"])
    assert "values" not in keys_at(FeatureSchema, ["columns", 0, "numeric"])
    assert keys_at(FeatureSchema, ["label"]) == ["column", "positive", "negative"]
    assert keys_at(None, ["label"]) == []
