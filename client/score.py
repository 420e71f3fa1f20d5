"""Rows to scores: one answer for each row, in order, or none where the schema says so.

A cell means what it meant in training. A number out of bounds is clipped where the schema clips;
a row that training would drop has no score; a cell that training would refuse has the table
refused, or, if asked, leaves its row without a score. Columns that are no feature are not read:
neither the label nor a protected column. A row that repeats another is scored like it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from client.cleaning import Rows
from client.explanation import explain
from client.scorer import Scorer
from client.tables import to_frame
from common.encoding import Features, Floats, out_of_range, read_inputs, to_features
from common.errors import ConfigError, DataError
from common.export.onnx_file import LOGIT, SCORE
from common.schema import FeatureSchema, NumericColumn

ROW, BASE, PART = "row", "base", "contribution:"
"""Names of columns written beside score and logit; an input's name follows the last."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller wants beside the score.

    ``kept`` columns are copied; without any, rows are numbered. ``blank`` leaves a row that does
    not fit without a score instead of refusing the table. ``pairs`` of orders explain each score,
    0 explains none.
    """

    kept: tuple[str, ...] = ()
    blank: bool = False
    pairs: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A chunk's answer: the columns to write, and its rows without a score by (column, why)."""

    table: pa.Table
    unscored: int
    faults: Counter[tuple[str, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """What is wrong with the cells of a column in some rows, bool [n]."""

    column: str
    problem: str
    refused: bool
    rows: Rows


def score_chunks(
    chunks: Iterable[pa.Table], scorer: Scorer, wishes: Wishes, source: str
) -> Iterator[Scored]:
    """Score chunk by chunk; rows are numbered from 1 in errors, without the header.

    Raises:
        DataError: a cell does not fit the schema, named by column and row, never shown.
        ConfigError: a kept column has the name of one that is written.
    """
    written = set(written_columns(scorer.schema, wishes))
    if taken := [name for name in wishes.kept if name in written]:
        raise ConfigError(f"{source}: column {taken[0]!r} is also one that is written: rename it")
    first = 1
    for chunk in chunks:
        yield _score(chunk, scorer, wishes, source, first)
        first += len(chunk)


def written_columns(schema: FeatureSchema, wishes: Wishes) -> tuple[str, ...]:
    """Return the names of the columns that scoring adds to the kept ones."""
    parts = (PART + column.name for column in schema.inputs)
    return (SCORE, LOGIT, BASE, *parts) if wishes.pairs else (SCORE,)


def find_faults(read: Mapping[str, Floats], schema: FeatureSchema) -> Iterator[Fault]:
    """Yield what keeps parsed rows from being scored, by column and kind; mostly of no rows."""
    for column in schema.inputs:
        name, values = column.name, read[column.name]
        numeric = isinstance(column, NumericColumn)
        unlike = "is no number" if numeric else "is none of the declared values"
        yield Fault(name, unlike, True, np.isinf(values))
        if column.missing != "indicator":
            yield Fault(name, "is missing", column.missing == "refuse", np.isnan(values))
        if isinstance(column, NumericColumn) and column.outside != "clip":
            outside = out_of_range(values, column) & np.isfinite(values)
            bounds = f"is outside [{column.lo:g}, {column.hi:g}]"
            yield Fault(name, bounds, column.outside == "refuse", outside)


def _score(chunk: pa.Table, scorer: Scorer, wishes: Wishes, source: str, first: int) -> Scored:
    schema = scorer.schema
    read = read_inputs(to_frame(chunk.select([c.name for c in schema.inputs])), schema)
    faults = [fault for fault in find_faults(read, schema) if fault.rows.any()]
    if not wishes.blank:
        _require_fit(faults, source, first)
    fit = ~np.any([np.zeros(len(chunk), np.bool_), *(fault.rows for fault in faults)], axis=0)
    if not fit.all():
        read = {name: values[fit] for name, values in read.items()}
    columns = _answers(to_features(read, schema), scorer, wishes)
    # Without either, a row without a score would be an empty line of CSV, which readers skip.
    kept = {name: chunk.column(name) for name in wishes.kept} or {
        ROW: pa.array(np.arange(first, first + len(chunk)))
    }
    answers = dict(zip(written_columns(schema, wishes), columns, strict=True))
    return Scored(
        pa.table(kept | {name: _spread(values, fit) for name, values in answers.items()}),
        int((~fit).sum()),
        Counter({(fault.column, fault.problem): int(fault.rows.sum()) for fault in faults}),
    )


def _require_fit(faults: Sequence[Fault], source: str, first: int) -> None:
    """Refuse the first cell that training would refuse."""
    refused = [(int(fault.rows.argmax()), fault) for fault in faults if fault.refused]
    if refused:
        row, fault = min(refused, key=lambda found: found[0])
        raise DataError(
            f"{source}: column {fault.column!r}: the cell in row {first + row} {fault.problem}:"
            " correct it, or give --blank to leave such rows without a score"
        )


def _answers(features: Features, scorer: Scorer, wishes: Wishes) -> list[Features | Floats]:
    logits, scores = scorer.predict(features)
    if not wishes.pairs:
        return [scores]
    base, parts = explain(features, logits, scorer.logits, scorer.schema, wishes.pairs)
    return [scores, logits, np.full(len(logits), base), *parts.T]


def _spread(values: Features | Floats, fit: Rows) -> pa.Array:
    """Return the values in the rows that fit, in order, and none in the others."""
    if fit.all():
        return pa.array(values)
    spread = np.zeros(len(fit), values.dtype)
    spread[fit] = values
    return pa.array(spread, mask=~fit)
