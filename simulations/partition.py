"""Ways to deal one table out to simulated institutions.

The generator is numpy's and seeded: a simulation's partition protects nobody. Where a schema
names customers they are dealt whole, because each has an epsilon of its own at every institution
that holds it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.encoding import read_column, read_labels
from common.errors import ConfigError, DataError
from common.schema import FeatureSchema, NumericColumn

Rows = npt.NDArray[np.intp]
Dealer = Callable[[pd.DataFrame, FeatureSchema, int, np.random.Generator], list[Rows]]

LEAST_ROWS = 50
"""Rows that every institution gets whatever the partition, the least a plan lets it declare."""

FLOOR_SHARE = 0.1
"""Share of an even part that skewed partitions leave to their smallest institution."""

DIRICHLET_ALPHA = 0.3
QUANTITY_EXPONENT = 1.5

NATURAL = {
    "bank_marketing": ("job",),
    "credit_consortium": ("institution",),
    "uci_default": ("EDUCATION", "AGE"),
}
"""By a shipped schema's name, the columns along which real institutions would differ."""


def partition(
    frame: pd.DataFrame,
    schema: FeatureSchema,
    kind: str,
    institutions: int,
    rng: np.random.Generator,
) -> list[Rows]:
    """Deal the rows of ``frame`` out: ``institutions`` sorted arrays of row positions.

    Every row is in exactly one part and every part has at least `LEAST_ROWS` rows, or customers
    where the schema names them: then their first rows are dealt and the others follow. ``kind``:

    - ``natural``: by the columns that `NATURAL` names for this schema;
    - ``iid``: at random, sizes equal to within one;
    - ``dirichlet``: label skew, each class dealt by a Dirichlet draw of alpha .3 (Li et al. 2022,
      "Federated Learning on Non-IID Data Silos", section 4);
    - ``quantity``: at random, sizes as 1 / rank^1.5;
    - a column that the schema names: by value, in the order of the values. Neighbours are
      merged, the smallest first, where there are more values than institutions or a value
      has too few rows; the largest groups are split where there are fewer.

    Raises:
        ConfigError: the kind is unknown or has no meaning for this schema.
        DataError: the table lacks the column, or has too few rows for so many institutions.
    """
    if schema.customer is None:
        return _deal(frame, schema, kind, institutions, rng)
    numbers = pd.factorize(frame[schema.customer])[0]
    customers, first = np.unique(numbers, return_index=True)
    holders = np.empty(len(customers), np.intp)
    for holder, part in enumerate(_deal(frame.iloc[first], schema, kind, institutions, rng)):
        holders[part] = holder
    return [np.flatnonzero(holders[numbers] == holder) for holder in range(institutions)]


def values_apart(frame: pd.DataFrame, schema: FeatureSchema, kind: str) -> int | None:
    """Return how many institutions a partition by a column of categories makes, one for each value.

    Rare values are joined to their neighbours. None where the partition is by no such column: one
    of numbers has a range, and no values to keep apart.
    """
    if _categories(frame, schema, kind) is None:
        return None
    if schema.customer is not None:
        frame = frame.drop_duplicates(schema.customer)
    sizes = np.bincount(_ranks(frame, kind, schema))
    count = len(sizes)
    while (left := len(_merge(sizes, count, _floor(len(frame), count)))) < count:
        count = left
    return count


def values_held(
    frame: pd.DataFrame, schema: FeatureSchema, kind: str, parts: Sequence[Rows]
) -> list[tuple[str, ...]] | None:
    """Return the values of a partition's column that each part holds; None as `values_apart`."""
    cells = _categories(frame, schema, kind)
    if cells is None:
        return None
    if schema.customer is not None:
        # A customer is dealt by its first row.
        first = ~frame[schema.customer].duplicated().to_numpy()
        parts = [part[first[part]] for part in parts]
    return [tuple(map(str, cells.iloc[part].dropna().unique())) for part in parts]


def _categories(frame: pd.DataFrame, schema: FeatureSchema, kind: str) -> "pd.Series[Any] | None":
    """Return the column that a partition goes by where its values are categories."""
    if kind in _DEALERS or kind == schema.customer or kind not in frame.columns:
        return None
    declared = next((column for column in schema.columns if column.name == kind), None)
    cells = frame[kind]
    if isinstance(declared, NumericColumn) or kind not in _named(schema):
        return None
    return None if declared is None and pd.api.types.is_numeric_dtype(cells.dtype) else cells


def _deal(
    frame: pd.DataFrame,
    schema: FeatureSchema,
    kind: str,
    institutions: int,
    rng: np.random.Generator,
) -> list[Rows]:
    unit = "rows" if schema.customer is None else "customers"
    if not 1 <= institutions <= len(frame) // LEAST_ROWS:
        raise DataError(
            f"{len(frame)} {unit} cannot be dealt to {institutions} institutions of at least"
            f" {LEAST_ROWS} {unit}: ask for 1 to {len(frame) // LEAST_ROWS}"
        )
    deal = _DEALERS.get(kind)
    parts = (
        deal(frame, schema, institutions, rng)
        if deal
        else _by_columns(frame, schema, (_require_named(schema, kind),), institutions, rng)
    )
    least = min(map(len, parts))
    if least < LEAST_ROWS:
        raise DataError(
            f"partition {kind!r} leaves an institution with {least} {unit} of {LEAST_ROWS} at"
            f" least: ask for fewer than {institutions} institutions"
        )
    return [np.sort(part) for part in parts]


