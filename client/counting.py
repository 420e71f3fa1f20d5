"""Held-out rows counted by score: all of them, each protected group's, and each pool's part."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from client.data import Examples
from common.encoding import read_column
from common.entropy import Stream
from common.groups import groups_of
from common.histograms import histogram
from common.plan import Plan
from common.privacy.counting import noised_counts
from common.schema import CategoricalColumn
from common.segments import POOL, count_names, counting_noise

Rows = NDArray[np.bool_]


def released_counts(
    plan: Plan,
    name: str,
    part: str,
    scored: tuple[Examples, NDArray[np.float32]],
    stream: Callable[[str], Stream],
) -> dict[str, NDArray[np.float64]]:
    """Return what institution ``name`` says of a part's rows and their logits [n], by segment.

    Each histogram is [2 * bins], with noise from its own ``stream``. Of a pool that it is not in
    it says zeros, which tell nothing of its rows and need no noise.
    """
    examples, logits = scored
    bins, sigma = plan.evaluation.bins, counting_noise(plan, part)
    everybody = np.ones(len(examples), np.bool_)
    chosen: dict[str, Rows] = {part: everybody}
    for pool, members in plan.evaluation.pools.items():
        if name in members:
            chosen[f"{part}/{POOL}{pool}"] = everybody
    for group, held in group_rows(plan, examples).items():
        chosen[f"{part}/{group}"] = held
    released = {}
    for segment in count_names(plan, part):
        released[segment] = np.zeros(2 * bins)
        if segment in chosen:
            rows = chosen[segment]
            counts = histogram(logits[rows], examples.labels[rows], bins)
            released[segment] = noised_counts(counts, plan.largest_size, sigma, stream(segment))
    return released


def group_rows(plan: Plan, examples: Examples) -> dict[str, Rows]:
    """Return which rows are in each group, bool [n]; those of a column share all rows out."""
    evaluation, columns = plan.evaluation, {column.name: column for column in plan.schema_.columns}
    found: dict[str, Rows] = {}
    for name, groups in groups_of(plan.schema_, evaluation.groups, evaluation.cuts).items():
        column = columns[name]
        values = read_column(examples.protected[name], column)
        if isinstance(column, CategoricalColumn):
            known, index = len(column.values), values
        else:
            cuts = evaluation.cuts[name]
            known = len(cuts) + 1
            index = np.searchsorted(cuts, values, side="right").astype(np.float64)
        index = np.where(np.isnan(values), known, index)
        found |= {group: index == place for place, group in enumerate(groups)}
    return found
