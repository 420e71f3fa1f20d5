import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from client.data import split_rows
from common.entropy import SeededEntropy
from common.errors import BudgetError, ConfigError, DataError, FedpruneError, PlanError
from common.plan import load_plan, plan_from_dict
from common.schema import FeatureSchema, load_schema
from server.rounds import initial_model
from simulations.consortium import consortium, pooled
from simulations.inputs import Federation, Options, assemble, rounded
from tests.commands import ROOT, trial_fields, trial_file

SCENARIOS = sorted((ROOT / "simulations" / "scenarios").glob("*.toml"))
QUICK = {("privacy", "epsilon"): "none"}
"""Without noise there is none to calibrate, which takes a second."""


@pytest.fixture(scope="module")
def loans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 3,000 embedded loans in a file."""
    path = tmp_path_factory.mktemp("data") / "loans.csv"
    pooled(consortium(institutions=3, loans=1_000)).to_csv(path, index=False)
    return path


def sizes(federation: Federation) -> dict[str, int]:
    """Return the rows that each institution really has."""
    return {
        name: len(part.train) + len(part.validation) + len(part.test)
        for name, part in federation.splits.items()
    }


def test_embedded_consortium_is_the_default() -> None:
    federation = assemble(Options(settings=QUICK))
    plan = federation.plan
    assert plan.names == tuple(f"bank-{index:02d}" for index in range(10))
    assert plan.schema_ == load_schema("credit_consortium")
    assert (plan.training.rounds, plan.privacy.delta) == (60, 1e-5)
    assert (plan.pruning.sparsity, plan.aggregation.kind) == (0.9, "secure")
    assert set(federation.splits) == set(plan.names)
    assert sum(sizes(federation).values()) == 30_000


def test_default_plan_declares_rounded_sizes() -> None:
    federation = assemble(Options(institutions=4, settings=QUICK))
    declared = {institution.name: institution.size for institution in federation.plan.institutions}
    real = sizes(federation)
    assert declared == {name: rounded(size) for name, size in real.items()}
    assert all(len(str(size).rstrip("0")) <= 2 for size in declared.values())
    # Negative control: the real sizes are private, and none is declared.
    assert not any(declared[name] == real[name] for name in real)


@pytest.mark.parametrize(
    ("size", "declared"), [(55, 55), (104, 100), (996, 1000), (1286, 1300), (30_499, 30_000)]
)
def test_rounded_keeps_two_digits(size: int, declared: int) -> None:
    assert rounded(size) == declared


def test_plan_file_alone_is_the_effective_plan(tmp_path: Path) -> None:
    path = trial_file(tmp_path)
    assert assemble(Options(path)).plan.digest() == load_plan(path).digest()
    silent: dict[tuple[str, str], Any] = {
        ("privacy", "epsilon"): None,
        ("training", "rounds"): None,
    }
    assert assemble(Options(path, settings=silent)).plan.digest() == load_plan(path).digest()


def changes(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the dotted keys in which two plans differ."""
    found = set()
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found |= {f"{key}.{inner}" for inner in changes(old, new)}
        elif old != new:
            found.add(key)
    return found


def test_options_override_the_plan_and_leave_the_rest(tmp_path: Path) -> None:
    path = trial_file(tmp_path)
    settings = {
        ("privacy", "epsilon"): "none",
        ("privacy", "delta"): 1e-6,
        ("pruning", "sparsity"): 0.5,
        ("training", "rounds"): 7,
        ("aggregation", "kind"): "plain",
    }
    plan = assemble(Options(path, settings=settings)).plan
    before, after = load_plan(path).to_dict(), plan.to_dict()
    assert changes(before, after) == {f"{section}.{key}" for section, key in settings}
    assert all(after[section][key] == value for (section, key), value in settings.items())


def test_same_options_same_hash_and_each_option_counts(tmp_path: Path) -> None:
    path = trial_file(tmp_path, privacy={"epsilon": "none"})

    def digest(**settings: Any) -> str:
        chosen = {("training", key): value for key, value in settings.items()}
        return assemble(Options(path, settings=chosen)).plan.digest()

    assert digest(rounds=3) == digest(rounds=3)
    assert len({digest(), digest(rounds=3), digest(rounds=5), digest(rounds=3, steps=3)}) == 4


