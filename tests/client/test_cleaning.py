from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from client.cleaning import CleaningReport, clean
from common.errors import DataError
from common.schema import FeatureSchema

FIELDS: dict[str, Any] = {
    "name": "small",
    "label": {"column": "bad", "positive": "yes", "negative": "no"},
    "ignored": ["note"],
    "columns": [
        {"name": "amount", "kind": "numeric", "lo": 0, "hi": 10},
        {"name": "grade", "kind": "categorical", "values": ["a", "b"]},
        {"name": "sex", "kind": "categorical", "values": [1, 2], "protected": True},
    ],
}
NO_NUMBER = "are not numbers: correct them, or list them in the column's missing_codes"
NO_VALUE = (
    "are not among its declared values: correct them, or list them in the column's values or"
    " missing_codes"
)
SCHEMA = FeatureSchema.model_validate(FIELDS)


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "note": ["", "u", "v", "w"],
            "amount": ["1", "2", "3", "4"],
            "grade": ["a", "b", "a", "b"],
            "sex": ["1", "2", "1", "2"],
            "bad": ["no", "yes", "no", "yes"],
        }
    )


def declare(column: str, **settings: object) -> FeatureSchema:
    """Return the schema with other settings of one column."""
    columns = [c | settings if c["name"] == column else c for c in FIELDS["columns"]]
    return FeatureSchema.model_validate({**FIELDS, "columns": columns})


def complaint(frame: pd.DataFrame, schema: FeatureSchema = SCHEMA) -> str:
    with pytest.raises(DataError) as caught:
        clean(frame, schema, "t.csv")
    message = str(caught.value)
    assert message.startswith("t.csv: ")
    assert "\n" not in message
    return message.removeprefix("t.csv: ")


def put(column: str, *cells: object) -> pd.DataFrame:
    return rows().assign(**{column: pd.Series(cells, dtype=object)})


