from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from common.errors import ConfigError, DataError
from common.schema import FeatureSchema, load_schema
from simulations.consortium import consortium, pooled
from simulations.partition import LEAST_ROWS, Rows, partition

KINDS = ("natural", "iid", "dirichlet", "quantity", "age_band", "income", "institution")


@dataclass(frozen=True)
class Table:
    frame: pd.DataFrame
    schema: FeatureSchema

    def deal(self, kind: str, institutions: int = 10, seed: int = 0) -> list[Rows]:
        rng = np.random.default_rng(seed)
        return partition(self.frame, self.schema, kind, institutions, rng)

    def rates(self, parts: list[Rows]) -> list[float]:
        return [float(self.frame["default"].iloc[part].mean()) for part in parts]


@pytest.fixture(scope="module")
def table() -> Table:
    return Table(pooled(consortium(loans=400)), load_schema("credit_consortium"))


@pytest.fixture(scope="module")
def singly(table: Table) -> Table:
    """Return the same loans under a schema that knows no customers."""
    ignored = (*table.schema.ignored, "customer_id")
    return Table(
        table.frame, table.schema.model_copy(update={"customer": None, "ignored": ignored})
    )


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("institutions", [1, 3, 10, 13])
def test_every_row_is_in_exactly_one_part(
    table: Table, singly: Table, kind: str, institutions: int, whole: bool
) -> None:
    parts = (table if whole else singly).deal(kind, institutions)
    assert len(parts) == institutions
    assert min(map(len, parts)) >= LEAST_ROWS
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(table.frame)))
    assert all(np.all(np.diff(part) > 0) for part in parts)


@pytest.mark.parametrize("kind", [*KINDS, "purpose"])
def test_a_customer_is_held_by_one_institution(table: Table, singly: Table, kind: str) -> None:
    def most_holders(of: Table) -> int:
        holders = np.empty(len(table.frame), int)
        for holder, part in enumerate(of.deal(kind)):
            holders[part] = holder
        return int(pd.Series(holders).groupby(table.frame["customer_id"]).nunique().max())

    assert most_holders(table) == 1
    # What is a customer's own keeps it together even row by row, unless groups are split.
    assert (most_holders(singly) > 1) == (kind not in {"natural", "income", "institution"})


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_parts(table: Table, kind: str) -> None:
    assert all(map(np.array_equal, table.deal(kind), table.deal(kind)))


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "quantity", "age_band"])
def test_another_seed_deals_otherwise(table: Table, kind: str) -> None:
    assert not all(map(np.array_equal, table.deal(kind), table.deal(kind, seed=1)))


def test_natural_gives_each_institution_its_own(table: Table) -> None:
    holders = [set(table.frame["institution"].iloc[part]) for part in table.deal("natural")]
    assert holders == [{f"bank-{index:02d}"} for index in range(10)]


def test_iid_is_even(table: Table, singly: Table) -> None:
    assert {len(part) for part in singly.deal("iid")} == {400}
    parts = table.deal("iid")
    customers = {table.frame["customer_id"].iloc[part].nunique() for part in parts}
    assert max(customers) - min(customers) <= 1
    rates = table.rates(parts)
    assert max(rates) - min(rates) < 0.12


def test_dirichlet_skews_labels_and_leaves_no_class_out(table: Table) -> None:
    rates = table.rates(table.deal("dirichlet"))
    assert max(rates) - min(rates) > 0.3
    assert 0 < min(rates) < max(rates) < 1


def test_quantity_falls_with_rank(singly: Table) -> None:
    sizes = [len(part) for part in singly.deal("quantity")]
    assert sizes == sorted(sizes, reverse=True)
    # Beyond the floor of LEAST_ROWS, the first has 1 / sum(rank^-1.5) of the rest.
    rest = 4_000 - 10 * LEAST_ROWS
    assert sizes[0] == pytest.approx(LEAST_ROWS + rest * 0.501, abs=2)
    assert sizes[3] == pytest.approx(LEAST_ROWS + rest * 0.501 / 8, abs=2)


def test_column_separates_values_when_there_are_enough_institutions(table: Table) -> None:
    values = [set(table.frame["age_band"].iloc[part]) for part in table.deal("age_band")]
    assert all(len(value) == 1 for value in values)
    assert set.union(*values) == set(table.frame["age_band"])


def test_column_merges_neighbours_when_there_are_too_many_values(table: Table) -> None:
    incomes = [table.frame["income"].iloc[part] for part in table.deal("income", 5)]
    assert all(low.max() < high.min() for low, high in pairwise(incomes))
    assert max(map(len, incomes)) < 3 * min(map(len, incomes))


def test_rare_value_joins_its_neighbour(singly: Table) -> None:
    bands = np.repeat(["18-29", "30-44", "45-59"], [500, 7, 493])
    rare = Table(singly.frame.head(1_000).assign(age_band=bands), singly.schema)
    sizes = sorted(len(part) for part in rare.deal("age_band", 2))
    assert sizes == [500, 500]


def test_second_natural_column_splits_what_the_first_leaves_whole() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"EDUCATION": np.repeat([1, 2], [900, 300]), "AGE": rng.integers(21, 70, 1_200)}
    )
    uci = load_schema("uci_default")
    parts = partition(frame, uci, "natural", 4, rng)
    ages = [frame["AGE"].iloc[part] for part in parts[:3]]
    assert [len(part) for part in parts] == [300] * 4
    assert ages[0].max() <= ages[1].min()
    assert ages[1].max() <= ages[2].min()


@pytest.mark.parametrize("kind", ["by_moon", "IID", "", "default"])
def test_unknown_kind_is_refused_with_the_known_ones(table: Table, kind: str) -> None:
    with pytest.raises(ConfigError, match=r"known: natural, iid, dirichlet, quantity.*age_band"):
        table.deal(kind)


def test_natural_needs_a_schema_that_has_one(table: Table) -> None:
    nameless = table.schema.model_copy(update={"name": "mine"})
    with pytest.raises(ConfigError, match=r"'mine' has no natural partition .*name a column"):
        Table(table.frame, nameless).deal("natural")


def test_absent_column_is_refused(table: Table) -> None:
    bare = Table(table.frame.drop(columns="institution"), table.schema)
    with pytest.raises(DataError, match="no column 'institution'"):
        bare.deal("natural")


@pytest.mark.parametrize("institutions", [0, -1, 81])
def test_too_many_institutions_are_refused(table: Table, singly: Table, institutions: int) -> None:
    with pytest.raises(DataError, match="at least 50 rows: ask for 1 to 80"):
        singly.deal("iid", institutions)
    most = table.frame["customer_id"].nunique() // 50
    with pytest.raises(DataError, match=f"at least 50 customers: ask for 1 to {most}"):
        table.deal("iid", most + 1 if institutions > 0 else institutions)


def test_part_below_the_floor_is_refused(singly: Table) -> None:
    bands = np.repeat(["18-29", "30-44"], [75, 75])
    small = Table(singly.frame.head(150).assign(age_band=bands), singly.schema)
    with pytest.raises(DataError, match="fewer than 3 institutions"):
        small.deal("age_band", 3)
