import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.cleaning import clean
from client.data import (
    FOLDS,
    SHARES,
    Examples,
    Splits,
    capped,
    load_table,
    prepare,
    require_trainable,
    split_rows,
)
from common.encoding import encode
from common.errors import DataError
from common.schema import FeatureSchema, load_schema

FIELDS: dict[str, Any] = {
    "name": "small",
    "label": {"column": "bad", "positive": 1, "negative": 0},
    "columns": [
        {"name": "amount", "kind": "numeric", "lo": 0, "hi": 1, "missing": "indicator"},
        {"name": "grade", "kind": "categorical", "values": ["a", "b"]},
        {"name": "sex", "kind": "categorical", "values": [1, 2], "protected": True},
    ],
}
SCHEMA = FeatureSchema.model_validate(FIELDS)
BY_CUSTOMER = FeatureSchema.model_validate({**FIELDS, "customer": "id"})
REAL = {
    "bank_marketing": "bank_marketing/bank-additional-full.csv.gz",
    "uci_default": "uci_default/UCI_Credit_Card.csv.gz",
}


def rows(n: int = 6000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    amount = rng.random(n)
    amount[rng.random(n) < 0.05] = np.nan
    return pd.DataFrame(
        {
            "amount": amount,
            "grade": rng.choice(["a", "b"], n),
            "sex": rng.choice([1, 2], n),
            "bad": (rng.random(n) < 0.3).astype(int),
        }
    )


def test_parts_have_their_shares_and_encodings() -> None:
    frame = rows()
    table = clean(frame, SCHEMA, "t.csv")
    splits = prepare(table, SCHEMA)
    parts = (splits.train, splits.validation, splits.test)
    assert sum(map(len, parts)) == len(frame)
    for part, share in zip(parts, SHARES, strict=True):
        # Six standard deviations of a binomial share.
        assert abs(len(part) / len(frame) - share) < 6 * (share * (1 - share) / len(frame)) ** 0.5
        assert part.features.shape == (len(part), SCHEMA.width)
        assert part.features.dtype == part.labels.dtype == np.float32
        assert list(part.protected.columns) == ["sex"]
    where = split_rows(table.frame, SCHEMA) == 2
    np.testing.assert_array_equal(splits.test.features, encode(table.frame[where], SCHEMA))
    np.testing.assert_array_equal(splits.test.labels, frame["bad"][where])
    assert splits.test.protected["sex"].tolist() == frame["sex"][where].tolist()


def test_split_follows_the_row_not_its_place() -> None:
    table = clean(rows(), SCHEMA, "t.csv")
    parts = split_rows(table.frame, SCHEMA)
    order = np.random.default_rng(1).permutation(len(parts))
    np.testing.assert_array_equal(split_rows(table.frame.iloc[order], SCHEMA), parts[order])
    some = table.select(order[:500], "institution-1")
    np.testing.assert_array_equal(split_rows(some.frame, SCHEMA), parts[order[:500]])


def test_split_is_the_same_in_every_version() -> None:
    frame = clean(rows(20), SCHEMA, "t.csv").frame
    assert "".join(map(str, split_rows(frame, SCHEMA))) == "20000000000000120120"


def test_split_is_blind_to_dtype_and_the_sign_of_zero(tmp_path: Path) -> None:
    frame = rows(300)
    frame.loc[0, "amount"] = -0.0
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.loc[0, "amount"] = 0.0
    frame.astype({"sex": "float64", "bad": "str"}).to_parquet(tmp_path / "t.parquet")
    csv, parquet = (
        prepare(load_table(tmp_path / name, SCHEMA), SCHEMA) for name in ("t.csv", "t.parquet")
    )
    np.testing.assert_array_equal(csv.test.features, parquet.test.features)
    np.testing.assert_array_equal(csv.test.labels, parquet.test.labels)


def test_equal_rows_share_a_part_and_others_do_not() -> None:
    table = clean(pd.concat([rows(400), rows(400)]), SCHEMA, "t.csv")
    parts = split_rows(table.frame, SCHEMA)
    np.testing.assert_array_equal(parts[:400], parts[400:])
    nudged = clean(rows(400).assign(amount=rows(400)["amount"] * 0.999), SCHEMA, "t.csv")
    assert np.any(split_rows(nudged.frame, SCHEMA) != parts[:400])


def test_ignored_column_moves_no_row() -> None:
    schema = FeatureSchema.model_validate({**FIELDS, "ignored": ["id"]})
    first, second = (
        split_rows(clean(rows(400).assign(id=np.arange(400) + start), schema, "t").frame, schema)
        for start in (0, 1000)
    )
    np.testing.assert_array_equal(first, second)


def test_customer_never_straddles_parts() -> None:
    frame = rows().assign(id=np.arange(6000) % 1500)
    parts = split_rows(clean(frame, BY_CUSTOMER, "t.csv").frame, BY_CUSTOMER)
    by_customer = pd.Series(parts).groupby(frame["id"]).nunique()
    assert by_customer.max() == 1
    assert len(np.unique(parts)) == 3
    alone = split_rows(clean(frame.drop(columns="id"), SCHEMA, "t.csv").frame, SCHEMA)
    assert pd.Series(alone).groupby(frame["id"]).nunique().max() > 1


def examples(labels: list[int]) -> Examples:
    features = np.zeros((len(labels), 2), dtype=np.float32)
    return Examples(features, np.array(labels, dtype=np.float32), pd.DataFrame())


def test_both_classes_and_a_batch_are_trainable() -> None:
    part = examples([0, 0, 1])
    require_trainable(Splits(part, part, part, "t.csv"), 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 0], r"t\.csv: 3 training rows are fewer than one batch of 3\.5: lower"),
        ([0, 0, 0, 0], r"t\.csv: all 4 training rows have the same label: bring rows of both"),
        ([1, 1, 1, 1], r"t\.csv: all 4 training rows have the same label: bring rows of both"),
        ([], r"t\.csv: 0 training rows are fewer"),
    ],
)
def test_untrainable_institution_is_refused(labels: list[int], message: str) -> None:
    both = examples([0, 1] * 10)
    with pytest.raises(DataError, match=message):
        require_trainable(Splits(examples(labels), both, both, "t.csv"), 3.5)