def _natural(
    frame: pd.DataFrame, schema: FeatureSchema, institutions: int, rng: np.random.Generator
) -> list[Rows]:
    if schema.name not in NATURAL:
        raise ConfigError(
            f"schema {schema.name!r} has no natural partition (known for {', '.join(NATURAL)}):"
            f" name a column instead, one of {', '.join(_named(schema))}"
        )
    return _by_columns(frame, schema, NATURAL[schema.name], institutions, rng)


def _iid(
    frame: pd.DataFrame, schema: FeatureSchema, institutions: int, rng: np.random.Generator
) -> list[Rows]:
    return np.array_split(rng.permutation(len(frame)), institutions)


def _dirichlet(
    frame: pd.DataFrame, schema: FeatureSchema, institutions: int, rng: np.random.Generator
) -> list[Rows]:
    labels = read_labels(frame, schema)
    classes = [rng.permutation(np.flatnonzero(labels == value)) for value in np.unique(labels)]
    shares = [rng.dirichlet(np.full(institutions, DIRICHLET_ALPHA)) for _ in classes]
    return _deal_shares(classes, shares, institutions)


def _quantity(
    frame: pd.DataFrame, schema: FeatureSchema, institutions: int, rng: np.random.Generator
) -> list[Rows]:
    shares = np.arange(1, institutions + 1) ** -QUANTITY_EXPONENT
    return _deal_shares([rng.permutation(len(frame))], [shares / shares.sum()], institutions)


_DEALERS: dict[str, Dealer] = {
    "natural": _natural,
    "iid": _iid,
    "dirichlet": _dirichlet,
    "quantity": _quantity,
}


def _floor(rows: int, institutions: int) -> int:
    return max(LEAST_ROWS, int(FLOOR_SHARE * rows / institutions))


def _deal_shares(
    pools: Sequence[Rows], shares: Iterable[npt.NDArray[np.float64]], institutions: int
) -> list[Rows]:
    """Deal each shuffled pool by its shares, once every institution has had its floor.

    The floor is dealt evenly and from each pool in proportion, so that no institution
    starves and none is left without a class that the others have.
    """
    total = sum(map(len, pools))
    least = _floor(total, institutions)
    parts: list[list[Rows]] = [[] for _ in range(institutions)]
    for pool, share in zip(pools, shares, strict=True):
        each = min(-(-least * len(pool) // total), len(pool) // institutions)
        floor, rest = np.split(pool, [each * institutions])
        cuts = np.rint(np.cumsum(share)[:-1] * len(rest)).astype(int)
        dealt = zip(np.split(floor, institutions), np.split(rest, cuts), strict=True)
        for part, pair in zip(parts, dealt, strict=True):
            part.extend(pair)
    return [np.concatenate(part) for part in parts]


def _named(schema: FeatureSchema) -> tuple[str, ...]:
    """Columns by which a table of this schema can be grouped."""
    customer = () if schema.customer is None else (schema.customer,)
    return (*(column.name for column in schema.columns), *schema.ignored, *customer)


def _require_named(schema: FeatureSchema, kind: str) -> str:
    if kind not in _named(schema):
        raise ConfigError(
            f"unknown partition {kind!r}; known: {', '.join(_DEALERS)}, or a column of schema"
            f" {schema.name!r}: {', '.join(_named(schema))}"
        )
    return kind


def _by_columns(
    frame: pd.DataFrame,
    schema: FeatureSchema,
    columns: tuple[str, ...],
    institutions: int,
    rng: np.random.Generator,
) -> list[Rows]:
    """Group by the first column; split groups along the others, then at random."""
    first, *others = (_ranks(frame, name, schema) for name in columns)
    order = np.lexsort((rng.permutation(len(frame)), *reversed(others), first))
    sizes = _merge(np.bincount(first), institutions, _floor(len(frame), institutions))
    pieces = np.ones(len(sizes), dtype=int)
    while pieces.sum() < institutions:
        pieces[np.argmax(sizes / pieces)] += 1
    groups = np.split(order, np.cumsum(sizes)[:-1])
    return [
        part
        for group, count in zip(groups, pieces, strict=True)
        for part in np.array_split(group, count)
    ]


def _ranks(frame: pd.DataFrame, name: str, schema: FeatureSchema) -> Rows:
    """Return each row's rank among the values of a column, [n], as its meaning orders them."""
    if name not in frame.columns:
        raise DataError(f"the table has no column {name!r} to partition by")
    cells = frame[name]
    declared = next((column for column in schema.columns if column.name == name), None)
    if declared is not None:
        values: npt.NDArray[Any] = read_column(cells, declared)
    elif pd.api.types.is_numeric_dtype(cells.dtype):
        values = cells.to_numpy(np.float64, na_value=np.nan)
    else:
        values = cells.astype(str).to_numpy(str)
    return np.unique(values, return_inverse=True)[1]


def _merge(sizes: Rows, most: int, least: int) -> Rows:
    """Join the smallest group to its smaller neighbour until few and large enough."""
    while len(sizes) > 1 and (len(sizes) > most or sizes.min() < least):
        smallest = int(np.argmin(sizes))
        sides = [side for side in (smallest - 1, smallest + 1) if 0 <= side < len(sizes)]
        low, high = sorted((smallest, min(sides, key=lambda side: sizes[side])))
        sizes = np.concatenate([sizes[:low], [sizes[low] + sizes[high]], sizes[high + 1 :]])
    return sizes
