import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from common.encoding import encode, out_of_range, read_column, read_labels
from common.schema import FeatureSchema, NumericColumn, load_schema
from simulations.consortium import consortium, pooled


@pytest.fixture(scope="module")
def schema() -> FeatureSchema:
    return load_schema("credit_consortium")


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return consortium(seed=0)


def test_same_seed_same_tables_and_another_differs() -> None:
    first, again, other = (consortium(seed, loans=60) for seed in (3, 3, 4))
    assert list(first) == [f"bank-{index:02d}" for index in range(10)]
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, again[name])
        assert not table.equals(other[name])


def test_sizes_are_unequal_around_the_mean(tables: dict[str, pd.DataFrame]) -> None:
    sizes = [len(table) for table in tables.values()]
    assert sum(sizes) == 30_000
    assert min(sizes) < 1_800
    assert max(sizes) > 4_500


def test_equal_sizes_on_request() -> None:
    tables = consortium(institutions=4, loans=70, sizes="equal")
    assert [len(table) for table in tables.values()] == [70] * 4


@pytest.mark.parametrize("seed", range(3))
def test_rates_and_features_differ_between_institutions(seed: int) -> None:
    tables = consortium(seed).values()
    rates = [table["default"].mean() for table in tables]
    incomes = [table["income"].median() for table in tables]
    business = [(table["purpose"] == "business").mean() for table in tables]
    assert max(rates) > 1.8 * min(rates)
    assert 0.05 < min(rates) < max(rates) < 0.4
    assert max(incomes) > 1.2 * min(incomes)
    assert max(business) > 1.5 * min(business)


def test_customers_hold_several_loans_at_one_institution(tables: dict[str, pd.DataFrame]) -> None:
    everyone = pooled(tables)
    assert everyone["customer_id"].nunique() < 0.7 * len(everyone)
    holders = everyone.groupby("customer_id")["institution"].nunique()
    assert (holders == 1).all()
    assert (everyone.groupby("customer_id")["age_band"].nunique() == 1).all()


def test_age_is_protected_and_matters(
    schema: FeatureSchema, tables: dict[str, pd.DataFrame]
) -> None:
    rates = pooled(tables).groupby("age_band")["default"].mean()
    assert schema.protected == ("age_band",)
    assert not any(name.startswith("age_band") for name in schema.feature_names)
    assert rates.max() > 1.5 * rates.min()


def test_schema_declares_the_whole_table(
    schema: FeatureSchema, tables: dict[str, pd.DataFrame]
) -> None:
    table = tables["bank-00"]
    columns = {column.name for column in schema.columns}
    assert set(table) == columns | {"institution", "customer_id", "default"}
    features = encode(table, schema)
    assert features.shape == (len(table), schema.width)
    assert np.isfinite(features).all()
    # Every feature varies: no bound swallows a column and no declared value is never drawn.
    assert (features.std(axis=0) > 0.02).all()


def test_tails_exceed_the_bounds_seldom(
    schema: FeatureSchema, tables: dict[str, pd.DataFrame]
) -> None:
    everyone = pooled(tables)
    numeric = [column for column in schema.columns if isinstance(column, NumericColumn)]
    outside = {
        column.name: out_of_range(read_column(everyone[column.name], column), column).mean()
        for column in numeric
    }
    assert 0 < outside["income"] < 0.01
    assert max(outside.values()) < 0.01
    assert 0.02 < (everyone["months_since_delinquency"] == -9).mean() < 0.1


def _aucs(
    features: npt.NDArray[np.float32], labels: npt.NDArray[np.float32]
) -> tuple[float, float]:
    held_out = np.random.default_rng(0).random(len(labels)) < 0.3
    linear = LogisticRegression(C=100, max_iter=1_000)
    boosted = GradientBoostingClassifier(
        n_estimators=150, subsample=0.3, max_features=8, random_state=0
    )
    scores = (
        model.fit(features[~held_out], labels[~held_out]).predict_proba(features[held_out])[:, 1]
        for model in (linear, boosted)
    )
    first, second = (float(roc_auc_score(labels[held_out], score)) for score in scores)
    return first, second


def test_interactions_escape_a_linear_model(
    schema: FeatureSchema, tables: dict[str, pd.DataFrame]
) -> None:
    everyone = pooled(tables)
    features, labels = encode(everyone, schema), read_labels(everyone, schema)
    linear, boosted = _aucs(features, labels)
    assert 0.78 < boosted < 0.84
    assert 0.02 < boosted - linear < 0.045
    # Negative control: labels without interactions leave boosting no such lead.
    slope = np.random.default_rng(1).normal(0, 1, schema.width)
    odds = features @ slope - 1.5
    plain = np.random.default_rng(2).random(len(odds)) < 1 / (1 + np.exp(-odds))
    linear, boosted = _aucs(features, plain.astype(np.float32))
    assert boosted - linear < 0.01
