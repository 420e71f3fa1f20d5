from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.encoding import encode, out_of_range, read_column, read_labels
from common.errors import DataError
from common.schema import CategoricalColumn, FeatureSchema, NumericColumn

SCHEMA = FeatureSchema.model_validate(
    {
        "name": "all_kinds",
        "label": {"column": "bad", "positive": "yes", "negative": "no"},
        "columns": [
            {"name": "plain", "kind": "numeric", "lo": -2, "hi": 6, "codes": [-2, 0.5]},
            {"name": "log", "kind": "numeric", "lo": -10, "hi": 1000, "log": True},
            {
                **{"name": "gap", "kind": "numeric", "lo": 0, "hi": 30},
                **{"missing": "indicator", "missing_codes": [999, "?"], "codes": [-9]},
            },
            {
                **{"name": "grade", "kind": "categorical", "values": ["a", "none", 3]},
                **{"missing": "indicator", "missing_codes": ["x"]},
            },
            {"name": "sex", "kind": "categorical", "values": [1, 2], "protected": True},
        ],
        "ratios": [
            {"name": "r", "numerator": "log", "denominator": "plain", "lo": -1, "hi": 3},
        ],
    }
)

numbers = st.one_of(
    st.floats(allow_infinity=False),
    st.sampled_from([-9.0, -2.0, -0.0, 0.0, 0.5, 6.0, 999.0, 1000.0, 5e-324, 1.7e308]),
)
tables = st.lists(
    st.fixed_dictionaries(
        {
            "plain": numbers,
            "log": numbers,
            "gap": numbers,
            "grade": st.sampled_from(["a", "none", "3", "x", ""]),
            "sex": st.sampled_from([1, 2]),
        }
    ),
    min_size=1,
    max_size=40,
).map(pd.DataFrame)


def frame(**cells: object) -> pd.DataFrame:
    """Return one row, middling but for ``cells``."""
    row = {"plain": 2, "log": 0, "gap": 15, "grade": "a", "sex": 1, "bad": "no"}
    return pd.DataFrame([row | cells])


def feature(rows: pd.DataFrame, name: str) -> float:
    return float(encode(rows, SCHEMA)[0, SCHEMA.feature_names.index(name)])


@settings(max_examples=40, deadline=None)
@given(rows=tables, seed=st.integers(0, 2**32 - 1))
def test_encoding_depends_on_the_row_alone(rows: pd.DataFrame, seed: int) -> None:
    features = encode(rows, SCHEMA)
    assert features.dtype == np.float32
    assert features.shape == (len(rows), SCHEMA.width)
    assert np.all(np.abs(features) <= 1)
    np.testing.assert_array_equal(encode(rows, SCHEMA), features)
    for row in range(len(rows)):
        np.testing.assert_array_equal(encode(rows.iloc[row : row + 1], SCHEMA), features[[row]])
    order = np.random.default_rng(seed).permutation(len(rows))
    np.testing.assert_array_equal(encode(rows.iloc[order], SCHEMA), features[order])


@settings(max_examples=40, deadline=None)
@given(
    ends=st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)).filter(lambda e: e[0] != e[1]),
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=30),
    log=st.booleans(),
)
def test_scaling_is_monotone_and_meets_its_ends(
    ends: tuple[float, float], values: list[float], log: bool
) -> None:
    lo, hi = sorted(ends)
    column = {"name": "x", "kind": "numeric", "lo": lo, "hi": hi, "log": log}
    schema = FeatureSchema.model_validate(
        {"name": "one", "label": SCHEMA.label.model_dump(), "columns": [column]}
    )
    features = encode(pd.DataFrame({"x": sorted([*values, lo, hi])}), schema)[:, 0]
    assert np.all(np.diff(features) >= 0)
    assert (features[0], features[-1]) == (-1, 1)


@pytest.mark.parametrize(
    ("cells", "name", "value"),
    [
        ({"plain": 2}, "plain", 0.0),
        ({"plain": -2}, "plain", -1.0),
        ({"plain": 600}, "plain", 1.0),
        ({"plain": 4}, "plain", 0.5),
        ({"plain": np.nan}, "plain", 0.0),
        ({"plain": -2}, "plain=-2", 1.0),
        ({"plain": -1}, "plain=-2", 0.0),
        ({"plain": 0.5}, "plain=0.5", 1.0),
        ({"log": 1000}, "log", 1.0),
        ({"log": -10}, "log", -1.0),
        ({"log": 0}, "log", 2 * np.log(11) / (np.log(1001) + np.log(11)) - 1),
        ({"gap": 999}, "gap", 0.0),
        ({"gap": 999}, "gap=missing", 1.0),
        ({"gap": 30}, "gap=missing", 0.0),
        ({"gap": -9}, "gap=-9", 1.0),
        ({"gap": -9}, "gap", -1.0),
        ({"grade": "none"}, "grade=none", 1.0),
        ({"grade": "none"}, "grade=missing", 0.0),
        ({"grade": "x"}, "grade=missing", 1.0),
        ({"grade": "x"}, "grade=a", 0.0),
        ({"log": 2, "plain": 2}, "r", 0.0),
        ({"log": 6, "plain": 1}, "r", 1.0),
        ({"log": -1, "plain": 1}, "r", -1.0),
        ({"log": 900, "plain": 0}, "r", 0.0),
        ({"log": 900, "plain": np.nan}, "r", 0.0),
        ({"log": 1.7e308, "plain": 1e-9}, "r", 1.0),
    ],
)
def test_feature_has_its_declared_value(cells: dict[str, Any], name: str, value: float) -> None:
    assert feature(frame(**cells), name) == pytest.approx(value, abs=1e-7)


