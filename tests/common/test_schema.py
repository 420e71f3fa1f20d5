import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from common.errors import SchemaError
from common.schema import (
    SHIPPED,
    CategoricalColumn,
    FeatureSchema,
    NumericColumn,
    load_schema,
    shipped_schemas,
    token,
)

AMOUNT = {"name": "amount", "kind": "numeric", "lo": 0, "hi": 10}
INCOME = {"name": "income", "kind": "numeric", "lo": 0, "hi": 100, "log": True}
SEX = {"name": "sex", "kind": "categorical", "values": [1, 2], "protected": True}
GRADE = {"name": "grade", "kind": "categorical", "values": ["a", "b"], "missing": "indicator"}
RATIO = {"name": "burden", "numerator": "amount", "denominator": "income", "lo": 0, "hi": 2}
FIELDS: dict[str, Any] = {
    "name": "small",
    "label": {"column": "bad", "positive": "yes", "negative": "no"},
    "columns": [AMOUNT, INCOME, SEX, GRADE],
    "ratios": [RATIO],
}

TOML = """
name = "small"
ignored = ["id"]

[file]
delimiter = ";"

[label]
column = "bad"
positive = 1
negative = 0

[[columns]]
name = "amount"
kind = "numeric"
lo = 0
hi = 10
codes = [-1]
"""


def test_toml_becomes_a_schema(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(TOML)
    schema = load_schema(path)
    assert schema == load_schema(str(path)) == FeatureSchema.model_validate(tomllib.loads(TOML))
    assert schema.file.delimiter == ";"
    assert schema.feature_names == ("amount", "amount=-1")


def test_feature_names_follow_the_declaration() -> None:
    schema = FeatureSchema.model_validate(FIELDS)
    assert schema.feature_names == (
        *("amount", "income", "grade=a", "grade=b", "grade=missing", "burden"),
    )
    assert schema.width == 6
    assert schema.protected == ("sex",)


def test_protected_column_is_a_feature_only_when_declared_so() -> None:
    columns = [AMOUNT, INCOME, {**SEX, "feature": True}, {**GRADE, "feature": False}]
    schema = FeatureSchema.model_validate({**FIELDS, "columns": columns})
    assert schema.feature_names == ("amount", "income", "sex=1", "sex=2", "burden")
    assert schema.protected == ("sex",)


def test_outcome_puts_the_negative_value_first() -> None:
    outcome = FeatureSchema.model_validate(FIELDS).outcome
    assert (outcome.name, outcome.values, outcome.missing) == ("bad", ("no", "yes"), "refuse")


def test_canonical_json_is_one_text_and_parses_back() -> None:
    schema = FeatureSchema.model_validate(FIELDS)
    shuffled = FeatureSchema.model_validate(
        {key: FIELDS[key] for key in reversed(FIELDS)} | {"duplicates": "keep"}
    )
    floats = [{**AMOUNT, "lo": 0.0, "hi": 10.0}, *FIELDS["columns"][1:]]
    assert schema.canonical_json() == shuffled.canonical_json()
    spelled = FeatureSchema.model_validate({**FIELDS, "columns": floats})
    assert schema.canonical_json() == spelled.canonical_json()
    assert FeatureSchema.model_validate_json(schema.canonical_json()) == schema


@pytest.mark.parametrize(
    "change",
    [{"name": "other"}, {"columns": [INCOME, AMOUNT, SEX, GRADE]}, {"duplicates": "drop"}],
)
def test_canonical_json_tells_schemas_apart(change: dict[str, Any]) -> None:
    schema = FeatureSchema.model_validate(FIELDS)
    changed = FeatureSchema.model_validate({**FIELDS, **change})
    assert schema.canonical_json() != changed.canonical_json()


def test_schema_is_frozen() -> None:
    schema = FeatureSchema.model_validate(FIELDS)
    with pytest.raises(ValidationError, match="frozen"):
        schema.name = "other"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bounds": 1}, r"bounds\s+Extra inputs are not permitted"),
        ({"columns": [{**AMOUNT, "high": 3}]}, "Extra inputs are not permitted"),
        ({"columns": [{**AMOUNT, "kind": "number"}]}, "does not match any of the expected tags"),
        ({"columns": [{**AMOUNT, "hi": 0}]}, r"amount: bounds \[0, 0\] are empty"),
        ({"columns": [{**AMOUNT, "hi": float("inf")}]}, "finite number"),
        ({"columns": [{**AMOUNT, "lo": -1.7e308, "hi": 1.7e308}]}, "are empty"),
        ({"columns": [{**AMOUNT, "hi": "10"}]}, "valid number"),
        ({"columns": [{**AMOUNT, "codes": [1, 1.0]}]}, "amount: code '1' is declared twice"),
        ({"columns": [{**AMOUNT, "codes": [1], "missing_codes": ["1"]}]}, "declared twice"),
        ({"columns": [{**GRADE, "values": []}]}, "at least 1 item"),
        ({"columns": [{**GRADE, "values": [1, "1.0"]}]}, "declared twice"),
        ({"columns": [{**GRADE, "values": [True]}]}, "valid integer"),
        ({"columns": [{**GRADE, "outside": "clip"}]}, "Extra inputs are not permitted"),
        ({"columns": [AMOUNT, AMOUNT]}, "column 'amount' is declared twice"),
        ({"ignored": ["amount"]}, "column 'amount' is declared twice"),
        ({"customer": "bad"}, "column 'bad' is declared twice"),
        ({"columns": [{**SEX}], "ratios": []}, "no column is a feature"),
        ({"ratios": [RATIO, RATIO]}, "feature 'burden' is declared twice"),
        ({"ratios": [{**RATIO, "numerator": "grade"}]}, "'grade' is no numeric column"),
        ({"ratios": [{**RATIO, "numerator": "gone"}]}, "'gone' is no numeric column"),
        (
            {"columns": [AMOUNT, {**INCOME, "protected": True}]},
            "'income' is protected and would reach the model",
        ),
        ({"label": {"column": "bad", "positive": 1, "negative": "1"}}, "declared twice"),
        ({"file": {"delimiter": "::"}}, "at most 1 character"),
        ({"file": {"encoding": "utf-88"}}, "unknown encoding 'utf-88'"),
    ],
)
def test_contradiction_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FeatureSchema.model_validate({**FIELDS, **change})


