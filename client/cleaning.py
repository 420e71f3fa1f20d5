"""Raw rows to clean ones: pandera validates what the schema refuses, the rest is counted.

Rows, counts and error messages stay on the institution's machine; messages name columns,
counts and row numbers (from 1, without the header), never a cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa

from client.misfits import UNREADABLE, misfit, require_names
from common.encoding import MISSING_TEXT, Floats, out_of_range, read_column
from common.errors import DataError
from common.schema import CategoricalColumn, Column, FeatureSchema, NumericColumn, token

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CleaningReport:
    """What cleaning found, in rows; counts are by column and hold only what occurred.

    Private: exact counts of an institution's rows, for its own eyes.
    """

    rows_read: int
    rows_kept: int
    duplicates: int
    missing: Mapping[str, int]
    out_of_range: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Cleaned rows in file order, each column of its declared kind.

    Numbers are float64 (NaN is missing, values out of range still as read), categories and
    the label pandas categoricals of the declared values; ignored columns are as read.
    """

    frame: pd.DataFrame
    report: CleaningReport
    source: str

    def select(self, rows: npt.NDArray[np.intp], source: str) -> "Table":
        """Return the rows at these positions as a table of their own; the report is the whole's."""
        return Table(self.frame.iloc[rows].reset_index(drop=True), self.report, source)


def clean(frame: pd.DataFrame, schema: FeatureSchema, source: str) -> Table:
    """Validate raw rows and clean them as the schema declares.

    Raises:
        DataError: the rows do not fit the schema, or cleaning leaves none.
    """
    rows = _validate(frame.reset_index(drop=True), schema, source)
    repeated = rows.duplicated().to_numpy()
    missing = {c.name: np.isnan(rows[c.name].to_numpy()) for c in schema.columns}
    outside = {
        c.name: out_of_range(rows[c.name].to_numpy(), c)
        for c in schema.columns
        if isinstance(c, NumericColumn)
    }
    drop = repeated if schema.duplicates == "drop" else np.zeros(len(rows), dtype=np.bool_)
    for column in schema.columns:
        if column.missing == "drop":
            drop = drop | missing[column.name]
        if isinstance(column, NumericColumn) and column.outside == "drop":
            drop = drop | outside[column.name]
    if drop.all():
        raise DataError(
            f"{source}: cleaning drops all {len(rows)} rows: check the columns that the schema"
            ' declares missing = "drop" or outside = "drop"'
        )
    for column in (*schema.columns, schema.outcome):
        if isinstance(column, CategoricalColumn):
            rows[column.name] = _categorical(rows[column.name].to_numpy(), column)
    report = CleaningReport(
        rows_read=len(rows),
        rows_kept=int((~drop).sum()),
        duplicates=int(repeated.sum()),
        missing=_counts(missing),
        out_of_range=_counts(outside),
    )
    return Table(rows[~drop].reset_index(drop=True), report, source)


def _categorical(index: Floats, column: CategoricalColumn) -> "pd.Categorical[Any]":
    codes = np.where(np.isnan(index), -1, index).astype(np.intp)
    categories: pd.Index[Any] = pd.Index(list(column.values))
    return pd.Categorical.from_codes(codes, categories=categories)


def _counts(found: Mapping[str, Rows]) -> dict[str, int]:
    return {name: int(rows.sum()) for name, rows in found.items() if rows.any()}


def _validate(frame: pd.DataFrame, schema: FeatureSchema, source: str) -> pd.DataFrame:
    """Return the rows parsed: numbers, indices of categories, identifiers, ignored as read."""
    require_names(frame, schema, source)
    columns = {column.name: _expect(column) for column in schema.columns}
    columns[schema.label.column] = _expect(schema.outcome)
    if schema.customer is not None:
        columns[schema.customer] = pa.Column(parsers=pa.Parser(_identifiers))
    try:
        return pa.DataFrameSchema(columns).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        # Not chained: pandera's error shows cells.
        raise misfit(errors.failure_cases, frame, schema, source) from None


def _expect(column: Column) -> pa.Column:
    checks = []
    if isinstance(column, NumericColumn) and column.outside == "refuse":
        bounds = f"are outside [{column.lo:g}, {column.hi:g}]: correct them"
        checks.append(pa.Check(partial(_within, column=column), error=bounds))
    checks.append(pa.Check(np.isfinite, error=UNREADABLE))
    parser = pa.Parser(partial(_parse, column=column))
    return pa.Column(parsers=parser, checks=checks, nullable=column.missing != "refuse")


def _parse(cells: "pd.Series[Any]", column: Column) -> "pd.Series[float]":
    return pd.Series(read_column(cells, column), index=cells.index)


def _within(values: "pd.Series[float]", column: NumericColumn) -> "pd.Series[bool]":
    numbers = np.asarray(values, dtype=np.float64)
    # What cannot be read at all is another check's to report.
    return pd.Series(np.isinf(numbers) | ~out_of_range(numbers, column), index=values.index)


def _identifiers(cells: "pd.Series[Any]") -> "pd.Series[str]":
    rows, distinct = pd.factorize(cells)
    texts = (token(identifier) for identifier in distinct)
    known = [None if text.lower() in MISSING_TEXT else text for text in texts]
    return pd.Series(np.array([*known, None], dtype=object)[rows], index=cells.index, dtype="str")
