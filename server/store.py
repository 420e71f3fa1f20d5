"""The run's directory: rounds as they finish, and the model so far; each write is atomic.

Beside it, the server's own directory outlives the runs: it holds the members' last adverts.
"""

import csv
import io
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from common.crypto.session import LastAdvert
from common.durable import write_atomically, writing
from common.errors import ConfigError, ProtocolError
from common.export import forms
from common.export.onnx_file import ONNX, onnx_bytes
from common.export.shrinkage import shrinkage
from common.facts import metadata_of
from common.plan import Plan
from common.pruning.compaction import CompactModel, compact, unpruned
from common.segments import COUNTS, count_names
from server.adverts import Adverts, Known
from server.evaluation import Estimate
from server.latency import latencies
from server.model import GlobalModel
from server.rounds import Clock, RoundReport
from server.spent import facts_json
from server.tables import (
    COLUMNS,
    COLUMNS_OF,
    COUNT_COLUMNS,
    COUNTS_TABLE,
    FACTS,
    GROUP_COLUMNS,
    GROUPS,
    LATENCY,
    METRICS,
    MODEL,
    ROUNDS,
    SHRINKAGE,
)

Row = dict[str, str | int | float]
"""A row of a table by column."""

Rows = Mapping[str, Sequence[Row]]
"""Rows by the name of the table that they go to."""

ADVERTS = "adverts-"
"""How the files begin that hold members' last adverts, one a plan."""


def round_row(report: RoundReport) -> Row:
    """Return a report as a row of ``rounds.csv``; a metric not released is an empty cell."""
    row: Row = dict.fromkeys(COLUMNS, "")
    row |= {
        "round": report.round,
        "epoch": report.epoch,
        "survivors": len(report.survivors),
        "weights_kept": report.kept,
        "sparsity": round(report.sparsity, 6),
        "bytes_up": report.bytes_up,
        "bytes_down": report.bytes_down,
        "seconds": round(report.seconds, 4),
        **{f"seconds_{stage}": round(took, 4) for stage, took in report.stages.items()},
    }
    for part in (part for part in COUNTS if part in report.counts):
        for (metric, end), number in _metrics(report.estimates[part]).items():
            row[f"{metric}_{part}{end}"] = number
    return row


def group_rows(report: RoundReport, plan: Plan) -> list[Row]:
    """Return a report as rows of ``groups.csv``; whoever was not looked at has empty cells."""
    rows = []
    for part in (part for part in COUNTS if part in report.counts):
        for name in count_names(plan, part)[1:]:
            row: Row = dict.fromkeys(GROUP_COLUMNS, "")
            row |= {"round": report.round, "part": part, "group": name.removeprefix(f"{part}/")}
            if (estimated := report.estimates.get(name)) is not None:
                row |= {metric + end: n for (metric, end), n in _metrics(estimated).items()}
                row |= {
                    field: round(getattr(estimated.value, field), 1)
                    for field in ("positives", "negatives")
                }
            rows.append(row)
    return rows


def count_rows(report: RoundReport) -> list[Row]:
    """Return a report as rows of ``counts.csv``: the sums as they were opened, noise and all."""
    rows: list[Row] = []
    for name, counts in report.counts.items():
        part, _, group = name.partition("/")
        negatives, positives = counts.round().astype(int).reshape(2, -1).tolist()
        noise = round(report.noise.get(name, 0.0), 6)
        for place, pair in enumerate(zip(negatives, positives, strict=True)):
            cells = (report.round, part, group, noise, place, *pair)
            rows.append(dict(zip(COUNT_COLUMNS, cells, strict=True)))
    return rows


def tables_of(plan: Plan) -> tuple[str, ...]:
    """Return the names of a run's tables."""
    apart = plan.evaluation.groups or plan.evaluation.pools
    return (ROUNDS, COUNTS_TABLE, GROUPS) if apart else (ROUNDS, COUNTS_TABLE)


def rows_of(report: RoundReport, plan: Plan) -> dict[str, list[Row]]:
    """Return what a report adds to each table."""
    rows = {
        ROUNDS: [round_row(report)],
        COUNTS_TABLE: count_rows(report),
        GROUPS: group_rows(report, plan),
    }
    return {name: rows[name] for name in tables_of(plan)}