def test_bad_file_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows(9).drop(columns="sex").to_csv(path, index=False)
    with pytest.raises(DataError) as caught:
        load_table(path, SCHEMA)
    assert str(caught.value) == f"{path}: column 'sex' is missing: add it to the file"


@pytest.mark.parametrize(
    ("name", "read", "duplicates", "positive"),
    [("uci_default", 30_000, 0, 6_636), ("bank_marketing", 41_188, 12, 4_640)],
)
def test_shipped_schema_fits_the_real_table(
    shared_data: Path, name: str, read: int, duplicates: int, positive: int
) -> None:
    schema = load_schema(name)
    table = load_table(shared_data / REAL[name], schema)
    start = time.process_time()
    splits = prepare(table, schema)
    seconds = time.process_time() - start
    report = table.report
    assert (report.rows_read, report.duplicates, report.out_of_range) == (read, duplicates, {})
    parts = (splits.train, splits.validation, splits.test)
    assert sum(map(len, parts)) == report.rows_kept
    assert sum(part.labels.sum() for part in parts) == pytest.approx(positive, abs=duplicates)
    require_trainable(splits, 0.05 * len(splits.train))
    # A declared value may never occur, but a schema that misread its file would idle widely.
    assert np.mean(np.ptp(splits.train.features, axis=0) > 0) > 0.9
    assert seconds < 1


def loans(held: list[int], seed: int = 0) -> pd.DataFrame:
    """Return cleaned rows of customers with so many each, all rows different."""
    number = sum(held)
    identifiers = [f"c{index}" for index, count in enumerate(held) for _ in range(count)]
    frame = rows(number).assign(id=identifiers, amount=np.random.default_rng(seed).random(number))
    return clean(frame, BY_CUSTOMER, "t.csv").frame


