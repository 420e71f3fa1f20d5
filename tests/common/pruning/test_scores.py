from dataclasses import replace

import numpy as np
import pytest

from common.pruning.evidence import DECAY, Evidence, Traces, Vector
from common.pruning.scores import (
    SCORES,
    displacement,
    gradient,
    magnitude,
    mean_magnitude,
    movement,
    random,
    taylor,
)


def vector(*values: float) -> Vector:
    return np.array(values, np.float32)


BEGAN = Traces.begin(vector(-2, 0, 0.5, 1))
LATER = BEGAN.after(vector(-2, 0, 0.5, 1), vector(-1, 3, 0.25, -1))
SEEN = Evidence(vector(-3, 3, 0.75, 0), LATER, b"key")


def test_traces_keep_the_start_and_average_the_descent() -> None:
    assert LATER.velocity == pytest.approx((1 - DECAY) * vector(-1, 3, 0.25, -1))
    assert LATER.movement == pytest.approx(vector(2, 0, 0.125, -1))
    assert LATER.initial is BEGAN.initial
    again = LATER.after(vector(1, 1, 1, 1), vector(0, 0, 0, 0))
    assert again.velocity == pytest.approx(DECAY * LATER.velocity)
    assert again.movement == pytest.approx(LATER.movement)


def test_each_score_is_its_formula() -> None:
    step = (1 - DECAY) * vector(-1, 3, 0.25, -1)
    assert magnitude(SEEN).tolist() == [3, 3, 0.75, 0]
    assert displacement(SEEN).tolist() == [1, 3, 0.25, 1]
    assert gradient(SEEN) == pytest.approx(np.abs(step))
    # Away from zero is worth more than towards it.
    assert movement(SEEN) == pytest.approx(vector(2, 0, 0.125, -1))
    assert taylor(SEEN) == pytest.approx(np.abs(step) * vector(3, 3, 0.75, 0))


def test_mean_magnitude_is_what_institutions_sent_or_the_magnitude_of_the_mean() -> None:
    sent = Evidence(SEEN.weights, replace(LATER, magnitudes=vector(9, 8, 7, 6)), b"key")
    assert mean_magnitude(sent).tolist() == [9, 8, 7, 6]
    assert mean_magnitude(SEEN).tolist() == magnitude(SEEN).tolist()


def test_chance_is_the_plans_and_not_the_weights() -> None:
    other = replace(SEEN, weights=vector(0, 0, 0, 1))
    assert random(SEEN).tolist() == random(other).tolist()
    assert random(SEEN).tolist() != random(replace(SEEN, key=b"kez")).tolist()


def test_scores_are_found_by_name() -> None:
    assert SCORES.require("magnitude") is magnitude
    with pytest.raises(ValueError, match=r"unknown pruning score 'l3'; known: .*magnitude"):
        SCORES.require("l3")
