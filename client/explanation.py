"""Each score as a sum: what every column of the table adds to the log-odds of a blank record.

The blank record has every feature at zero: numbers in the middle of their declared range, no
category, no code, nothing marked as missing, ratios undefined as with a missing operand. It
follows from the schema alone and says nothing of any table, which the usual reference, an
average over records, would. ``base`` is the model's answer to it.

A column's contribution is its Shapley value (Sundararajan and Najmi 2020, "The many Shapley
values for model explanation", baseline Shapley; log-odds are the game, columns the players):
the mean over all orders of filling the blank record column by column of how much filling that
column moved the log-odds. In any one order the moves telescope, so contributions and base add
up to the logit whatever the number of orders. Orders come in pairs, one the reverse of the
other (antithetic permutations: Mitchell et al. 2022, "Sampling Permutations for Shapley Value
Estimation"). A single pair is exact where columns interact at most two by two, as in a linear
model with ratios; more pairs lessen the error of higher interactions. On the credit card table,
with two hidden layers trained without noise, contributions are .24 log-odds (root mean square)
and their error .032 with one pair, .015 with four, .005 with thirty-two.

A contribution says what the model does with a cell, not what the world would do had the cell
another value.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from common.encoding import Features, Floats
from common.schema import FeatureSchema

Order = tuple[int, ...]


def explain(
    features: Features,
    logits: Features,
    predict: Callable[[Features], Features],
    schema: FeatureSchema,
    pairs: int,
) -> tuple[float, Floats]:
    """Return the base and the contributions, float64 [n, len(schema.inputs)], in log-odds.

    It costs 2 * pairs * (inputs - 1) predictions a row. The same orders serve every row, and
    follow from the columns' names: equal rows have equal explanations, in every file.

    Args:
        features: encoded rows, float32 [n, width].
        logits: the model's log-odds of these rows, float32 [n].
        predict: encoded rows to log-odds, for any rows.
        schema: what the features are made of.
        pairs: how many orders are taken beside their reverses, at least 1.
    """
    owns = _ownership(schema)
    base = float(predict(np.zeros((1, schema.width), np.float32))[0])
    contributions = np.zeros((len(features), len(owns)))
    for order in _orders(schema, pairs):
        outside = np.ones(len(owns), np.bool_)
        before: Floats = np.full(len(features), base)
        for place, column in enumerate(order):
            outside[column] = False
            last = place == len(order) - 1
            filled = features if last else features * ~owns[outside].any(axis=0)
            after = (logits if last else predict(filled)).astype(np.float64)
            contributions[:, column] += after - before
            before = after
    return base, contributions / (2 * pairs)


def _ownership(schema: FeatureSchema) -> npt.NDArray[np.bool_]:
    """Return which feature is made of which input, bool [inputs, width]; a ratio is of two."""
    makers = [
        *(
            (column.name,)
            for column in schema.inputs
            if column.encoded
            for _ in column.feature_names
        ),
        *((ratio.numerator, ratio.denominator) for ratio in schema.ratios),
    ]
    return np.array([[column.name in made for made in makers] for column in schema.inputs])


def _orders(schema: FeatureSchema, pairs: int) -> Iterator[Order]:
    """Yield each order and its reverse, sorted by hashes of the names: no generator, no seed."""
    names = [column.name for column in schema.inputs]
    for pair in range(pairs):
        keys = [
            blake2b(f"{pair}/{name}".encode(), person=b"fedprune/explain").digest()
            for name in names
        ]
        order = tuple(sorted(range(len(names)), key=keys.__getitem__))
        yield from (order, order[::-1])
