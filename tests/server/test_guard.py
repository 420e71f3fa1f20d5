import pytest

from server.evaluation import CERTAIN, Estimate, Metrics
from server.guard import guard


def seen(roc_auc: float, sd: float) -> Estimate:
    def with_auc(value: float) -> Metrics:
        return Metrics(value, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0)

    return Estimate(with_auc(roc_auc), with_auc(sd))


def test_a_fall_beyond_tolerance_and_noise_is_one() -> None:
    verdict = guard(seen(0.80, 0.003), seen(0.76, 0.004), 0.01)
    assert verdict.smallest_detectable == pytest.approx(0.01 + 2 * 0.005)
    assert verdict.fell
    assert str(verdict) == "ROC-AUC fell: -0.0400; smallest detectable fall 0.0200"


@pytest.mark.parametrize(
    ("after", "tolerance"),
    [(seen(0.785, 0.004), 0.01), (seen(0.76, 0.03), 0.01), (seen(0.76, 0.0), 0.05)],
    ids=["small", "noisy", "tolerated"],
)
def test_what_noise_or_tolerance_explains_is_none(after: Estimate, tolerance: float) -> None:
    verdict = guard(seen(0.80, 0.003), after, tolerance)
    assert not verdict.fell
    assert str(verdict).startswith("ROC-AUC holds")
    assert guard(seen(0.80, 0.0), seen(0.70, 0.0), tolerance).fell


def test_a_rise_and_a_missing_metric_are_no_falls() -> None:
    assert not guard(seen(0.7, 0.0), seen(0.8, 0.0), 0.0).fell
    assert not guard(seen(0.7, 0.0), seen(float("nan"), 0.0), 0.0).fell
    assert CERTAIN.roc_auc == 0
