"""An institution's table to tensors: read, clean, split, encode."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from client.cleaning import Rows, Table, clean
from client.databases import Database, read_query
from client.reading import read_frame
from common.encoding import Features, encode, read_column, read_labels
from common.errors import DataError
from common.plan import TRAIN_SHARE
from common.schema import FeatureSchema
from common.secret_files import DATA_PASSWORD, from_environment

Positions = npt.NDArray[np.intp]

SHARES = (TRAIN_SHARE, 0.08, 0.20)
"""Shares of train, validation and test."""

FOLDS = 5
"""Splits of one table whose test rows are disjoint."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Encoded rows.

    ``features`` is float32 [n, width] in [-1, 1], ``labels`` float32 [n] of 0 and 1,
    ``protected`` the n rows of the protected columns, for groups only. ``customers`` [n] numbers
    from 0 whom each row belongs to, where a customer is the unit of privacy; None where a record
    is.
    """

    features: Features
    labels: Features
    protected: pd.DataFrame
    customers: Positions | None = None

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

    def require_units(self, cap: int | None) -> None:
        """Raise `DataError` unless customers have ``cap`` rows at most; None takes rows alone.

        A clip divided by the cap bounds nobody whose rows were not capped or come one by one.
        """
        for part in (self.train, self.validation, self.test):
            most = None if part.customers is None else np.bincount(part.customers).max(initial=0)
            if (most is None) != (cap is None) or (most or 0) > (cap or 0):
                raise DataError(
                    f"{self.source}: rows are not in the units of the plan: prepare them under its"
                    " privacy.unit and privacy.rows_per_customer"
                )


def load_table(data: Path | Database, schema: FeatureSchema) -> Table:
    """Read and clean a CSV or Parquet file or what a query gives.

    A database's password comes from the environment and stands nowhere else.

    Raises `DataError` naming file or database, column and count.
    """
    if isinstance(data, Database):
        frame = read_query(data, from_environment(DATA_PASSWORD))
    else:
        frame = read_frame(data, schema.file)
    return clean(frame, schema, str(data))


def prepare(table: Table, schema: FeatureSchema, cap: int | None = None, fold: int = 0) -> Splits:
    """Split a cleaned table 72/8/20 and encode each part.

    With a ``cap`` the unit is a customer, of whom so many rows at most are used. Institutions
    have one split; other folds of `FOLDS` are a simulation's, to cross-validate.
    """
    frame, customers = table.frame, None
    if cap is not None:
        frame = frame[capped(frame, schema, cap)]
        customers = pd.factorize(frame[require_customer(schema)])[0]
    examples = Examples(
        encode(frame, schema), read_labels(frame, schema), frame[list(schema.protected)], customers
    )
    parts = split_rows(frame, schema, fold)
    train, validation, test = (_take(examples, parts == part) for part in range(len(SHARES)))
    return Splits(train, validation, test, table.source)


def _take(examples: Examples, rows: Rows) -> Examples:
    protected = examples.protected[rows].reset_index(drop=True)
    customers = examples.customers
    if customers is not None:
        customers = np.unique(customers[rows], return_inverse=True)[1]
    return Examples(examples.features[rows], examples.labels[rows], protected, customers)


def require_customer(schema: FeatureSchema) -> str:
    """Return the customer column; raise `DataError` when the schema names none."""
    if schema.customer is None:
        raise DataError(
            f"schema {schema.name!r} names no customer column: name it, or let a record be the unit"
        )
    return schema.customer


def capped(rows: pd.DataFrame, schema: FeatureSchema, cap: int) -> Rows:
    """Return which cleaned rows count, bool [n]: of each customer ``cap`` at most.

    They are the first by a hash of the customer and the declared cells (BLAKE2b), so that a
    customer's follow from its own rows alone, in whatever order and beside whomever they stand.
    """
    identifiers = rows[require_customer(schema)]
    keys = zip(_customer_keys(identifiers), _cell_keys(rows, schema), strict=True)
    # Whose row it is comes first, and is of one length, so that no two pairs read alike.
    keyed = (blake2b(who, digest_size=32).digest() + cells for who, cells in keys)
    customers = pd.factorize(identifiers)[0]
    order = np.lexsort((_hashes(keyed, b"fedprune/1/cap"), customers))
    kept = np.empty(len(rows), np.bool_)
    kept[order] = pd.Series(customers[order]).groupby(customers[order]).cumcount() < cap
    return kept


def split_rows(rows: pd.DataFrame, schema: FeatureSchema, fold: int = 0) -> npt.NDArray[np.intp]:
    """Return each cleaned row's part, int [n]: 0 train, 1 validation, 2 test.

    A part follows from the declared cells of the row alone (BLAKE2b), or from the customer
    where the schema names one: equal rows and one customer's rows share a part, in whatever
    order and at whichever institution they stand. Over all folds each row is a test row once.
    """
    if schema.customer is None:
        keys = _cell_keys(rows, schema)
    else:
        keys = _customer_keys(rows[schema.customer])
    hashes = _hashes(keys, b"fedprune/1/split") + np.uint64(fold * 2**64 // FOLDS)
    return np.searchsorted(np.cumsum(SHARES)[:-1], hashes / 2**64, side="right")


def _customer_keys(identifiers: "pd.Series[Any]") -> list[bytes]:
    return [str(identifier).encode() for identifier in identifiers]


def _cell_keys(rows: pd.DataFrame, schema: FeatureSchema) -> list[bytes]:
    """Return each row's declared cells as bytes, the same however the table was written."""
    columns = (*schema.columns, schema.outcome)
    cells = np.column_stack([read_column(rows[column.name], column) for column in columns])
    cells = np.where(np.isnan(cells), np.nan, cells + 0.0)  # One NaN and one zero.
    return [row.tobytes() for row in cells.astype("<f8")]


def _hashes(keys: Iterable[bytes], person: bytes) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each key, [n]; ``person`` says what for."""
    hashes = b"".join(blake2b(key, digest_size=8, person=person).digest() for key in keys)
    return np.frombuffer(hashes, ">u8")


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