def test_protected_column_moves_no_feature() -> None:
    one, two = (encode(frame(sex=sex), SCHEMA) for sex in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert not any(name.startswith("sex") for name in SCHEMA.feature_names)


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        ([1, 2], "int64"),
        ([1.0, 2.0], "float64"),
        (["1", "2"], "str"),
        ([" 1", "2.0"], "object"),
        ([1, 2], "Int64"),
        (["1", "2"], "category"),
        ([1, 2], "category"),
        ([True, 2], "object"),
    ],
)
def test_category_matches_whatever_the_dtype(cells: list[object], dtype: str) -> None:
    (sex,) = (column for column in SCHEMA.columns if column.name == "sex")
    assert isinstance(sex, CategoricalColumn)
    assert read_column(pd.Series(cells, dtype=dtype), sex).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        (["15", " 3.5 ", "?", "", "NaN", "ten", "1,5", "inf"], "str"),
        ([15, 3.5, "?", None, float("nan"), "ten", "1,5", float("inf")], "object"),
        (["15", "3.5", "?", None, "", "ten", "1,5", "-inf"], "category"),
    ],
)
def test_number_is_read_missing_or_refused(cells: list[object], dtype: str) -> None:
    gap = SCHEMA.columns[2]
    values = read_column(pd.Series(cells, dtype=dtype), gap)
    assert values[:2].tolist() == [15, 3.5]
    assert np.isnan(values[2:5]).all()
    assert np.isinf(values[5:]).all()
    np.testing.assert_array_equal(read_column(pd.Series(values), gap), values)


@pytest.mark.parametrize(
    "cells", [pd.Series(pd.to_datetime(["2020-01-01"])), pd.Series([[1]]), pd.Series([{"a": 1}])]
)
def test_what_is_no_scalar_is_refused(cells: "pd.Series[Any]") -> None:
    assert [read_column(cells, column).tolist() for column in SCHEMA.columns] == [[np.inf]] * 5


def test_decimals_are_numbers() -> None:
    cells = pd.Series([Decimal("1.50"), Decimal(999), None])
    np.testing.assert_array_equal(read_column(cells, SCHEMA.columns[2]), [1.5, np.nan, np.nan])


def test_nullable_integers_keep_their_gaps() -> None:
    values = read_column(pd.Series([1, None], dtype="Int64"), SCHEMA.columns[2])
    np.testing.assert_array_equal(values, [1, np.nan])


def test_reading_leaves_the_rows_as_they_were() -> None:
    rows = frame(gap=999.0)
    encode(rows, SCHEMA)
    assert rows["gap"].tolist() == [999.0]


@pytest.mark.parametrize("cells", [{"plain": "two"}, {"grade": "z"}, {"log": np.inf}])
def test_unreadable_cell_is_refused(cells: dict[str, Any]) -> None:
    (name,) = cells
    with pytest.raises(DataError, match=f"column '{name}': row 1 does not fit"):
        encode(frame(**cells), SCHEMA)


def test_codes_are_never_out_of_range() -> None:
    gap = SCHEMA.columns[2]
    assert isinstance(gap, NumericColumn)
    values = np.array([-9, -8, 0, 30, 31, np.nan])
    assert out_of_range(values, gap).tolist() == [False, True, False, False, True, False]


def test_labels_are_zero_and_one() -> None:
    labels = read_labels(pd.DataFrame({"bad": ["no", "yes", "no"]}), SCHEMA)
    assert labels.dtype == np.float32
    assert labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize("cells", [[True, False], [True, False, None]])
def test_truth_values_are_one_and_zero_beside_missing_ones_or_not(cells: list[object]) -> None:
    flag = CategoricalColumn(name="flag", kind="categorical", values=(0, 1), missing="drop")
    assert read_column(pd.Series(cells), flag)[:2].tolist() == [1, 0]


def test_only_columns_that_make_features_are_needed() -> None:
    assert [column.name for column in SCHEMA.inputs] == ["plain", "log", "gap", "grade"]
    rows = frame()
    without = rows.drop(columns=["sex", "bad"])
    np.testing.assert_array_equal(encode(without, SCHEMA), encode(rows, SCHEMA))
    with pytest.raises(KeyError, match="plain"):
        encode(rows.drop(columns="plain"), SCHEMA)


def test_operand_of_a_ratio_is_needed_though_it_is_no_feature() -> None:
    fields = SCHEMA.model_dump()
    fields["columns"][1]["feature"] = False
    assert "log" in [column.name for column in FeatureSchema.model_validate(fields).inputs]
