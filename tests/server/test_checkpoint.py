from dataclasses import asdict, fields, is_dataclass, replace
from math import nan
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from common.errors import ConfigError
from server.checkpoint import Checkpoint
from server.evaluation import CERTAIN, EMPTY, Estimate
from server.model import GlobalModel, Good, Watch
from tests.support import mask_keeping, roster_of, small_plan, start_of

PLAN = small_plan()


def full_model() -> GlobalModel:
    """Return a model of which nothing is as it was at the start."""
    start = start_of(PLAN, 4, 9)
    mask = mask_keeping(PLAN, 40)
    draw = np.random.default_rng(0)
    size = mask.size
    traces = start.traces.after(start.weights, draw.normal(size=size).astype(np.float32))
    traces = replace(traces, magnitudes=draw.random(size).astype(np.float32))
    seen = Estimate(replace(EMPTY, roc_auc=0.1 + 0.2), replace(CERTAIN, ks=1e-300))
    return replace(
        start,
        weights=start.weights * mask,
        mask=mask,
        traces=traces,
        watch=Watch(Good(start.weights, ~mask, 1 / 3, seen), 0.7, 0.9, 2 / 3),
        holders={"ash": "a" * 64},
        culprits=frozenset({"elm", "birch"}),
        moments=draw.normal(size=(2, size)),
        updates=3,
    )


def checkpoint(model: GlobalModel) -> Checkpoint:
    roster = roster_of(PLAN).to_bytes()
    return Checkpoint("run", PLAN.digest(), roster, model, b'{"event":"kept"}\n', 7, "f" * 64)


def told(value: object) -> Any:
    """Return a value so that two are equal when every bit is."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: told(getattr(value, part.name)) for part in fields(value)}
    return repr(value) if isinstance(value, float) else value


@pytest.mark.parametrize("model", [start_of(PLAN), full_model()], ids=["fresh", "full"])
def test_everything_comes_back_bit_for_bit(model: GlobalModel) -> None:
    data = checkpoint(model).to_bytes()
    assert told(Checkpoint.from_bytes(data)) == told(checkpoint(model))
    assert checkpoint(model).to_bytes() == data
    assert all(np.isnan(value) for value in [nan, EMPTY.ks])


def test_no_field_of_the_model_is_forgotten_but_the_keys_sent_ahead() -> None:
    changed = full_model()
    unchanged = {
        name
        for name in asdict(changed)
        if told(getattr(changed, name)) == told(getattr(start_of(PLAN, 0, 0), name))
    }
    # A resumed run begins an epoch of its own, in which no offer counts.
    assert unchanged == {"offers"}


def test_tensors_are_there_for_other_tools() -> None:
    tensors = load(checkpoint(full_model()).to_bytes())
    assert tensors["moments"].shape == (2, 85)
    assert {"weights", "mask", "velocity", "good.weights"} < set(tensors)


def test_one_altered_bit_is_refused_wherever_it_is() -> None:
    data = checkpoint(full_model()).to_bytes()
    for place in (*range(0, 40), *range(40, len(data), 97), len(data) - 1):
        altered = bytearray(data)
        altered[place] ^= 1
        with pytest.raises(ConfigError, match="altered or damaged"):
            Checkpoint.from_bytes(bytes(altered))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff" * 64, checkpoint(start_of(PLAN)).to_bytes()[:-1]]
)
def test_what_is_no_checkpoint_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match="altered or damaged") as caught:
        Checkpoint.from_bytes(data)
    assert "\n" not in str(caught.value)