def test_clean_rows_have_their_declared_kinds() -> None:
    table = clean(rows(), SCHEMA, "t.csv")
    assert table.frame["amount"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert table.frame["sex"].tolist() == [1, 2, 1, 2]
    assert list(table.frame["grade"].cat.categories) == ["a", "b"]
    assert list(table.frame["bad"].cat.codes) == [0, 1, 0, 1]
    assert table.frame["note"].tolist() == ["", "u", "v", "w"]
    assert table.report == CleaningReport(4, 4, duplicates=0, missing={}, out_of_range={})


def test_cleaning_twice_changes_nothing_and_spares_its_input() -> None:
    raw = rows()
    once = clean(raw, SCHEMA, "t.csv").frame
    pd.testing.assert_frame_equal(clean(once, SCHEMA, "t.csv").frame, once)
    pd.testing.assert_frame_equal(raw, rows())


def test_ignored_column_may_be_absent() -> None:
    assert "note" not in clean(rows().drop(columns="note"), SCHEMA, "t.csv").frame


def test_selected_rows_are_a_table_of_their_own() -> None:
    part = clean(rows(), SCHEMA, "t.csv").select(np.array([2, 0]), "institution-1")
    assert part.frame["amount"].tolist() == [3.0, 1.0]
    assert list(part.frame.index) == [0, 1]
    assert part.source == "institution-1"


@pytest.mark.parametrize(("duplicates", "kept"), [("keep", 6), ("drop", 4)])
def test_duplicates_are_counted_and_handled(duplicates: str, kept: int) -> None:
    schema = FeatureSchema.model_validate({**FIELDS, "duplicates": duplicates})
    frame = pd.concat([rows(), rows().tail(2)], ignore_index=True)
    table = clean(frame, schema, "t.csv")
    assert (table.report.duplicates, table.report.rows_kept, len(table.frame)) == (2, kept, kept)


def test_rows_that_differ_in_an_ignored_column_are_no_duplicates() -> None:
    schema = FeatureSchema.model_validate({**FIELDS, "duplicates": "drop"})
    frame = pd.concat([rows(), rows().tail(2).assign(note="z")], ignore_index=True)
    assert clean(frame, schema, "t.csv").report.duplicates == 0


@pytest.mark.parametrize(
    ("column", "cells"),
    [("amount", ("1", "", "-9", "NA")), ("grade", ("a", None, "-9", "null"))],
)
@pytest.mark.parametrize(("missing", "kept"), [("indicator", 4), ("drop", 1)])
def test_missing_is_counted_and_handled(
    column: str, cells: tuple[object, ...], missing: str, kept: int
) -> None:
    schema = declare(column, missing=missing, missing_codes=[-9])
    table = clean(put(column, *cells), schema, "t.csv")
    assert table.report.missing == {column: 3}
    assert (table.report.rows_kept, len(table.frame)) == (kept, kept)
    assert int(table.frame[column].isna().sum()) == kept - 1


@pytest.mark.parametrize("column", ["amount", "grade", "sex", "bad"])
def test_missing_is_refused_by_default(column: str) -> None:
    cells = rows()[column].tolist()
    remedy = (
        "leave these rows out of the file"  # A label has no `missing`.
        if column == "bad"
        else 'give the column missing = "indicator" or missing = "drop" in the schema'
    )
    assert complaint(put(column, cells[0], "", None, cells[3])) == (
        f"column '{column}': 2 cells, the first in row 2 below the header, are missing: fill them,"
        f" or {remedy}"
    )


@pytest.mark.parametrize(("outside", "kept"), [("clip", 4), ("drop", 2)])
def test_out_of_range_is_counted_and_handled(outside: str, kept: int) -> None:
    table = clean(put("amount", "1", "11", "-1", "10"), declare("amount", outside=outside), "t.csv")
    assert table.report.out_of_range == {"amount": 2}
    assert (table.report.rows_kept, len(table.frame)) == (kept, kept)


def test_out_of_range_is_refused_where_declared() -> None:
    schema = declare("amount", outside="refuse", codes=[-1])
    assert clean(put("amount", "1", "0", "-1", "10"), schema, "t.csv").report.rows_kept == 4
    assert complaint(put("amount", "1", "11", "-1", "12"), schema) == (
        "column 'amount': 2 cells, the first in row 2 below the header, are outside [0, 10]:"
        " correct them"
    )


def test_dropping_every_row_is_refused() -> None:
    frame = put("amount", "", "", "", "")
    assert complaint(frame, declare("amount", missing="drop")).startswith("cleaning drops all 4")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns="amount"), "column 'amount' is missing: add it to the file"),
        (
            lambda f: f.drop(columns=["amount", "sex"]),
            "column 'amount' is missing: add it to the file (1 more problem:"
            " fedprune-client check lists all)",
        ),
        (lambda f: f.drop(columns="bad"), "column 'bad' is missing: add it to the file"),
        (
            lambda f: f.rename(columns={"amount": "1", "sex": "SECRET", "bad": "1"}),
            "column 'amount' is missing: add it to the file (3 more problems:"
            " fedprune-client check lists all)",
        ),
        (
            lambda f: f.assign(extra=1),
            "column 'extra' is not in the schema: remove it from the file or declare it, if only"
            " in `ignored`",
        ),
        (
            lambda f: pd.concat([f, f[["amount"]]], axis=1),
            "column 'amount' occurs more than once: keep one of them",
        ),
        (
            lambda f: pd.concat([f, f[["note"]]], axis=1),
            "column 'note' occurs more than once: keep one of them",
        ),
    ],
)
def test_columns_must_be_the_declared(
    spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    assert complaint(spoil(rows())) == message


@pytest.mark.parametrize(
    ("column", "cells", "problem"),
    [
        ("amount", ("1", "SECRET", "3", "1,5"), NO_NUMBER),
        ("amount", (1, float("inf"), 3, -float("inf")), NO_NUMBER),
        ("grade", ("a", "SECRET", "b", "A"), NO_VALUE),
        ("sex", ("1", "SECRET", "2", "3"), NO_VALUE),
        (
            "bad",
            ("no", "SECRET", "yes", "1"),
            "are neither 'yes' nor 'no', and a label has these two values alone: correct them, or"
            " leave these rows out of the file",
        ),
    ],
)
def test_unreadable_cells_are_counted_and_never_shown(
    column: str, cells: tuple[object, ...], problem: str
) -> None:
    message = complaint(put(column, *cells))
    assert message == (
        f"column '{column}': 2 cells, the first in row 2 below the header, {problem}"
    )


def test_first_problem_is_told_and_the_others_counted() -> None:
    frame = put("amount", "x", "2", "3", "4").assign(grade=["a", "b", "c", "c"])
    assert complaint(frame).endswith(
        "missing_codes (1 more problem: fedprune-client check lists all)"
    )


def test_customer_identifiers_are_text_and_required() -> None:
    schema = FeatureSchema.model_validate({**FIELDS, "ignored": [], "customer": "note"})
    table = clean(rows().assign(note=[7.0, 7, 8, 9]), schema, "t.csv")
    assert table.frame["note"].tolist() == ["7", "7", "8", "9"]
    assert complaint(rows(), schema).startswith("column 'note': 1 cells, the first in row 1 below")
