"""What every score by granularity by allocation must do, and what the suite must reject."""

from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest

from common.errors import AggregationError
from common.layout import layout_of
from common.plan import ModelPlan
from common.pruning.allocation import ALLOCATIONS, Allocation, Densities, Shapes
from common.pruning.evidence import Evidence, Traces, Vector
from common.pruning.granularity import GRANULARITIES, Granularity, Units
from common.pruning.masks import Mask
from common.pruning.scores import SCORES, Score
from common.pruning.selection import prune
from tests.contracts.test_scores import evidence

LAYOUT = layout_of(ModelPlan(hidden=(16, 8)), 12)
PROTECTED = LAYOUT.protected(biases=False)
BLOCK = 4
STEPS = (0.0, 0.25, 0.5, 0.75)

Kind = tuple[Score, Granularity, Allocation]


def units_of(granularity: Granularity) -> Units:
    return granularity(LAYOUT, PROTECTED, BLOCK)


def run_of(kind: Kind, steps: tuple[float, ...] = STEPS) -> list[Mask]:
    """Return the masks of a run in which the evidence changes before each cut."""
    score, granularity, allocation = kind
    units, mask, masks = units_of(granularity), np.ones(LAYOUT.size, np.bool_), []
    for seed, sparsity in enumerate(steps):
        seen = evidence(LAYOUT.size, seed)
        mask = prune(score(seen) * mask, mask, units, sparsity, allocation)
        masks.append(mask)
    return masks


def check_exact(kind: Kind) -> None:
    units = units_of(kind[1])
    for sparsity, mask in zip(STEPS, run_of(kind), strict=True):
        alive = units.alive(mask)
        assert alive.sum() == units.kept(sparsity)
        assert (units.mask(alive) == mask).all()
        if units.blocks:
            assert (np.bincount(units.group[alive]) == units.quotas(sparsity)).all()


def check_nested(kind: Kind) -> None:
    masks = run_of(kind)
    for before, after in pairwise(masks):
        assert not (after & ~before).any()


def check_determinism(kind: Kind) -> None:
    for one, other in zip(run_of(kind), run_of(kind), strict=True):
        np.testing.assert_array_equal(one, other)


def check_ties(kind: Kind) -> None:
    """Where every score is the same the first units go: at each party the same ones."""
    _, granularity, allocation = kind
    units, mask = units_of(granularity), np.ones(LAYOUT.size, np.bool_)
    for value in (0.0, 1.0):
        scores = np.full(LAYOUT.size, value, np.float32)
        alive = units.alive(prune(scores, mask, units, 0.5, allocation))
        assert alive.sum() == units.kept(0.5)
        for group in range(units.groups if allocation(units.shapes) is not None else 0):
            inside = alive[units.group == group]
            assert (inside == np.sort(inside)).all()


def check_divergence(kind: Kind) -> None:
    """A model that has diverged is refused by `prune`, or never looked at."""
    score, granularity, allocation = kind
    units, mask = units_of(granularity), np.ones(LAYOUT.size, np.bool_)
    for value in (np.nan, np.inf):
        broken = np.full(LAYOUT.size, value, np.float32)
        with np.errstate(invalid="ignore"):
            scores = score(Evidence(broken, Traces(*(broken,) * 5), b"key"))
        if np.isfinite(scores).all():
            assert score is SCORES.require("random")
            continue
        with pytest.raises(AggregationError, match="not finite"):
            prune(scores, mask, units, 0.5, allocation)


def kinds() -> list[tuple[str, str, str]]:
    named = product(SCORES.names, GRANULARITIES.names, ALLOCATIONS.names)
    return [names for names in named if names[1] != "block" or names[2] == "global"]


Check = Callable[[Kind], None]
CHECKS = (check_exact, check_nested, check_determinism, check_ties, check_divergence)


@pytest.mark.parametrize("names", kinds(), ids="-".join)
@pytest.mark.parametrize("check", CHECKS)
def test_registered_family(names: tuple[str, str, str], check: Check) -> None:
    score, granularity, allocation = names
    check(
        (
            SCORES.require(score),
            GRANULARITIES.require(granularity),
            ALLOCATIONS.require(allocation),
        )
    )


def greedy(shapes: Shapes) -> Densities:
    """Promise a layer more than the rest can make up for."""
    return np.full(len(shapes), np.nan)


def hiding(seen: Evidence) -> Vector:
    return np.nan_to_num(np.abs(seen.weights))


MAGNITUDE, WEIGHT = SCORES.require("magnitude"), GRANULARITIES.require("weight")
COUNTS = iter(range(10**6))


def restless(seen: Evidence) -> Vector:
    return np.random.default_rng(next(COUNTS)).random(seen.weights.size, np.float32)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ((restless, WEIGHT, ALLOCATIONS.require("global")), check_determinism),
        ((hiding, WEIGHT, ALLOCATIONS.require("global")), check_divergence),
    ],
)
def test_wrong_family_is_rejected(kind: Kind, check: Check) -> None:
    with pytest.raises(AssertionError):
        check(kind)


def test_a_density_that_is_no_number_is_rejected() -> None:
    with pytest.raises((AssertionError, ValueError)), np.errstate(invalid="ignore"):
        check_exact((MAGNITUDE, WEIGHT, greedy))
