"""Who is looked at apart: groups by protected columns, and pools of institutions.

Sums over pools can be added and subtracted by whoever reads them. So it is not pools alone that
must be large but blocks: the institutions that lie in exactly the same pools, or in none. A sum
over a pool is one over whole blocks, and nothing that is computed from such sums tells more than
the sum over each block does.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from itertools import pairwise

from common.schema import CategoricalColumn, Column, FeatureSchema, NumericColumn, token

Cuts = Mapping[str, tuple[float, ...]]
"""By numeric column, the public bounds between its groups, rising."""

LEAST = 3
"""Fewest institutions of a sum that is published apart."""


def groups_of(schema: FeatureSchema, columns: Collection[str], cuts: Cuts) -> dict[str, list[str]]:
    """Return the names of the groups of each of ``columns``; every row is in one of them.

    A group is a declared value, or an interval between cuts, its lower end included. Rows without
    a value are a group of their own, where the schema allows them.
    """
    chosen = [column for column in schema.columns if column.name in columns]
    return {column.name: _names(column, cuts.get(column.name, ())) for column in chosen}


def _names(column: Column, cuts: tuple[float, ...]) -> list[str]:
    name = column.name
    if isinstance(column, CategoricalColumn):
        return list(column.feature_names)
    ends = [token(cut) for cut in cuts]
    inner = [f"{low}<={name}<{high}" for low, high in pairwise(ends)]
    missing = [f"{name}=missing"] if column.missing == "indicator" else []
    return [f"{name}<{ends[0]}", *inner, f"{ends[-1]}<={name}", *missing]


def require_groups(schema: FeatureSchema, columns: Collection[str], cuts: Cuts) -> None:
    """Raise `ValueError` unless protected columns are named, each with public cuts if numeric."""
    known = {column.name: column for column in schema.columns if column.protected}
    for name in columns:
        if name not in known:
            raise ValueError(
                f"unknown group column {name!r}; known: {', '.join(known) or 'none'}: set"
                " evaluation.groups to columns that the schema declares protected"
            )
        if isinstance(known[name], NumericColumn) and name not in cuts:
            raise ValueError(
                f"group column {name!r} is numeric: give the public bounds between its groups in"
                " evaluation.cuts"
            )
    for name, edges in cuts.items():
        _require_cuts(name, known.get(name) if name in columns else None, edges)
    names = [name for groups in groups_of(schema, columns, cuts).values() for name in groups]
    if len(set(columns)) != len(columns) or len(set(names)) != len(names):
        raise ValueError("two groups have one name: list each column of evaluation.groups once")


def _require_cuts(name: str, column: Column | None, edges: tuple[float, ...]) -> None:
    if not isinstance(column, NumericColumn):
        raise ValueError(f"cuts of {name!r}, no numeric column of evaluation.groups: remove them")
    if column.codes:
        raise ValueError(f"cuts of {name!r}, whose codes are no amounts: group by another column")
    if not edges or any(low >= high for low, high in pairwise((column.lo, *edges, column.hi))):
        raise ValueError(
            f"cuts {list(edges)} of {name!r} do not rise between {column.lo:g} and {column.hi:g}:"
            " order them"
        )


def blocks(
    pools: Mapping[str, Collection[str]], names: Collection[str]
) -> dict[tuple[str, ...], list[str]]:
    """Return the institutions ``names``, sorted, by the pools that hold them."""
    found: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in sorted(names):
        found[tuple(pool for pool, members in pools.items() if name in members)].append(name)
    return dict(found)


def require_pools(pools: Mapping[str, tuple[str, ...]], names: Collection[str], least: int) -> None:
    """Raise `ValueError` unless no sum or difference of pools shows fewer than ``least`` of all."""
    for pool, members in pools.items():
        if strangers := sorted(set(members).difference(names)):
            raise ValueError(
                f"pool {pool!r} holds {strangers[0]!r}, who is no member: name institutions of the"
                " plan"
            )
        if len(set(members)) != len(members):
            raise ValueError(f"pool {pool!r} lists an institution twice: name each once")
        if len(members) < least:
            raise ValueError(
                f"pool {pool!r} of {len(members)} institutions is smaller than {least}: a sum over"
                " so few shows each"
            )
    if not pools:
        return
    if len({frozenset(names), *map(frozenset, pools.values())}) <= len(pools):
        raise ValueError("two pools hold the same institutions, or one holds all: keep one of them")
    for held, block in blocks(pools, names).items():
        if len(block) < least:
            raise ValueError(
                f"pools set {len(block)} institutions apart, {', '.join(block)}, which"
                f" {'no pool holds' if not held else 'only ' + ' and '.join(held) + ' hold'}:"
                f" a difference of sums shows them, so let {least} or more be in the same pools"
            )


def shown_pools(
    pools: Mapping[str, Collection[str]], survivors: Collection[str], least: int
) -> tuple[str, ...]:
    """Return the pools whose sums may be looked at when ``survivors`` alone are in them.

    One after another, each that leaves ``least`` survivors or none in every block.
    """
    shown: dict[str, Collection[str]] = {}
    for pool, members in pools.items():
        with_it = {**shown, pool: members}
        left = blocks(with_it, survivors)
        if any(pool in held for held in left) and min(map(len, left.values())) >= least:
            shown = with_it
    return tuple(shown)