def test_written_plan_is_read_as_the_same(tmp_path: Path) -> None:
    plan = assemble(Options(institutions=3, settings=QUICK)).plan
    path = tmp_path / "plan.toml"
    path.write_text(plan.to_toml())
    assert assemble(Options(path)).plan.digest() == plan.digest()


def test_number_of_institutions_replaces_those_of_the_plan(tmp_path: Path) -> None:
    path = trial_file(tmp_path, privacy={"epsilon": "none"})
    assert assemble(Options(path, institutions=3)).plan == load_plan(path)
    plan = assemble(Options(path, institutions=5)).plan
    assert plan.names == ("bank-00", "bank-01", "bank-02", "bank-03", "bank-04")
    assert changes(load_plan(path).to_dict(), plan.to_dict()) == {"institutions"}


def test_file_is_dealt_evenly_unless_asked(loans: Path) -> None:
    def deal(partition: str | None, seed: int = 0) -> Federation:
        chosen = Options(None, loans, "credit_consortium", 3, partition, seed, QUICK)
        return assemble(chosen)

    even = deal(None)
    # Customers are dealt evenly and whole; what they borrowed varies.
    assert all(abs(size - 1_000) < 50 for size in sizes(even).values())
    assert even.plan.digest() == deal("iid").plan.digest()
    assert max(sizes(deal("natural")).values()) > 1_400
    again, other = deal(None), deal(None, seed=1)
    first = even.splits["bank-00"].train.features
    assert np.array_equal(first, again.splits["bank-00"].train.features)
    assert not np.array_equal(first, other.splits["bank-00"].train.features)


def own_table(regions: dict[str, int]) -> Options:
    """Return so many rows of each region, under a schema of their own."""
    rng = np.random.default_rng(0)
    region = np.repeat(list(regions), list(regions.values()))
    frame = pd.DataFrame(
        {"region": region, "x": rng.random(len(region)), "bad": rng.integers(0, 2, len(region))}
    )
    schema = FeatureSchema.model_validate(
        {
            "name": "own",
            "label": {"column": "bad", "positive": 1, "negative": 0},
            "columns": [
                {"name": "x", "kind": "numeric", "lo": 0, "hi": 1},
                {"name": "region", "kind": "categorical", "values": list(regions)},
            ],
        }
    )
    return Options(data=frame, schema=schema, partition="region", settings=QUICK)


def test_a_partition_by_a_column_has_an_institution_a_value_named_after_it() -> None:
    options = own_table({"North": 400, "South West": 600, "East": 500})
    # Not the order of the values: a plan's institutions are sorted.
    assert sizes(assemble(options)) == {"east": 500, "north": 400, "south-west": 600}
    rare = own_table({"north": 400, "south": 600, "far": 20, "east": 500})
    # Joined to the smaller of its neighbours in the schema.
    assert sizes(assemble(rare)) == {"east-far": 520, "north": 400, "south": 600}


def test_a_column_of_numbers_has_no_values_to_keep_apart() -> None:
    options = replace(own_table({"a": 500, "b": 500, "c": 500}), partition="x")
    assert assemble(options).plan.names == tuple(f"bank-{index:02d}" for index in range(10))


@pytest.mark.parametrize("regions", [("north!", "south", "east"), ("North", "north", "east")])
def test_values_that_are_no_names_are_numbered(regions: tuple[str, ...]) -> None:
    names = assemble(own_table(dict.fromkeys(regions, 500))).plan.names
    assert names == ("bank-00", "bank-01", "bank-02")


@pytest.mark.parametrize(
    ("regions", "asked", "told"),
    [
        (("north", "south", "east"), 4, "1 of 3 values are cut up among 4 institutions, which are"),
        (("north", "south"), None, "2 of 2 values are cut up among 10 institutions, which are"),
        (("north", "south", "east"), 3, None),
        (("north", "south", "east"), None, None),
    ],
)
def test_a_value_that_is_cut_up_is_told(
    caplog: pytest.LogCaptureFixture, regions: tuple[str, ...], asked: int | None, told: str | None
) -> None:
    options = replace(own_table(dict.fromkeys(regions, 600)), institutions=asked)
    names = assemble(options).plan.names
    if told is None:
        assert (caplog.text, names) == ("", ("east", "north", "south"))
    else:
        assert told in caplog.text
        assert names[0] == "bank-00"


def test_schema_of_the_plan_serves_the_file(loans: Path, tmp_path: Path) -> None:
    assert sum(sizes(assemble(Options(trial_file(tmp_path), loans))).values()) == 3_000


