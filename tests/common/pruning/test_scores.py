import numpy as np
import pytest

from common.pruning.scores import SCORES, magnitude


def test_magnitude_is_the_absolute_value() -> None:
    weights = np.array([-2, 0, 0.5, -0.0], np.float32)
    assert magnitude(weights).tolist() == [2, 0, 0.5, 0]
    assert magnitude(weights).dtype == np.float32


def test_scores_are_found_by_name() -> None:
    assert SCORES.require("magnitude") is magnitude
    with pytest.raises(ValueError, match=r"unknown pruning score 'l3'; known: .*magnitude"):
        SCORES.require("l3")
