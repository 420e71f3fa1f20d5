import numpy as np
import pytest

from server.evaluation import metrics
from server.report.spread import GRID, Curves, curves, hits_at, precision_at, shares
from tests.reports import histogram


def drawn(noise: float = 0.0) -> Curves:
    found = curves(histogram(), noise)
    assert found is not None
    return found


def test_roc_curve_has_the_area_that_the_counts_have() -> None:
    auc = metrics(histogram()).roc_auc
    fine = np.trapezoid(hits_at(histogram()), GRID)
    assert fine == pytest.approx(auc, abs=0.005)
    assert hits_at(histogram())[-1] == 1
    # Negative control: the classes exchanged turn the curve over.
    turned = histogram().reshape(2, -1)[::-1].ravel()
    assert np.trapezoid(hits_at(turned), GRID) == pytest.approx(1 - auc, abs=0.005)


def test_precision_is_that_of_the_fewest_rows_with_so_many_positives() -> None:
    counts = np.array([90.0, 10, 0, 0, 5, 15])
    # The worst bin holds no positive, so nobody flags it.
    assert precision_at(counts)[-1] == pytest.approx(20 / 30)
    assert precision_at(np.array([90.0, 10, 0, 1, 5, 15]))[-1] == pytest.approx(21 / 121)
    # All of the best bin, three quarters of the positives, are positive.
    assert precision_at(counts)[GRID[1:] <= 0.75].min() == 1


def test_shares_are_of_each_bin_and_unknown_where_it_is_empty() -> None:
    assert shares(np.array([3.0, 0, 1, 0]))[0] == 0.25
    assert np.isnan(shares(np.array([3.0, 0, 1, 0]))[1])


def test_exact_counts_have_no_band_and_more_noise_a_wider_one() -> None:
    exact, some, more = drawn(), drawn(5.0), drawn(20.0)
    assert (exact.roc.low == exact.roc.y).all()
    for name in ("roc", "pr", "calibration"):
        widths = [np.mean(getattr(one, name).high - getattr(one, name).low) for one in (some, more)]
        assert 0 < widths[0] < widths[1]
    assert (more.roc.low <= more.roc.y).all()
    assert (more.roc.y <= more.roc.high).all()
    assert (drawn(5.0).roc.low == some.roc.low).all()


def test_band_holds_what_the_noise_does_to_the_curve() -> None:
    noise, truth = 8.0, hits_at(histogram())
    draw = np.random.default_rng(1)
    held = []
    for _ in range(40):
        found = curves(histogram() + draw.normal(0, noise, histogram().size), noise)
        assert found is not None
        held.append(((found.roc.low <= truth) & (truth <= found.roc.high))[5:-5].mean())
    assert np.mean(held) > 0.8
    # Negative control: a band for a tenth of that noise holds far less.
    small = []
    for _ in range(40):
        found = curves(histogram() + draw.normal(0, noise, histogram().size), noise / 10)
        assert found is not None
        small.append(((found.roc.low <= truth) & (truth <= found.roc.high))[5:-5].mean())
    assert np.mean(small) < 0.5


def test_counts_without_a_class_have_no_curves() -> None:
    assert curves(np.array([4.0, 4, 0, 0]), 0.0) is None
    assert curves(np.array([0.0, 0, 3, 1]), 2.0) is None
