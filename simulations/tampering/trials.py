"""Edit what is kept as evidence at random, and ask its check."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Each module files its targets.
from simulations.tampering import ledgers, logs, releases  # noqa: F401
from simulations.tampering.edits import TARGETS


@dataclass(frozen=True)
class Trial:
    """One edit, and what the check said of it."""

    edit: str
    findings: list[str]


def tampered(name: str, count: int, seed: int = 0) -> Iterator[Trial]:
    """Yield so many random edits of a target, each of its honest files; those of nothing are not.

    Every way to edit comes as often as any other.
    """
    target = TARGETS.require(name)(seed)
    draw = np.random.default_rng(seed)
    if wrong := target.found(target.files):
        raise AssertionError(f"{name}: the honest files are not: {wrong[0]}")
    said, done, turn = target.content(target.files), 0, 0
    ways = list(target.edits.items())
    while done < count:
        edit, apply = ways[turn % len(ways)]
        turn += 1
        after = apply(dict(target.files), target.others, draw)
        if after == target.files or target.content(after) == said:
            continue
        done += 1
        yield Trial(edit, target.found(after))