def _metrics(estimated: Estimate) -> dict[tuple[str, str], float]:
    """Return the metrics that are known, each with its standard deviation."""
    ends = (("", estimated.value), ("_sd", estimated.sd))
    shown = {
        (metric, end): getattr(found, field)
        for metric, field in METRICS.items()
        for end, found in ends
    }
    return {key: round(number, 6) for key, number in shown.items() if isfinite(number)}


def model_bytes(model: GlobalModel, plan: Plan) -> bytes:
    """Return the file of a model so far: see `common.export.forms`."""
    return forms.model_bytes(model.weights, model.mask, plan)


def forms_of(model: GlobalModel, plan: Plan) -> tuple[CompactModel, dict[str, bytes]]:
    """Return the compacted model, and its files by name: one model gives one sequence of bytes."""
    small = compact(plan.model, plan.schema_.width, model.weights, model.mask)
    return small, forms.compact_forms(small, plan)


class _Table:
    """A CSV file as it grows."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.text = io.StringIO(newline="")
        self._writer = csv.DictWriter(self.text, columns)
        self._writer.writeheader()

    def add(self, rows: Iterable[Row]) -> None:
        self._writer.writerows(rows)


class RunStore:
    """Writes a run's files under one directory: the plan, each round, the model in each form."""

    def __init__(self, directory: Path, plan: Plan, rows: Rows | None = None) -> None:
        """Create the directory and write the plan, and the rows of rounds that are over."""
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._plan = directory, plan
        write_atomically(directory / "plan.toml", plan.to_toml().encode())
        self._tables = {name: _Table(COLUMNS_OF[name]) for name in tables_of(plan)}
        for name, table in self._tables.items():
            table.add((rows or {}).get(name, ()))
            self._write(name)

    def keep(self, model: GlobalModel, report: RoundReport) -> None:
        """Add a finished round."""
        self.add(rows_of(report, self._plan), model_bytes(model, self._plan))

    def add(self, rows: Rows, model: bytes) -> None:
        """Add the rows of a finished round and replace the model's file by its bytes."""
        for name, added in rows.items():
            if added:
                self._tables[name].add(added)
                self._write(name)
        write_atomically(self._directory / MODEL, model)

    def finish(self, model: GlobalModel, clock: Clock = time.perf_counter) -> dict[str, Any]:
        """Write the compacted model in each form; return what shrank, as in ``shrinkage.json``.

        Once a run, however it ends: it takes seconds.
        """
        plan, width, metadata = self._plan.model, self._plan.schema_.width, metadata_of(self._plan)
        small, files = forms_of(model, self._plan)
        dense = unpruned(plan, width, model.weights)
        runnable = {"dense": onnx_bytes(dense, metadata), "compact": files[ONNX]}
        shrank = {name: asdict(form) for name, form in shrinkage(dense, small, metadata).items()}
        for name, took in latencies(runnable, width, clock).items():
            shrank[name][LATENCY] = took
        files[SHRINKAGE] = (json.dumps(shrank, indent=2) + "\n").encode()
        files[FACTS] = facts_json(self._plan, min(model.round, self._plan.training.rounds))
        for name, data in files.items():
            write_atomically(self._directory / name, data)
        return shrank

    def _write(self, name: str) -> None:
        write_atomically(self._directory / name, self._tables[name].text.getvalue().encode())


def stored_adverts(directory: Path, plan_hash: str) -> Adverts:
    """Return the adverts that runs of any plan left in ``directory``, and keep further ones there.

    Each plan has a file of its own, so that runs of two plans never write over each other.

    Raises `ConfigError` when a file cannot be read: without it, an institution's ledger that was
    set back would go unnoticed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    known = map(_read_adverts, sorted(directory.glob(f"{ADVERTS}*.json")))
    path = directory / f"{ADVERTS}{plan_hash}.json"
    return Adverts(*known, save=partial(_write_adverts, path))


def _read_adverts(path: Path) -> Known:
    try:
        found = json.loads(path.read_bytes())
        return {key: LastAdvert.from_bytes(bytes.fromhex(data)) for key, data in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, ProtocolError) as error:
        raise ConfigError(
            f"{path}: no adverts can be read here: restore it, or remove it and have every"
            " institution verify its ledger"
        ) from error


def _write_adverts(path: Path, known: Known) -> None:
    data = {key: last.to_bytes().hex() for key, last in sorted(known.items())}
    write_atomically(path, json.dumps(data, indent=1).encode())
