from dataclasses import replace
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.metrics import roc_auc_score

from server.evaluation import metrics
from server.model_file.watching import (
    LEAST_SHARE,
    Band,
    auc_sd,
    bands_of,
    falls,
    index_bound,
    mean_score,
    rows_for_change,
    rows_for_index,
)
from server.report.files import Counted
from tests.reports import histogram


def counted(noise: float = 0.0, scale: float = 500.0) -> Counted:
    return Counted(6, "test", "", noise, histogram(scale))


def test_bands_hold_all_rows_and_none_too_few() -> None:
    bands = bands_of(counted())
    assert sum(band.rows for band in bands) == pytest.approx(histogram(500.0).sum())
    assert sum(band.positives for band in bands) == pytest.approx(histogram(500.0)[10:].sum())
    assert (bands[0].low, bands[-1].high) == (0, 1)
    assert all(one.high == other.low for one, other in pairwise(bands))
    whole = sum(band.rows for band in bands)
    assert all(band.rows >= LEAST_SHARE * whole for band in bands)
    assert len(bands) < 10


def test_counts_of_one_class_have_no_bands() -> None:
    alone = replace(counted(), counts=np.concatenate([np.ones(10), np.zeros(10)]))
    assert bands_of(alone) == ()
    assert list(falls(alone, 0.0)) == []


def test_a_bands_noise_is_that_of_its_share() -> None:
    band = Band(0.1, 0.2, rows=400.0, positives=100.0, noise=6.0)
    draw = np.random.default_rng(0)
    positive, negative = 100 + draw.normal(0, 6, 20_000), 300 + draw.normal(0, 6, 20_000)
    assert band.sd == pytest.approx((positive / (positive + negative)).std(), rel=0.03)


def test_chance_alone_passes_the_index_bound_once_in_twenty() -> None:
    bands, draw, rows = bands_of(counted()), np.random.default_rng(1), 2_000
    shares = np.array([band.rows for band in bands])
    whole = round(shares.sum())
    shares /= shares.sum()
    reference, new = (draw.multinomial(count, shares, 4_000) / count for count in (whole, rows))
    index = ((new - reference) * np.log(new / reference)).sum(axis=1)
    bound = index_bound(bands, rows)
    assert bound == pytest.approx(chi2.ppf(0.95, len(bands) - 1) * (1 / rows + 1 / whole), rel=0.01)
    assert 0.035 < (index > bound).mean() < 0.065
    # Negative control: half the rows pass the bound of the whole far more often.
    few = draw.multinomial(rows // 2, shares, 4_000) / (rows // 2)
    assert (((few - reference) * np.log(few / reference)).sum(axis=1) > bound).mean() > 0.15


@pytest.mark.parametrize("rows", [1_000, 10_000])
@pytest.mark.parametrize("noise", [15.0, 25.0])
def test_noise_of_the_reference_passes_the_index_bound_no_oftener(noise: float, rows: int) -> None:
    bands, draw = bands_of(counted(noise)), np.random.default_rng(3)
    shares = np.array([band.rows for band in bands])
    whole = round(shares.sum())
    shares /= shares.sum()
    # Both classes' counts of a band carry its noise.
    noised = draw.normal(0, [sqrt(2) * band.noise for band in bands], (8_000, len(bands)))
    reference = np.maximum(draw.multinomial(whole, shares, 8_000) + noised, 1)
    reference /= reference.sum(axis=1, keepdims=True)
    new = draw.multinomial(rows, shares, 8_000) / rows
    index = ((new - reference) * np.log(new / reference)).sum(axis=1)
    assert 0.01 < (index > index_bound(bands, rows)).mean() < 0.06
    # Negative control: the bound of counts without noise.
    assert (index > index_bound(bands_of(counted()), rows)).mean() > 0.08


def test_noise_raises_the_index_bound_until_no_rows_are_enough() -> None:
    quiet, loud, deaf = (bands_of(counted(noise)) for noise in (0.0, 15.0, 90.0))
    assert index_bound(quiet, 1000) < index_bound(loud, 1000) < index_bound(deaf, 1000)
    few, more = rows_for_index(quiet), rows_for_index(loud)
    assert few is not None
    assert more is not None
    assert few < more
    assert index_bound(loud, more) <= 0.1 < index_bound(loud, more - 2)
    assert rows_for_index(deaf) is None


def test_chance_in_roc_auc_is_that_of_rows() -> None:
    draw = np.random.default_rng(2)
    labels = np.repeat([1, 0], [60, 240])
    # Hanley and McNeil's is exact for exponential scores, of which these are.
    found = [
        roc_auc_score(labels, draw.exponential(np.where(labels, 3.0, 1.0))) for _ in range(600)
    ]
    assert auc_sd(0.75, 60, 240) == pytest.approx(np.std(found), rel=0.1)


def test_more_rows_show_smaller_falls_but_never_below_the_references_own_noise() -> None:
    exact, noised = dict(falls(counted(), 0.0)), dict(falls(counted(), 0.02))
    values = list(noised.values())
    assert values == sorted(values, reverse=True)
    assert all(noised[rows] > exact[rows] for rows in exact)
    assert values[-1] > 2 * 0.02
    seen = metrics(histogram(500.0))
    own = auc_sd(seen.roc_auc, seen.positives, seen.negatives)
    assert exact[25_000] > 2 * own


def test_rows_that_show_a_change_are_few_in_a_band_that_is_known_well() -> None:
    known = Band(0.1, 0.2, rows=1e9, positives=2e8, noise=0.0)
    # Two standard deviations of 64 rows at a share of .2 are .1, half of it.
    assert rows_for_change(known) in (64, 65)
    assert sqrt(0.2 * 0.8 / 64) * 2 == pytest.approx(0.1)
    rare = rows_for_change(replace(known, positives=2e7))
    assert rare is not None
    assert rare > 64
    assert rows_for_change(replace(known, noise=1e8)) is None
    assert rows_for_change(replace(known, positives=0.0)) is None


def test_mean_score_weighs_bins_by_their_rows() -> None:
    scores = np.arange(10) / 10
    lowest = replace(counted(), counts=np.array([4.0, *[0] * 9, 1, *[0] * 9]))
    assert mean_score(lowest, scores) == 0
