"""How long models take in ONNX Runtime, held against each other in the same minute."""

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.export.onnx_file import FEATURES, LOGIT
from common.export.runtime import onnxruntime

BATCHES = (1, 256, 65_536)
"""Records scored at once: a customer at the counter, a page, a portfolio."""

TURNS, SECONDS, CALLS = 15, 1.0, 50
"""Interleaved turns of a batch, the seconds after which none begins, most calls in a turn."""

Call = Callable[[], object]
Clock = Callable[[], float]


def session_of(model: bytes, threads: int = 1) -> Any:
    """Return an ONNX Runtime session on the CPU that computes with ``threads`` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def features_of(rows: int, width: int) -> NDArray[np.float32]:
    """Return made-up features [rows, width] in [-1, 1]."""
    return np.random.default_rng(rows).uniform(-1, 1, (rows, width)).astype(np.float32)


def call_of(session: Any, features: NDArray[np.float32]) -> Call:
    """Return a call that computes the logits of ``features``."""
    return lambda: session.run([LOGIT], {FEATURES: features})


def medians(
    calls: Mapping[str, Call],
    clock: Clock,
    repeats: int,
    turns: int = TURNS,
    seconds: float = SECONDS,
) -> dict[str, float]:
    """Return each call's median time in ms; a turn runs every contender ``repeats`` times.

    There are fewer turns than asked for once ``seconds`` of the clock have gone.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    began = clock()
    for turn in range(turns):
        if turn and clock() - began > seconds:
            break
        for name, call in calls.items():
            call()  # Finds the caches as another contender left them.
            started = clock()
            for _ in range(repeats):
                call()
            times[name].append(1e3 * (clock() - started) / repeats)
    return {name: median(found) for name, found in times.items()}


def latencies(models: Mapping[str, bytes], width: int, clock: Clock) -> dict[str, dict[str, float]]:
    """Return the ms that each ONNX model takes for each of `BATCHES`, on one thread."""
    sessions = {name: session_of(model) for name, model in models.items()}
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    for rows in BATCHES:
        features = features_of(rows, width)
        calls = {name: call_of(session, features) for name, session in sessions.items()}
        for name, took in medians(calls, clock, max(1, CALLS // rows)).items():
            found[name][f"{rows}"] = took
    return found