@pytest.mark.parametrize(
    ("name", "plan_name"),
    [
        ("Größe 2024", "gr-e-2024"),
        ("my_table", "my-table"),
        ("§", "federation"),
        ("x" * 90, "x" * 63),
    ],
)
def test_any_schema_gives_a_plan_its_name(
    loans: Path, tmp_path: Path, name: str, plan_name: str
) -> None:
    text = (ROOT / "common" / "schemas" / "credit_consortium.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('name = "credit_consortium"', f'name = "{name}"', 1))
    plan = assemble(Options(None, loans, str(path), 3, settings=QUICK)).plan
    assert (plan.name, plan.schema_.name) == (plan_name, name)


def test_file_without_a_schema_is_refused(loans: Path) -> None:
    with pytest.raises(ConfigError, match=r"loans\.csv: its schema is not known: .* with --schema"):
        assemble(Options(data=loans))


def test_embedded_data_fits_no_other_schema() -> None:
    with pytest.raises(DataError, match=r"'uci_default' is not .* with --data .*'LIMIT_BAL' is"):
        assemble(Options(schema="uci_default"))


@pytest.mark.parametrize(
    ("sections", "kind", "complaint"),
    [
        ({"privacy": {"epsilon": 1e-7}}, BudgetError, "epsilon 1e-07 .* cannot be met in 8 steps"),
        ({"pruning": {"sparsity": 0.99}}, PlanError, "0.99 would prune protected weights"),
    ],
)
def test_plan_that_cannot_run_is_refused_before_it_starts(
    tmp_path: Path, sections: dict[str, Any], kind: type[FedpruneError], complaint: str
) -> None:
    with pytest.raises(kind, match=complaint):
        assemble(Options(trial_file(tmp_path, **sections)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: rows.assign(default=0), "part 0: all .* training rows have the same label"),
        (lambda rows: rows.head(600), "part 0: .* rows are fewer than one batch of"),
        (lambda rows: rows.head(149), "143 customers cannot be dealt to 3 institutions"),
    ],
    ids=["one class", "few rows", "too few to deal"],
)
def test_data_that_cannot_train_is_refused_before_it_starts(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], complaint: str
) -> None:
    rows = pooled(consortium(institutions=3, loans=1_000))
    path = tmp_path / "few.parquet"
    change(rows).to_parquet(path)
    with pytest.raises(DataError, match=complaint):
        assemble(Options(trial_file(tmp_path), path))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_held_out_rows_of_one_class_are_refused_before_it_starts(tmp_path: Path, part: str) -> None:
    rows = pooled(consortium(institutions=3, loans=3_000)).reset_index(drop=True)
    schema = load_schema("credit_consortium")
    held_out = split_rows(rows, schema) == ("train", "validation", "test").index(part)
    path = tmp_path / "loans.parquet"
    rows.assign(default=rows["default"].mask(held_out, 0)).to_parquet(path)
    with pytest.raises(DataError, match=rf"^all {held_out.sum()} {part} rows have the same label"):
        assemble(Options(trial_file(tmp_path), path))


def reversed_keys(value: Any) -> Any:
    """Return the same tables with their keys in reverse order; lists keep theirs."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(list(value))}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def test_sample_plans_are_there() -> None:
    assert SCENARIOS


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_sample_plan_parses_whatever_the_order_of_its_keys(path: Path) -> None:
    plan = load_plan(path)
    fields = tomllib.loads(path.read_text())
    turned = reversed_keys(fields)
    assert len(fields) < 2 or list(turned) != list(fields)
    assert plan_from_dict(turned).digest() == plan.digest()
    # It can be pruned as far as it says.
    assert initial_model(plan, SeededEntropy(0).stream("sample")).mask.all()
    # Negative control: what the keys hold does count.
    assert plan_from_dict(fields | {"name": "another"}).digest() != plan.digest()


def test_order_of_columns_counts() -> None:
    fields = trial_fields()
    columns = load_schema("credit_consortium").model_dump(mode="json", exclude_none=True)
    turned = columns | {"columns": columns["columns"][::-1]}
    assert plan_from_dict(fields | {"schema": columns}) == plan_from_dict(fields)
    assert plan_from_dict(fields | {"schema": turned}).digest() != plan_from_dict(fields).digest()