def test_unknown_name_is_answered_with_the_known() -> None:
    with pytest.raises(SchemaError, match=r"unknown schema 'uci'; known: bank_marketing, .*uci_"):
        load_schema("uci")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("name = ", "not readable as TOML"),
        (TOML.replace("hi = 10", "hi = -1"), r"column 'amount': bounds \[0, -1\]"),
        (TOML + "hight = 3\n", r"column 'amount', hight 3: unknown key: remove it"),
    ],
)
def test_bad_file_is_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "bad.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SchemaError, match=message) as caught:
        load_schema(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", shipped_schemas())
def test_shipped_schema_parses_under_its_own_name(name: str) -> None:
    schema = load_schema(name)
    assert schema.name == name
    assert schema == load_schema(SHIPPED / f"{name}.toml")
    assert not set(schema.protected) & set(schema.feature_names)


def test_shipped_schemas_are_the_promised() -> None:
    assert {"bank_marketing", "uci_default"} <= set(shipped_schemas())


def test_uci_default_encodes_states_and_use_of_the_credit_line() -> None:
    names = set(load_schema("uci_default").feature_names)
    assert {f"PAY_{month}={code}" for month in (0, 2, 3, 4, 5, 6) for code in range(-2, 3)} <= names
    assert {f"BILL_AMT{month}/LIMIT_BAL" for month in range(1, 7)} <= names


def test_bank_marketing_leaves_out_what_is_known_after_the_call() -> None:
    schema = load_schema("bank_marketing")
    assert schema.ignored == ("duration",)
    assert schema.protected == ("age", "job", "marital", "education")


@pytest.mark.parametrize("name", ["bank_marketing", "uci_default"])
def test_shipped_bounds_are_the_published(shared_data: Path, name: str) -> None:
    published = json.loads((shared_data / name / "schema-bounds.json").read_text())["columns"]
    columns = {column.name: column for column in load_schema(name).columns}
    assert columns.keys() == published.keys()
    for column_name, facts in published.items():
        column = columns[column_name]
        if isinstance(column, NumericColumn):
            assert (column.lo, column.hi, column.log) == (facts["lo"], facts["hi"], facts["log"])
            missing = () if facts["missing"] is None else (facts["missing"],)
            assert column.missing_codes == missing
        else:
            assert isinstance(column, CategoricalColumn)
            assert list(column.values) == facts["values"]


@pytest.mark.parametrize("value", [7, 7.0, "7", " 7 ", "7.0", "07", "+7"])
def test_token_reads_one_number_alike(value: object) -> None:
    assert token(value) == "7"


@pytest.mark.parametrize("value", [-7, 7.5, "7a", "", "seven", 70])
def test_token_tells_other_values_apart(value: object) -> None:
    assert token(value) != "7"
