"""Canaries: valid records at the ends of the public bounds, in or out by fair coins."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from client.data import Examples, Splits
from common.encoding import Features, encode
from common.entropy import Stream
from common.errors import DataError
from common.schema import Column, FeatureSchema, NumericColumn

CANDIDATES = 8
"""Records tried for each canary: the ones that stand out most are taken."""

LEAST = 8
"""Canaries of which an attack can make anything."""

LEAST_GAP = 0.1
"""How far a canary must stand out: a trap too narrow would not be a model within bounds."""


@dataclass(frozen=True, slots=True, eq=False)
class Canaries:
    """Records that the attack knows, ``features`` [m, width], all of label 0.

    ``members`` bool [m] says which of them the institution was given: what the attack guesses.
    The product of canary i with itself is ``peaks[i]``; that of any other record with it is
    smaller by ``gaps[i]`` or more.
    """

    features: Features
    members: NDArray[np.bool_]
    peaks: NDArray[np.float64]
    gaps: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of canaries, in or out."""
        return len(self.members)

    def planted(self, splits: Splits, cap: int | None = None) -> Splits:
        """Return an institution's rows with the members among the training rows.

        Where customers are the unit each member is one, with ``cap`` rows alike.
        """
        train, extra = splits.train, self.features[self.members].repeat(cap or 1, axis=0)
        customers = train.customers
        if customers is not None:
            new = np.arange(self.members.sum()).repeat(cap or 1)
            customers = np.concatenate([customers, customers.max(initial=-1) + 1 + new])
        planted = Examples(
            np.concatenate([train.features, extra]),
            np.concatenate([train.labels, np.zeros(len(extra), np.float32)]),
            train.protected.reindex(range(len(train) + len(extra))),
            customers,
        )
        return replace(splits, train=planted)


def craft(schema: FeatureSchema, count: int, others: Features, stream: Stream) -> Canaries:
    """Return at most ``count`` canaries that stand out from the ``others`` [n, width].

    Each cell is one of the extremes that the schema declares for its column. The coins are
    drawn after the canaries are chosen, and are independent of them.

    Raises `DataError` when fewer than `LEAST` are found.
    """
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(stream(16), "big")))
    cells = {
        column.name: generator.choice(np.array(_extremes(column), object), CANDIDATES * count)
        for column in schema.columns
    }
    found = np.unique(encode(pd.DataFrame(cells), schema), axis=0)
    products = found @ found.T
    peaks = products.diagonal().copy()
    np.fill_diagonal(products, -np.inf)
    gaps = peaks - np.maximum(products.max(1, initial=-np.inf), (found @ others.T).max(1))
    chosen = np.argsort(-gaps, kind="stable")[:count]
    chosen = chosen[gaps[chosen] > LEAST_GAP]
    if len(chosen) < LEAST:
        raise DataError(
            f"{len(chosen)} canaries stand out from the rows, {LEAST} are needed: the schema"
            " declares too few columns to audit"
        )
    members = generator.integers(0, 2, len(chosen)).astype(np.bool_)
    return Canaries(found[chosen], members, *(part[chosen].astype(float) for part in (peaks, gaps)))


def _extremes(column: Column) -> list[Any]:
    """Return both ends or all values, the codes, and a missing cell where it shows."""
    values: list[Any] = (
        [column.lo, column.hi, *column.codes]
        if isinstance(column, NumericColumn)
        else list(column.values)
    )
    return [*values, np.nan] if column.missing == "indicator" else values