def kept_of(frame: pd.DataFrame, cap: int) -> dict[str, list[tuple[object, ...]]]:
    """Return by customer which rows the cap leaves, in an order of their own."""
    kept = frame[capped(frame, BY_CUSTOMER, cap)].astype({"id": "str"})
    return {
        str(who): sorted(map(tuple, part.drop(columns="id").astype(str).to_numpy().tolist()))
        for who, part in kept.groupby("id")
    }


HOLDINGS = st.lists(st.integers(1, 6), min_size=1, max_size=12)


@settings(max_examples=12)
@given(HOLDINGS, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_cap_follows_from_a_customers_own_rows(held: list[int], cap: int, seed: int) -> None:
    frame = loans(held, seed)
    whole = kept_of(frame, cap)
    assert [len(whole[f"c{i}"]) for i in range(len(held))] == [min(cap, n) for n in held]
    order = np.random.default_rng(seed).permutation(len(frame))
    assert kept_of(frame.iloc[order].reset_index(drop=True), cap) == whole
    for customer in whole:
        alone = frame[frame["id"] == customer].reset_index(drop=True)
        others = frame[frame["id"] != customer].reset_index(drop=True)
        assert kept_of(alone, cap) == {customer: whole[customer]}
        if len(others):
            assert kept_of(others, cap) == {k: v for k, v in whole.items() if k != customer}


def test_the_cap_prefers_no_place_in_the_table() -> None:
    frame = loans([4] * 400)
    place = np.arange(1600) % 4
    shares = np.bincount(place[capped(frame, BY_CUSTOMER, 1)]) / 400
    assert np.abs(shares - 0.25).max() < 5 * (0.25 * 0.75 / 400) ** 0.5
    # Equal rows are told apart by their customer: none is preferred for what it says.
    twins = clean(
        pd.DataFrame({"amount": place / 4, "grade": "a", "sex": 1, "bad": 0}).assign(
            id=np.repeat(np.arange(400), 4)
        ),
        BY_CUSTOMER,
        "t.csv",
    ).frame
    shares = np.bincount(place[capped(twins, BY_CUSTOMER, 1)]) / 400
    assert np.abs(shares - 0.25).max() < 5 * (0.25 * 0.75 / 400) ** 0.5


def test_customers_are_numbered_by_part_under_the_cap_and_records_are_not() -> None:
    table = clean(rows().assign(id=np.arange(6000) % 1500), BY_CUSTOMER, "t.csv")
    splits = prepare(table, BY_CUSTOMER, 3)
    customers = 0
    for part in (splits.train, splits.validation, splits.test):
        assert part.customers is not None
        held = np.bincount(part.customers)
        assert set(held) == {3}
        customers += len(held)
        assert len(part.features) == len(part.labels) == len(part.protected) == held.sum()
    assert customers == 1500
    whole = prepare(table, BY_CUSTOMER)
    assert whole.train.customers is None
    assert len(whole.train) == len(splits.train) * 4 / 3
    splits.require_units(3)
    splits.require_units(4)
    whole.require_units(None)
    for wrong, cap in ((splits, 2), (splits, None), (whole, 3)):
        with pytest.raises(DataError, match=r"not in the units of the plan: prepare them under"):
            wrong.require_units(cap)


def test_a_cap_needs_a_customer_column_and_every_row_its_customer() -> None:
    with pytest.raises(DataError, match="schema 'small' names no customer column: name it"):
        prepare(clean(rows(50), SCHEMA, "t.csv"), SCHEMA, 2)
    nobodys = rows(50).assign(id=["7"] * 49 + [""])
    with pytest.raises(
        DataError, match="'id': 1 cells, the first in row 50 below the header, are missing"
    ):
        clean(nobodys, BY_CUSTOMER, "t.csv")


def test_each_row_is_a_test_row_in_exactly_one_fold() -> None:
    table = clean(rows(400), SCHEMA, "t.csv")
    parts = np.stack([split_rows(table.frame, SCHEMA, fold) for fold in range(FOLDS)])
    assert ((parts == 2).sum(axis=0) == 1).all()
    assert (parts[0] == split_rows(table.frame, SCHEMA)).all()
    shares = [(parts == part).mean() for part in range(3)]
    assert shares == pytest.approx(SHARES, abs=0.02)
