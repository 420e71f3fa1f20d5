from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from common.export.onnx_file import onnx_bytes
from server import latency
from server.latency import BATCHES, Call, call_of, features_of, latencies, medians, session_of
from tests.common.export.exports import MODELS, WIDTH


class Watch:
    """A clock that only calls move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, *seconds: float) -> Callable[[], object]:
        """Return a call that takes these seconds in turn, over and over."""
        calls = iter(seconds * 1000)

        def call() -> None:
            self.now += next(calls)

        return call


def test_each_contender_has_the_median_of_its_turns() -> None:
    watch = Watch()
    # Of a warming and two measured calls a turn, only the latter count.
    slow, fast = watch.taking(0.2, 0.002, 0.004), watch.taking(0.001)
    assert medians({"slow": slow, "fast": fast}, watch, 2, turns=3) == pytest.approx(
        {"slow": 3.0, "fast": 1.0}
    )
    uneven = watch.taking(0, 0.001, 0, 0.009, 0, 0.002)
    assert medians({"uneven": uneven}, watch, 1, turns=3) == pytest.approx({"uneven": 2.0})


def test_turns_end_when_their_time_is_over() -> None:
    watch = Watch()
    medians({"slow": watch.taking(0.3)}, watch, 1, turns=100)
    assert watch.now == pytest.approx(1.2)
    late = Watch()
    assert medians({"one turn": late.taking(50.0)}, late, 1) == {"one turn": 50_000}


def test_every_batch_of_every_model_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "TURNS", 2)
    watch = Watch()
    sizes: list[int] = []

    def counted(session: object, features: NDArray[np.float32]) -> Call:
        sizes.append(len(features))
        return call_of(session, features)

    monkeypatch.setattr(latency, "call_of", counted)
    models = {name: onnx_bytes(MODELS[name], {}) for name in ("mlp", "tanh")}
    found = latencies(models, WIDTH, watch)
    expected = {f"{rows}": 0.0 for rows in BATCHES}
    assert found == {"mlp": expected, "tanh": expected}
    assert sizes == [rows for rows in BATCHES for _ in models]


def test_a_call_computes_the_logits() -> None:
    model = MODELS["wide and deep"]
    features = features_of(7, WIDTH)
    (logits,) = cast("list[Any]", call_of(session_of(onnx_bytes(model, {})), features)())
    np.testing.assert_allclose(logits, model.forward(features), rtol=0, atol=1e-5)
