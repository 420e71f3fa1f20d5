"""From a command's options to the effective plan and the institutions' rows."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, log10
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from client.cleaning import Table, clean
from client.data import Splits, capped, load_table, prepare, require_trainable
from common.entropy import SystemEntropy
from common.errors import ConfigError, DataError
from common.groups import LEAST
from common.plan import Plan, load_draft, plan_from_dict
from common.privacy.budgets import training_mechanism
from common.schema import EMBEDDED, FeatureSchema, load_schema
from common.segments import require_releasable
from server.rounds import initial_model
from simulations.consortium import consortium, pooled
from simulations.partition import partition, values_apart, values_held

INSTITUTIONS = 10
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

log = logging.getLogger("fedprune.simulations")


@dataclass(frozen=True)
class Options:
    """What a caller may say; None leaves a setting to the plan or its default.

    A plan, a table or a schema is a file, or what stands in one; a shipped schema has a name.
    """

    plan: Plan | Path | None = None
    data: pd.DataFrame | Path | None = None
    schema: FeatureSchema | str | None = None
    institutions: int | None = None
    partition: str | None = None
    seed: int = 0
    settings: Mapping[tuple[str, str], Any] | None = None
    """Values by plan section and key; those that are None are left alone."""
    fold: int = 0
    """Which of `client.data.FOLDS` splits of the rows; institutions have the first alone."""

    @property
    def source(self) -> str:
        """What errors call the table."""
        return "the frame" if isinstance(self.data, pd.DataFrame) else str(self.data)


@dataclass(frozen=True)
class Federation:
    """The effective plan, and each institution's prepared rows by name."""

    plan: Plan
    splits: dict[str, Splits]


def assemble(options: Options) -> Federation:
    """Read or generate the data, deal it out, and settle the plan.

    Without ``data`` the embedded consortium is used; its institutions are its natural parts.
    """
    base = load_draft(options.plan) if isinstance(options.plan, Path) else options.plan
    schema = _schema(options, base)
    asked = options.institutions or (len(base.institutions) if base else None)
    if options.data is None:
        table = _embedded(asked or INSTITUTIONS, schema)
    elif isinstance(options.data, pd.DataFrame):
        table = clean(options.data, schema, options.source)
    else:
        table = load_table(options.data, schema)
    kind = options.partition or ("natural" if options.data is None else "iid")
    rng = np.random.default_rng(options.seed)
    count = asked or _by_value(table, schema, kind) or INSTITUTIONS
    dealt = partition(table.frame, schema, kind, count, rng)
    names = _names(values_held(table.frame, schema, kind, dealt), kind, count)
    # A plan's institutions are sorted, and so are their parts.
    named = sorted(zip(names, dealt, strict=True), key=lambda pair: pair[0])
    names = [name for name, _ in named]
    parts = [
        table.select(rows, f"{table.source}, part {index}") for index, (_, rows) in enumerate(named)
    ]
    plan = _effective(options, base, schema, parts, names)
    members = zip(plan.names, parts, strict=True)
    splits = {
        name: prepare(part, schema, plan.customer_cap, options.fold) for name, part in members
    }
    _require_feasible(plan, splits)
    return Federation(plan, splits)


def _embedded(count: int, schema: FeatureSchema) -> Table:
    try:
        return clean(pooled(consortium(institutions=count)), schema, "embedded data")
    except DataError as error:
        raise DataError(
            f"schema {schema.name!r} is not that of the embedded data: give the table with --data"
            f" ({error})"
        ) from error


def assemble_seeds(options: Options, count: int) -> dict[int, Federation]:
    """Return the federations of so many seeds, from that of ``options`` on."""
    return {
        seed: assemble(replace(options, seed=seed))
        for seed in range(options.seed, options.seed + count)
    }


def _require_feasible(plan: Plan, splits: Mapping[str, Splits]) -> None:
    """Refuse, before results of an earlier run are given up, what no first round would survive."""
    training_mechanism(plan)
    require_releasable(plan)
    initial_model(plan, SystemEntropy().stream("feasibility"))
    for name in plan.names:
        require_trainable(splits[name], plan.expected_batch(name))
    held_out = {
        "validation": [part.validation for part in splits.values()],
        "test": [part.test for part in splits.values()],
    }
    for name, parts in held_out.items():
        if len(set(np.concatenate([part.labels for part in parts]))) < 2:
            raise DataError(
                f"all {sum(map(len, parts))} {name} rows have the same label, so no ROC-AUC can be"
                " computed: bring more rows of both classes"
            )


def _schema(options: Options, base: Plan | None) -> FeatureSchema:
    if options.schema is not None:
        return load_schema(options.schema) if isinstance(options.schema, str) else options.schema
    if base is not None:
        return base.schema_
    if options.data is not None:
        known = "name a shipped schema or a TOML file with --schema"
        raise ConfigError(f"{options.source}: its schema is not known: {known}")
    return load_schema(EMBEDDED)


def _effective(
    options: Options,
    base: Plan | None,
    schema: FeatureSchema,
    parts: list[Table],
    names: list[str],
) -> Plan:
    fields: dict[str, Any] = base.to_dict() if base else {"name": _slug(schema.name)}
    fields["schema"] = schema.model_dump(mode="json", exclude_none=True)
    dealt = base is None or options.partition or len(base.institutions) != len(parts)
    if dealt:
        if base is not None and len(base.names) == len(parts):
            names = list(base.names)
        fields["institutions"] = [
            {"name": name, "size": rounded(len(part.frame))}
            for name, part in zip(names, parts, strict=True)
        ]
    for (section, key), value in (options.settings or {}).items():
        if value is not None:
            fields.setdefault(section, {})[key] = value
    # The plan file has been validated alone, so what is wrong now was typed beside it.
    plan = plan_from_dict(fields, "the options")
    if dealt and (cap := plan.customer_cap) is not None:
        for member, part in zip(fields["institutions"], parts, strict=True):
            member["size"] = rounded(int(capped(part.frame, schema, cap).sum()))
        plan = plan_from_dict(fields, "the options")
    return plan


def _by_value(table: Table, schema: FeatureSchema, kind: str) -> int | None:
    """Return one institution a value of the partition's column, where they are enough for a sum."""
    count = values_apart(table.frame, schema, kind)
    return count if count is not None and count >= LEAST else None


def _names(held: Sequence[tuple[str, ...]] | None, kind: str, count: int) -> list[str]:
    """Return the institutions' names: the values that they hold, or numbers where these are none.

    A value that is dealt to several institutions is told.
    """
    width = max(2, len(str(count - 1)))
    numbered = [f"bank-{index:0{width}d}" for index in range(count)]
    if held is None:
        return numbered
    holders = Counter(value for values in held for value in values)
    if cut := sum(number > 1 for number in holders.values()):
        whole = f"; --institutions {len(holders)} keeps each whole" if len(holders) >= LEAST else ""
        log.warning(
            "partition %r: %d of %d values are cut up among %d institutions, which are numbered%s",
            *(kind, cut, len(holders), count, whole),
        )
        return numbered
    names = ["-".join(sorted(values)).lower().replace(" ", "-") for values in held]
    valid = all(map(NAME.fullmatch, names)) and len(set(names)) == count
    return names if valid else numbered


def rounded(size: int) -> int:
    """Return ``size`` to two significant digits: what an institution would declare."""
    unit: int = 10 ** max(0, floor(log10(size)) - 1)
    return round(size / unit) * unit


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63] or "federation"
