from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from common.histograms import histogram
from server.evaluation import denoised, estimate, metrics

COUNTS = st.integers(2, 30).flatmap(
    lambda bins: st.lists(st.integers(0, 6), min_size=2 * bins, max_size=2 * bins)
)


def by_sklearn(counts: list[int]) -> tuple[float, float]:
    """Return both areas from one score and label a record, as scikit-learn computes them."""
    bins = len(counts) // 2
    scores = np.repeat(np.tile(np.arange(bins), 2), counts)
    labels = np.repeat([0, 1], bins).repeat(counts)
    return float(roc_auc_score(labels, scores)), float(average_precision_score(labels, scores))


def areas(counts: list[int]) -> tuple[float, float]:
    found = metrics(np.array(counts, np.float64))
    return found.roc_auc, found.pr_auc


@given(COUNTS)
def test_areas_are_scikit_learns_on_the_binned_scores(counts: list[int]) -> None:
    bins = len(counts) // 2
    assume(sum(counts[:bins]) and sum(counts[bins:]))
    assert areas(counts) == pytest.approx(by_sklearn(counts), abs=1e-12)
    found = metrics(np.array(counts, np.float64))
    assert (found.negatives, found.positives) == (sum(counts[:bins]), sum(counts[bins:]))


@given(COUNTS, st.randoms(use_true_random=False))
def test_a_permuted_histogram_has_other_areas(counts: list[int], order: object) -> None:
    assert hasattr(order, "shuffle")
    bins = len(counts) // 2
    assume(sum(counts[:bins]) and sum(counts[bins:]))
    permuted = counts.copy()
    order.shuffle(permuted)
    assume(sum(permuted[:bins]) and sum(permuted[bins:]))
    expected = by_sklearn(counts)
    assume(by_sklearn(permuted) != pytest.approx(expected, abs=1e-9))
    assert areas(permuted) != pytest.approx(expected, abs=1e-10)


def test_classes_and_bins_have_their_order() -> None:
    rising = [4, 3, 2, 1, 1, 2, 3, 4]
    assert areas(rising)[0] == pytest.approx(by_sklearn(rising)[0])
    assert areas(rising)[0] > 0.7
    assert areas(rising[4:] + rising[:4])[0] == pytest.approx(1 - areas(rising)[0])
    assert areas([1, 0, 0, 1]) == (1, 1)
    assert areas([0, 1, 1, 0])[0] == 0


def test_areas_are_those_of_the_scores_up_to_the_bins() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 4_000).astype(np.float32)
    logits = draw.normal(labels, 1.5).astype(np.float32)
    exact = float(roc_auc_score(labels, logits))
    errors = [
        abs(metrics(histogram(logits, labels, bins)).roc_auc - exact) for bins in (4, 50, 400)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 2e-3


@pytest.mark.parametrize("counts", [[3, 2, 0, 0], [0, 0, 3, 2], [0, 0, 0, 0]])
def test_a_class_that_is_absent_has_no_areas(counts: list[int]) -> None:
    found = metrics(np.array(counts, np.float64))
    assert np.isnan([found.roc_auc, found.pr_auc]).all()
    assert (found.negatives, found.positives) == (sum(counts[:2]), sum(counts[2:]))
    both = metrics(np.array(counts, np.float64) + 1)
    assert not np.isnan(astuple(both)).any()


def credit_counts(records: int, bins: int = 20) -> NDArray[np.float64]:
    draw = np.random.default_rng(1)
    labels = (draw.uniform(size=records) < 0.22).astype(np.float32)
    logits = (draw.normal(1.1 * labels, 1.0) - 1.8).astype(np.float32)
    return histogram(logits, labels, bins)


def test_exact_counts_have_no_deviation_and_are_left_alone() -> None:
    counts = credit_counts(500)
    found = estimate(counts, 0.0)
    assert found.value == metrics(counts)
    assert set(astuple(found.sd)) == {0.0}
    assert set(astuple(estimate(counts, 1.0).sd)) != {0.0}


@pytest.mark.parametrize(("records", "noise"), [(6_000, 11.9), (6_000, 3.8), (2_400, 9.2)])
def test_deviations_are_those_of_repeated_releases(records: int, noise: float) -> None:
    counts, draw = credit_counts(records), np.random.default_rng(2)
    releases = [estimate(counts + draw.normal(0, noise, len(counts)), noise) for _ in range(25)]
    values = np.array([astuple(release.value) for release in releases])
    told = np.array([astuple(release.sd) for release in releases])
    ratio = values.std(axis=0) / told.mean(axis=0)
    assert (ratio[:4] > 0.6).all()
    assert (ratio[:4] < 1.6).all()
    halved = [estimate(counts + draw.normal(0, noise, len(counts)), noise / 2) for _ in range(5)]
    assert np.mean([release.sd.roc_auc for release in halved]) < 0.75 * told[:, 0].mean()


def test_denoised_counts_are_nearer_to_the_truth() -> None:
    counts, draw = credit_counts(2_400), np.random.default_rng(4)
    exact = metrics(counts).roc_auc
    raw, better = [], []
    for _ in range(40):
        noised = counts + draw.normal(0, 29, len(counts))
        raw.append(metrics(noised).roc_auc - exact)
        better.append(metrics(denoised(noised)).roc_auc - exact)
    assert np.square(better).mean() < 0.6 * np.square(raw).mean()


@given(st.lists(st.floats(-50, 200), min_size=12, max_size=12))
def test_denoised_counts_could_have_been_counted(noised: list[float]) -> None:
    counts = np.array(noised)
    found = denoised(counts)
    negative, positive = found.reshape(2, -1)
    assert (found >= 0).all()
    total = negative + positive
    share = positive[total > 1e-9] / total[total > 1e-9]
    assert (np.diff(share) >= -1e-9).all()
    for part, before in zip((negative, positive), counts.reshape(2, -1), strict=True):
        assert part.sum() <= max(before.sum(), 0) + total.sum()
    assert total.sum() == pytest.approx(np.maximum(counts.reshape(2, -1).sum(axis=1), 0).sum())


def test_denoising_leaves_what_is_already_possible() -> None:
    possible = np.array([40.0, 30, 20, 10, 1, 2, 3, 4])
    assert denoised(possible) == pytest.approx(possible)
    impossible = np.array([10.0, 20, 30, 40, 4, 3, 2, 1])
    assert denoised(impossible) != pytest.approx(impossible)


def test_ks_brier_and_calibration_are_the_definitions() -> None:
    draw = np.random.default_rng(5)
    logits = draw.normal(-1, 1.5, 20_000).astype(np.float32)
    score = 1 / (1 + np.exp(-logits))
    labels = (draw.uniform(size=len(logits)) < score).astype(np.float32)
    found = metrics(histogram(logits, labels, 200))
    assert found.brier == pytest.approx(float(np.mean((score - labels) ** 2)), abs=2e-3)
    points = np.linspace(-6, 6, 2_000)
    below = [np.searchsorted(np.sort(logits[labels == kind]), points) for kind in (0, 1)]
    distance = below[0] / (labels == 0).sum() - below[1] / (labels == 1).sum()
    assert found.ks == pytest.approx(float(np.abs(distance).max()), abs=0.01)
    shifted = metrics(histogram(logits + 1, labels, 200))
    assert found.calibration < 0.03 < shifted.calibration
    assert shifted.brier > found.brier
    assert shifted.ks == pytest.approx(found.ks, abs=0.01)
