import os

import numpy as np

from common.entropy import SeededEntropy, Stream
from common.privacy.counting import noised_counts


def stream(label: str) -> Stream:
    return SeededEntropy(3, "counting").stream(label)


def test_counts_saturate_before_the_noise() -> None:
    counts = np.array([0.0, 5.0, 100.0])
    assert noised_counts(counts, 50, 0.0, os.urandom).tolist() == [0, 5, 50]
    many = np.array([noised_counts(counts, 50, 2.0, stream("many")) for _ in range(3)])
    assert np.array_equal(many[0], many[1])
    source = stream("fresh")
    spread = np.array([noised_counts(counts, 50, 2.0, source) for _ in range(800)])
    assert np.allclose(spread, spread.round())
    assert np.allclose(spread.mean(axis=0), [0, 5, 50], atol=0.35)
    assert np.allclose(spread.std(axis=0), 2.0, rtol=0.12)
    assert spread.max() > 50
    assert spread.min() < 0
