"""An institution's table to tensors: read, clean, split, encode."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from client.cleaning import Rows, Table, clean
from client.reading import read_frame
from common.encoding import Features, encode, read_column, read_labels
from common.errors import DataError
from common.plan import TRAIN_SHARE
from common.schema import FeatureSchema

SHARES = (TRAIN_SHARE, 0.08, 0.20)
"""Shares of train, validation and test."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Encoded rows.

    ``features`` is float32 [n, width] in [-1, 1], ``labels`` float32 [n] of 0 and 1,
    ``protected`` the n rows of the protected columns, for groups only.
    """

    features: Features
    labels: Features
    protected: pd.DataFrame

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The three disjoint parts of a table."""

    train: Examples
    validation: Examples
    test: Examples
    source: str


def load_table(path: Path, schema: FeatureSchema) -> Table:
    """Read and clean a CSV or Parquet file; raise `DataError` naming file, column and count."""
    return clean(read_frame(path, schema.file), schema, str(path))


def prepare(table: Table, schema: FeatureSchema) -> Splits:
    """Split a cleaned table 72/8/20 and encode each part."""
    examples = Examples(
        encode(table.frame, schema),
        read_labels(table.frame, schema),
        table.frame[list(schema.protected)],
    )
    parts = split_rows(table.frame, schema)
    train, validation, test = (_take(examples, parts == part) for part in range(len(SHARES)))
    return Splits(train, validation, test, table.source)


def _take(examples: Examples, rows: Rows) -> Examples:
    protected = examples.protected[rows].reset_index(drop=True)
    return Examples(examples.features[rows], examples.labels[rows], protected)


def split_rows(rows: pd.DataFrame, schema: FeatureSchema) -> npt.NDArray[np.intp]:
    """Return each cleaned row's part, int [n]: 0 train, 1 validation, 2 test.

    A part follows from the declared cells of the row alone (BLAKE2b), or from the customer
    where the schema names one: equal rows and one customer's rows share a part, in whatever
    order and at whichever institution they stand.
    """
    if schema.customer is not None:
        keys = [str(identifier).encode() for identifier in rows[schema.customer]]
    else:
        columns = (*schema.columns, schema.outcome)
        cells = np.column_stack([read_column(rows[column.name], column) for column in columns])
        cells = np.where(np.isnan(cells), np.nan, cells + 0.0)  # One NaN and one zero.
        keys = [row.tobytes() for row in cells.astype("<f8")]
    hashes = b"".join(
        hashlib.blake2b(key, digest_size=8, person=b"fedprune/1/split").digest() for key in keys
    )
    return np.searchsorted(
        np.cumsum(SHARES)[:-1], np.frombuffer(hashes, ">u8") / 2**64, side="right"
    )


def require_trainable(splits: Splits, expected_batch: float) -> None:
    """Refuse to train on one class, or on fewer rows than a batch holds on average.

    Raises:
        DataError: naming the file, what is left and the remedy.
    """
    rows, positive = len(splits.train), int(splits.train.labels.sum())
    if rows < expected_batch:
        raise DataError(
            f"{splits.source}: {rows} training rows are fewer than one batch of"
            f" {expected_batch:g}: lower training.sample_rate or the declared size, or bring more"
            " rows"
        )
    if positive in (0, rows):
        raise DataError(
            f"{splits.source}: all {rows} training rows have the same label: bring rows of both"
            " classes, or check the label's declared values"
        )
