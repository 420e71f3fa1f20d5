"""The run's directory: rounds as they finish, and the model so far; each write is atomic."""

import csv
import io
import json
import os
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from common.facts import facts_of
from common.model import layout_of
from common.plan import Plan
from common.pruning.masks import pack_mask
from common.segments import TEST, VALIDATION
from server.aggregation import GlobalModel
from server.evaluation import metrics
from server.rounds import RoundReport

PARTIAL = ".partial"
"""End of a file's name while it is written."""

MODEL = "model.safetensors"

COLUMNS = (
    "round",
    "epoch",
    "survivors",
    "weights_kept",
    "sparsity",
    "auc_validation",
    "auc_test",
    "bytes_up",
    "bytes_down",
    "seconds",
)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that a crash leaves the old file or the new one."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def round_row(report: RoundReport) -> dict[str, str | int | float]:
    """Return a report as a row of ``rounds.csv``; a metric not released is an empty cell."""
    auc: dict[str, float | str] = dict.fromkeys((VALIDATION, TEST), "")
    for name, counts in report.counts.items():
        if isfinite(roc_auc := metrics(counts).roc_auc):
            auc[name] = round(roc_auc, 6)
    values = (
        report.round,
        report.epoch,
        len(report.survivors),
        report.kept,
        round(report.sparsity, 6),
        auc[VALIDATION],
        auc[TEST],
        report.bytes_up,
        report.bytes_down,
        round(report.seconds, 4),
    )
    return dict(zip(COLUMNS, values, strict=True))


def model_bytes(model: GlobalModel, plan: Plan) -> bytes:
    """Return a safetensors file: each named tensor, and ``mask`` (packed bits, public).

    The plan's hash, the architecture and how it was protected stand in its metadata.
    """
    layout = layout_of(plan.model, plan.schema_.width)
    tensors: dict[str, NDArray[np.generic]] = {
        name: np.ascontiguousarray(tensor) for name, tensor in layout.split(model.weights).items()
    }
    tensors["mask"] = np.frombuffer(pack_mask(model.mask), np.uint8)
    metadata = {
        "plan_sha256": plan.digest(),
        "model": plan.model.model_dump_json(),
        "width": str(plan.schema_.width),
        "features": json.dumps(plan.schema_.feature_names),
        **facts_of(plan),
    }
    return save(tensors, metadata)


class RunStore:
    """Writes ``plan.toml``, ``rounds.csv`` and ``model.safetensors`` under one directory."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        """Create the directory and write the plan."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._plan = directory, plan
        write_atomically(directory / "plan.toml", plan.to_toml().encode())
        self._rows = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._rows, COLUMNS)
        self._writer.writeheader()
        self._write_rows()

    def keep(self, model: GlobalModel, report: RoundReport) -> None:
        """Add a finished round."""
        self._writer.writerow(round_row(report))
        self._write_rows()
        write_atomically(self._directory / MODEL, model_bytes(model, self._plan))

    def _write_rows(self) -> None:
        write_atomically(self._directory / "rounds.csv", self._rows.getvalue().encode())
