from dataclasses import replace

import numpy as np
import pytest

from common.entropy import SeededEntropy
from common.errors import DataError
from common.schema import FeatureSchema, NumericColumn, load_schema
from simulations.canaries import Canaries, craft
from tests.support import small_plan, small_splits

STREAM = SeededEntropy(0, "audit")


def canaries_of(schema: FeatureSchema, count: int, label: str = "a") -> Canaries:
    others = np.random.default_rng(1).uniform(-1, 1, (50, schema.width)).astype(np.float32)
    return craft(schema, count, others, STREAM.stream(label))


@pytest.mark.parametrize("name", ["credit_consortium", "uci_default", "bank_marketing"])
def test_canaries_are_records_at_the_ends_of_the_bounds(name: str) -> None:
    schema = load_schema(name)
    canaries = canaries_of(schema, 100)
    assert canaries.features.shape == (100, schema.width)
    assert len(np.unique(canaries.features, axis=0)) == 100
    start = 0
    for column in schema.columns:
        if not column.encoded:
            continue
        part = canaries.features[:, start : start + len(column.feature_names)]
        start += len(column.feature_names)
        if isinstance(column, NumericColumn):
            coded = part[:, 1:].any(1)
            assert set(np.unique(part[~coded, 0])) <= {-1.0, 1.0}
            assert set(np.unique(part[:, 1:])) <= {0.0, 1.0}
        else:
            np.testing.assert_array_equal(part.sum(1), 1)


def test_gaps_are_what_they_say() -> None:
    schema = load_schema("credit_consortium")
    others = np.random.default_rng(1).uniform(-1, 1, (500, schema.width)).astype(np.float32)
    canaries = craft(schema, 64, others, STREAM.stream("a"))
    products = canaries.features @ np.concatenate([canaries.features, others]).T
    own = np.arange(64), np.arange(64)
    np.testing.assert_allclose(products[own], canaries.peaks, rtol=1e-6)
    products[own] = -np.inf
    assert (canaries.peaks - products.max(1) >= canaries.gaps - 1e-5).all()
    assert canaries.gaps.min() > 0.1


def test_coins_are_fair_and_follow_the_stream() -> None:
    schema = load_schema("uci_default")
    members = [canaries_of(schema, 256, label).members for label in "abcd"]
    assert all(96 < coins.sum() < 160 for coins in members)
    assert not np.array_equal(members[0], members[1])
    np.testing.assert_array_equal(members[0], canaries_of(schema, 256, "a").members)


def test_members_alone_are_planted_among_the_training_rows() -> None:
    schema = small_plan().schema_
    canaries, splits = canaries_of(schema, 12), small_splits(0)
    planted, count = canaries.planted(splits), int(canaries.members.sum())
    assert len(planted.train) == len(planted.train.protected) == len(splits.train) + count
    np.testing.assert_array_equal(planted.train.features[:-count], splits.train.features)
    np.testing.assert_array_equal(planted.train.labels[:-count], splits.train.labels)
    np.testing.assert_array_equal(
        planted.train.features[-count:], canaries.features[canaries.members]
    )
    assert not planted.train.labels[-count:].any()
    assert (planted.validation, planted.test) == (splits.validation, splits.test)


def test_schema_without_extremes_cannot_be_audited() -> None:
    fields = small_plan().schema_.model_dump(mode="json", exclude_none=True)
    fields["columns"] = fields["columns"][:2]
    with pytest.raises(DataError, match="4 canaries stand out from the rows, 8 are needed"):
        canaries_of(FeatureSchema.model_validate(fields), 20)


def test_where_customers_are_the_unit_each_member_is_one_with_all_the_rows_allowed() -> None:
    schema = small_plan().schema_
    canaries, splits = canaries_of(schema, 12), small_splits(0)
    rows = replace(splits.train, customers=np.arange(len(splits.train)) // 2)
    planted = canaries.planted(replace(splits, train=rows), cap=3).train
    count, ordinary = int(canaries.members.sum()), len(splits.train)
    assert planted.customers is not None
    assert len(planted) == len(planted.customers) == ordinary + 3 * count
    sizes = np.bincount(planted.customers)
    assert sizes[-count:].tolist() == [3] * count
    assert sizes[:-count].max() == 2
