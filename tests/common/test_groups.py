"""Whether sums over pools, however combined, ever show fewer institutions than they may."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.groups import blocks, groups_of, require_pools, shown_pools
from common.schema import FeatureSchema
from tests.support import grouped_plan

NAMES = tuple("abcdefghijkl")
Pools = dict[str, tuple[str, ...]]
FAMILIES = st.dictionaries(
    st.sampled_from(["p", "q", "r"]),
    st.sets(st.sampled_from(NAMES), min_size=1).map(lambda members: tuple(sorted(members))),
    max_size=3,
)


def fewest_shown(pools: Pools, names: tuple[str, ...]) -> int:
    """Return the fewest institutions in any combination of the sums, by trying them."""
    sums = np.array([[name in members for name in names] for members in (names, *pools.values())])
    factors = np.array(list(product(range(-2, 3), repeat=len(sums))))
    sizes = (factors @ sums.astype(int) != 0).sum(axis=1)
    return int(sizes[sizes > 0].min())


@given(FAMILIES, st.integers(3, 4))
def test_no_combination_of_sums_is_over_fewer_than_the_least(pools: Pools, least: int) -> None:
    try:
        require_pools(pools, NAMES, least)
    except ValueError:
        assert pools
        return
    assert fewest_shown(pools, NAMES) >= least
    assert shown_pools(pools, NAMES, least) == tuple(pools)


@given(FAMILIES, st.sets(st.sampled_from(NAMES), min_size=5))
def test_what_is_shown_of_survivors_is_over_no_fewer(pools: Pools, left: set[str]) -> None:
    survivors = tuple(sorted(left))
    shown = {pool: pools[pool] for pool in shown_pools(pools, survivors, 3)}
    assert fewest_shown(shown, survivors) >= 3
    assert all(len(left.intersection(members)) >= 3 for members in shown.values())
    for pool in pools.keys() - shown.keys():
        parts = blocks({**shown, pool: pools[pool]}, survivors)
        alone = not left.intersection(pools[pool])
        assert alone or min(map(len, parts.values())) < 3


def test_pools_may_be_far_apart_by_twos_and_yet_show_one_together() -> None:
    pools = {"p": tuple("abcdef"), "q": tuple("abc"), "r": tuple("defghi")}
    require_pools(pools, NAMES, 3)
    pools["r"] = tuple("defg")  # p - q - r is g, though no two differ by fewer than four.
    assert fewest_shown(pools, NAMES) == 1
    with pytest.raises(ValueError, match="pools set 1 institutions apart, g, which only r hold"):
        require_pools(pools, NAMES, 3)


def test_who_drops_out_hides_the_pools_that_would_show_the_rest() -> None:
    pools = {"p": tuple("abcd"), "q": tuple("efgh")}
    assert shown_pools(pools, NAMES, 3) == ("p", "q")
    assert shown_pools(pools, tuple("abcefghijkl"), 3) == ("p", "q")
    assert shown_pools(pools, tuple("abefghijkl"), 3) == ("q",)
    # Of the rest two are left, so that the whole less both pools would show them.
    assert shown_pools(pools, tuple("abcdefghij"), 3) == ("p",)
    assert shown_pools({"p": tuple("abcd")}, tuple("abcdef"), 3) == ()
    assert shown_pools(pools, tuple("ijkl"), 3) == ()


def test_groups_are_values_intervals_and_what_is_missing() -> None:
    plan = grouped_plan()
    groups = groups_of(plan.schema_, ("age", "sex"), {"age": (30.0, 45.5)})
    assert groups == {
        "sex": ["sex=f", "sex=m"],
        "age": ["age<30", "30<=age<45.5", "45.5<=age", "age=missing"],
    }
    one = groups_of(plan.schema_, ("age",), {"age": (65.0,)})
    assert one == {"age": ["age<65", "65<=age", "age=missing"]}
    assert groups_of(FeatureSchema.model_validate(plan.to_dict()["schema"]), (), {}) == {}
