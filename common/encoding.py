"""Rows to features by public bounds alone: a row's features depend on the row and the schema."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError
from common.schema import CategoricalColumn, Column, FeatureSchema, NumericColumn, token

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]

MISSING_TEXT = frozenset({"", "na", "n/a", "nan", "nat", "none", "null", "<na>"})
"""Cells, in lower case, that mean "missing" wherever a column does not declare them a value."""


def read_column(cells: "pd.Series[Any]", column: Column) -> Floats:
    """Parse one column, whatever its dtype, to float64 [n].

    A numeric cell becomes its number, a categorical one the index of its declared value;
    NaN is missing and an infinity cannot be read. Parsing twice changes nothing.
    """
    if isinstance(column, CategoricalColumn):
        return _categories(cells, column)
    return _numbers(cells, column)


def _numbers(cells: "pd.Series[Any]", column: NumericColumn) -> Floats:
    if pd.api.types.is_numeric_dtype(cells.dtype):
        values = cells.to_numpy(np.float64, na_value=np.nan, copy=True)
    else:
        cells = cells.astype("str")  # A date would pass for its nanoseconds.
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, copy=True)
        text = np.isnan(values)
        values[text] = _look_up(cells[text], {}, column)
    codes = [code for code in column.missing_codes if not isinstance(code, str)]
    values[np.isin(values, codes)] = np.nan
    return values


def _categories(cells: "pd.Series[Any]", column: CategoricalColumn) -> Floats:
    index = {token(value): float(position) for position, value in enumerate(column.values)}
    return _look_up(cells, index, column)


def _look_up(cells: "pd.Series[Any]", known: dict[str, float], column: Column) -> Floats:
    """Return the known values of cells; NaN for what means missing, infinity for the rest."""
    if cells.dtype == object:
        cells = cells.map(token, na_action="ignore")  # Any object has a text, not all a hash.
    rows, distinct = pd.factorize(cells)
    codes = {token(code) for code in column.missing_codes}
    values: Floats = np.full(len(distinct) + 1, np.nan)  # The last answers factorize's -1: missing.
    for place, text in enumerate(map(token, distinct)):
        missing = text in codes or text.lower() in MISSING_TEXT
        values[place] = known.get(text, np.nan if missing else np.inf)
    return values[rows]


def out_of_range(values: Floats, column: NumericColumn) -> npt.NDArray[np.bool_]:
    """Return, bool [n], which numbers lie outside the bounds and are no declared code."""
    outside = (values < column.lo) | (values > column.hi)
    return outside & ~np.isin(values, column.codes)


def encode(rows: pd.DataFrame, schema: FeatureSchema) -> Features:
    """Encode rows to float32 [n, schema.width], every feature in [-1, 1].

    Raises:
        DataError: a cell is no number or no declared value; column and row are named.
    """
    read = read_inputs(rows, schema)
    for name, values in read.items():
        if np.isinf(values).any():
            row = int(np.flatnonzero(np.isinf(values))[0]) + 1
            raise DataError(f"column {name!r}: row {row} does not fit the schema: clean it first")
    return to_features(read, schema)


def read_inputs(rows: pd.DataFrame, schema: FeatureSchema) -> dict[str, Floats]:
    """Parse the columns that features are made of, each as `read_column` does."""
    return {column.name: read_column(rows[column.name], column) for column in schema.inputs}


def to_features(read: Mapping[str, Floats], schema: FeatureSchema) -> Features:
    """Encode n parsed rows, none infinite, to float32 [n, schema.width]."""
    length = len(next(iter(read.values())))
    features = np.empty((length, schema.width), dtype=np.float32)
    for position, feature in enumerate(_features(read, schema)):
        features[:, position] = feature
    return features


def read_labels(rows: pd.DataFrame, schema: FeatureSchema) -> Features:
    """Return the labels of cleaned rows, float32 [n] of 0 and 1."""
    return read_column(rows[schema.label.column], schema.outcome).astype(np.float32)


def _features(
    read: Mapping[str, Floats], schema: FeatureSchema
) -> Iterator[Floats | npt.NDArray[np.bool_]]:
    for column in schema.columns:
        if not column.encoded:
            continue
        values = read[column.name]
        if isinstance(column, NumericColumn):
            ends = np.array([column.lo, column.hi])
            yield _scale(*map(_log, (values, ends))) if column.log else _scale(values, ends)
            yield from (values == code for code in column.codes)
        else:
            yield from (values == index for index in range(len(column.values)))
        if column.missing == "indicator":
            yield np.isnan(values)
    for ratio in schema.ratios:
        numerator, denominator = read[ratio.numerator], read[ratio.denominator]
        quotient = np.full_like(numerator, np.nan)
        with np.errstate(over="ignore"):  # A quotient too large to hold is clipped like any other.
            np.divide(numerator, denominator, out=quotient, where=denominator != 0)
        yield _scale(quotient, np.array([ratio.lo, ratio.hi]))


def _log(values: Floats) -> Floats:
    return np.sign(values) * np.log1p(np.abs(values))


def _scale(values: Floats, ends: Floats) -> Floats:
    """Clip to [lo, hi] and map to [-1, 1]; missing becomes 0, the middle of the range."""
    lo, hi = ends
    scaled = 2 * ((np.clip(values, lo, hi) - lo) / (hi - lo)) - 1
    return np.where(np.isnan(scaled), 0.0, scaled)
