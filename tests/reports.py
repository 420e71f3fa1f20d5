"""Runs' directories for tests of the report, written by the real store."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.plan import Plan
from common.segments import TEST, VALIDATION, count_names, counting_noise, evaluation_rounds
from server.rounds import RoundReport
from server.spent import facts_json
from server.store import RunStore
from server.tables import FACTS, LATENCY, SHRINKAGE
from tests.support import start_of

BINS = 10
FORM = {
    "weights": 85,
    "neurons": 12,
    "flops_per_record": 160,
    "bytes_stored": 800,
    "bytes_compressed": 700,
}


def histogram(scale: float = 100.0, bins: int = BINS) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return counts [2 * bins] of a model that tells the classes apart."""
    centres = np.arange(bins) / bins
    return np.concatenate(
        [np.exp(-(((centres - at) / 0.2) ** 2)) * scale for at in (0.35, 0.6)]
    ).round()


def round_report(plan: Plan, number: int, size: int, survivors: tuple[str, ...]) -> RoundReport:
    """Return a round that might have been; one without survivors was lost."""
    parts = [VALIDATION] if number in evaluation_rounds(plan) else []
    parts += [TEST] * (number == plan.training.rounds)
    names = [name for part in parts for name in count_names(plan, part)] if survivors else []
    kept = size - 10 * number
    return RoundReport(
        round=number,
        epoch=number + 1,
        survivors=survivors,
        kept=kept,
        sparsity=1 - kept / size,
        counts={name: histogram(bins=plan.evaluation.bins) for name in names},
        noise={name: counting_noise(plan, name.partition("/")[0], 4) for name in names},
        bytes_up=100 * kept if survivors else 0,
        bytes_down=120 * kept if survivors else 0,
        seconds=1.5,
        stages={"update": 1.0, "unmask": 0.25} if survivors else {},
    )


def write_run(directory: Path, plan: Plan, rounds: int | None = None, **summary: Any) -> Path:
    """Write a run of so many rounds (all, by default), with a summary if it has a ``seed``."""
    store, start = RunStore(directory, plan), start_of(plan)
    size = start.mask.size
    for number in range(plan.training.rounds + 1 if rounds is None else rounds):
        survivors = () if number == 1 else plan.names
        mask = np.arange(size) >= 10 * number
        model = replace(start, mask=mask, weights=start.weights * mask, round=number + 1)
        store.keep(model, round_report(plan, number, size, survivors))
    if summary:
        (directory / "summary.json").write_text(json.dumps(summary))
    if rounds is None:
        (directory / FACTS).write_bytes(facts_json(plan, plan.training.rounds))
        forms = {name: FORM | {LATENCY: {"1": 0.5, "256": 2.0}} for name in ("dense", "compact")}
        (directory / SHRINKAGE).write_text(json.dumps(forms | {"sparse": FORM}))
    return directory
