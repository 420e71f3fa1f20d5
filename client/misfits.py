"""What of a table does not fit its schema, in words that name the remedy and no cell."""

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import pandas as pd

from common.errors import TableError
from common.schema import CategoricalColumn, Column, FeatureSchema, token

UNREADABLE = "unreadable"
"""The check that a cell holds what its column declares."""

LOOKED_AT = 1_000
"""Cells of a column whose form is looked at for a hint."""

DATE = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}\b.*|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}\b.*"
DECIMAL_COMMA = r"[+-]?\d[\d.]*,\d+"

OTHERWISE = "correct them, or leave these rows out of the file"


def require_names(frame: pd.DataFrame, schema: FeatureSchema, source: str) -> None:
    """Refuse a table whose columns are not the declared; cells are read under sound names alone.

    Raises:
        TableError: naming the columns.
    """
    customer = () if schema.customer is None else (schema.customer,)
    needed = [*(column.name for column in schema.columns), schema.label.column, *customer]
    count = Counter(frame.columns)
    absent = [name for name in needed if name not in count]
    extra = [name for name in count if name not in needed and name not in schema.ignored]
    problems = []
    # Without a header the file's "names" are a record's cells.
    headed = 2 * len(absent) <= len(needed)
    for name in absent:
        like = get_close_matches(name, [other for other in extra if isinstance(other, str)], n=1)
        like = like if headed else []
        extra = [other for other in extra if other not in like]
        meant = f", or did you mean {like[0]!r}, as the file has it?" if like else ""
        problems.append(f"column {name!r} is missing: add it to the file{meant}")
    if headed:
        problems += [
            f"column {name!r} occurs more than once: keep one of them"
            for name in count
            if count[name] > 1
        ]
        problems += [
            f"column {name!r} is not in the schema: remove it from the file or declare it, if only"
            " in `ignored`"
            for name in extra
        ]
    elif extra:
        problems.append(
            f"{len(extra)} columns are not in the schema: remove them, and see that the file's"
            " first line is a header"
        )
    if problems:
        raise TableError(source, problems)


def misfit(
    failures: pd.DataFrame, frame: pd.DataFrame, schema: FeatureSchema, source: str
) -> TableError:
    """Return what pandera found in cells: a problem for each column and check that failed."""
    return TableError(source, list(_problems(failures, frame, schema)))


def _problems(failures: pd.DataFrame, frame: pd.DataFrame, schema: FeatureSchema) -> Iterator[str]:
    columns = {column.name: column for column in (*schema.columns, schema.outcome)}
    for key, found in failures.groupby(["column", "check"], sort=False):
        name, check = map(str, key)
        rows = found["index"].astype(int).tolist()
        column = columns.get(name)
        if column is None or name == schema.label.column:
            problem = _of_required(check, schema)
        elif check == "not_nullable":
            problem = (
                'are missing: fill them, or give the column missing = "indicator" or'
                ' missing = "drop" in the schema'
            )
        elif check == UNREADABLE:
            problem = _of_unreadable(frame[name].iloc[rows[:LOOKED_AT]], column)
        else:
            problem = check
        # A row is the table's: a CSV file's first line is its header.
        yield (
            f"column {name!r}: {len(rows)} cells, the first in row {min(rows) + 1} below the"
            f" header, {problem}"
        )


def _of_required(check: str, schema: FeatureSchema) -> str:
    """Say what is wrong with the label or the customer, which every row must have."""
    if check == "not_nullable":
        return "are missing: fill them, or leave these rows out of the file"
    label = schema.label
    return (
        f"are neither {label.positive!r} nor {label.negative!r}, and a label has these two values"
        f" alone: {OTHERWISE}"
    )


def _of_unreadable(cells: "pd.Series[Any]", column: Column) -> str:
    if isinstance(column, CategoricalColumn):
        lower = {token(value).lower() for value in column.values}
        if _mostly([token(cell).lower() in lower for cell in cells]):
            return (
                "are not among its declared values, and most differ in upper and lower case alone:"
                " write them as the schema does"
            )
        return (
            "are not among its declared values: correct them, or list them in the column's values"
            " or missing_codes"
        )
    text = cells.astype(str).str.strip()
    if _mostly(text.str.fullmatch(DATE).tolist()):
        return (
            "are not numbers but look like dates: a date is no feature: turn it into days, or list"
            " the column in `ignored`"
        )
    if _mostly(text.str.fullmatch(DECIMAL_COMMA).tolist()):
        return "are not numbers but have decimal commas: save numbers with a decimal point"
    return "are not numbers: correct them, or list them in the column's missing_codes"


def _mostly(found: Sequence[bool]) -> bool:
    return 2 * sum(found) > len(found)
