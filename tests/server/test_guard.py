import pytest

from server.evaluation import CERTAIN, Estimate, Metrics
from server.guard import Shortfall, guard, shortfall


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


def test_a_group_below_the_floor_by_more_than_noise_is_a_fall_too() -> None:
    groups = {"sex=f": seen(0.7, 0.001), "sex=m": seen(0.62, 0.01), "pool:x": seen(0.5, 0.2)}
    found = shortfall(groups, 0.65)
    # The pool is lower, but may well be anywhere.
    assert found == Shortfall("sex=m", 0.62, 0.01, 0.65)
    assert found is not None
    assert found.smallest_detectable == 0.02
    verdict = guard(seen(0.7, 0.0), seen(0.7, 0.0), 0.0, found)
    assert verdict.fell
    assert str(verdict) == (
        "ROC-AUC holds: +0.0000; smallest detectable fall 0.0000; worst group sex=m: ROC-AUC"
        " 0.6200, sd 0.0100, below the floor 0.6500; smallest detectable shortfall 0.0200"
    )
    above = guard(seen(0.7, 0.0), seen(0.7, 0.0), 0.0, shortfall(groups, 0.639))
    assert not above.fell
    assert "holds the floor 0.6390" in str(above)
    # Any fall over all still counts.
    assert guard(seen(0.8, 0.0), seen(0.7, 0.0), 0.0, shortfall(groups, 0.5)).fell


def test_no_floor_and_no_known_group_are_no_shortfall() -> None:
    nan = float("nan")
    assert shortfall({"sex=f": seen(0.1, 0.0)}, None) is None
    assert shortfall({"sex=f": seen(nan, 0.0), "sex=m": seen(0.1, nan)}, 0.9) is None
    assert shortfall({"sex=f": seen(nan, 0.0), "sex=m": seen(0.1, 0.0)}, 0.9) is not None
    assert shortfall({}, 0.9) is None


def test_a_rise_and_a_missing_metric_are_no_falls() -> None:
    assert not guard(seen(0.7, 0.0), seen(0.8, 0.0), 0.0).fell
    assert not guard(seen(0.7, 0.0), seen(float("nan"), 0.0), 0.0).fell
    assert CERTAIN.roc_auc == 0
