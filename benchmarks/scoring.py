"""How long, and in how much memory, are a million rows scored from raw Parquet columns?

The table has the shape of `uci_default`: all its columns, ids and label too, values drawn within
the declared bounds. The command runs as a person starts it, in a process of its own on two cores:
seconds from its start to its end, imports included, and the most memory it ever held (VmHWM).
Networks have random weights and nothing pruned, which is the slowest.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from common.export.onnx_file import ONNX, onnx_bytes
from common.facts import metadata_of
from common.layout import layout_of
from common.plan import ModelPlan, Plan, plan_from_dict
from common.pruning.compaction import unpruned
from common.schema import Column, FeatureSchema, NumericColumn

Array = NDArray[np.generic]

ROWS, GROUP = 1_000_000, 100_000
CORES = 2
BARS = {"score_1m_rows_seconds": 10.0, "score_1m_rows_mib": 1024.0}
WIDE = (512, 256, 128)
EXPLAINED = 50_000

WITNESS = f"""
import os, runpy
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{CORES}])
try:
    runpy.run_module("client.cli", run_name="__main__", alter_sys=True)
finally:
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
"""The command, and then the most KiB that this process held, whatever its parent holds."""


def plan_of(hidden: tuple[int, ...]) -> Plan:
    """Return a plan on the table's schema with these hidden layers."""
    institutions = [{"name": f"bank-{index}", "size": 3_000} for index in range(10)]
    model = {"hidden": hidden}
    fields = {"name": "scoring", "schema": "uci_default", "institutions": institutions}
    return plan_from_dict({**fields, "model": model})


def write_model(directory: Path, hidden: tuple[int, ...]) -> Path:
    """Write a model's directory: plan and ONNX, weights drawn."""
    plan = plan_of(hidden)
    width = plan.schema_.width
    size = layout_of(plan.model, width).size
    weights = np.random.default_rng(0).normal(0, 0.05, size).astype(np.float32)
    directory.mkdir()
    (directory / "plan.toml").write_text(plan.to_toml())
    (directory / ONNX).write_bytes(
        onnx_bytes(unpruned(plan.model, width, weights), metadata_of(plan))
    )
    return directory


def write_table(path: Path, schema: FeatureSchema, rows: int) -> Path:
    """Write ``rows`` drawn rows of every declared column, ids and label, in groups."""
    draw = np.random.default_rng(1)

    def cells(column: Column) -> Array:
        if not isinstance(column, NumericColumn):
            return draw.choice(np.array(column.values), rows)
        if column.codes:
            return draw.integers(int(column.lo), int(column.hi), rows, endpoint=True)
        # Amounts as the file has them: whole, most of them small, held as floats.
        spread = draw.beta(1, 20, rows) * (column.hi - max(column.lo, 0)) + max(column.lo, 0)
        return spread.round()

    columns: dict[str, Array] = {name: np.arange(rows) for name in schema.ignored}
    columns |= {column.name: cells(column) for column in schema.columns}
    columns[schema.label.column] = draw.integers(0, 2, rows)
    pq.write_table(pa.table(columns), path, row_group_size=GROUP)
    return path


def measure(model: Path, data: Path, out: Path, *more: str) -> tuple[float, float]:
    """Score ``data`` in a process of its own; return its seconds and its MiB at most."""
    command = [sys.executable, "-c", WITNESS, "score", "--keep", "ID", "--threads", str(CORES)]
    command.append("--unreleased")
    files = ["--model", str(model), "--data", str(data), "--out", str(out), "--force"]
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603  (this interpreter, our own command)
        [*command, *files, *more], check=True, capture_output=True, text=True
    )
    took = time.perf_counter() - started
    if pq.read_metadata(out).num_rows != pq.read_metadata(data).num_rows:
        raise RuntimeError(f"{out}: not one score a row")
    return took, int(done.stdout) / 1024


def scoring(turns: int = 1) -> dict[str, float]:
    """Return the figures, each time the best of ``turns``: other work only adds to it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        schema, out = plan_of(ModelPlan().hidden).schema_, place / "scores.parquet"
        table = write_table(place / "rows.parquet", schema, ROWS)
        few = write_table(place / "few.parquet", schema, EXPLAINED)
        model = write_model(place / "default", ModelPlan().hidden)
        wide = write_model(place / "wide", WIDE)
        usual = [measure(model, table, out) for _ in range(turns)]
        larger = [measure(wide, table, out) for _ in range(turns)]
        explained = [measure(model, few, out, "--explain") for _ in range(turns)]
    return {
        "score_1m_rows_seconds": min(took for took, _ in usual),
        "score_1m_rows_mib": max(held for _, held in usual),
        "score_1m_rows_seconds_512_256_128": min(took for took, _ in larger),
        "score_1m_rows_mib_512_256_128": max(held for _, held in larger),
        "explained_rows_per_second": EXPLAINED / min(took for took, _ in explained),
        "explained_mib": max(held for _, held in explained),
    }


def main() -> None:
    """Measure and print; ``--json`` ends with one flat object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one flat object as last line")
    parser.add_argument("--turns", type=int, default=3, help="turns, best counts [default: 3]")
    options = parser.parse_args()
    figures = scoring(options.turns)
    for name, value in figures.items():
        side = f"   bar: < {BARS[name]:g}" if name in BARS else ""
        print(f"{name:36} {value:10.3f}{side}")
    if options.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
