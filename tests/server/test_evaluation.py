from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from common.histograms import histogram
from server.evaluation import metrics

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
