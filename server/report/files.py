"""A run's directory as it is read: whatever stands there, and nothing that must."""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from common.errors import ConfigError, ProtocolError
from common.layout import Layout, layout_of
from common.plan import Plan, load_plan
from common.pruning.masks import Mask, unpack_mask
from server.journal import JOURNAL
from server.report.shapes import Array
from server.tables import CARD_FACTS, COUNTS_TABLE, FACTS, GROUPS, MODEL, ROUNDS, SHRINKAGE

SUMMARY, PLAN = "summary.json", "plan.toml"

HASHED = ("onnx", "safetensors", "sparse", "toml", "csv", "json", "jsonl")
"""Ends of the files whose hashes a report names, but for the checkpoint, which goes on.

What is told of a run is no part of the run.
"""

WORDS = {"part", "group"}
"""Columns of the tables that hold no numbers."""

Cells = Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """The noised counts [2 * bins] of a part's rows, or of one group's."""

    round: int
    part: str
    group: str
    noise: float
    counts: Array


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The model: flat weights and mask [size]."""

    layout: Layout
    weights: NDArray[np.float32]
    mask: Mask


@dataclass(frozen=True, eq=False)
class RunFiles:
    """What a run left behind; what it did not is empty or None."""

    plan: Plan
    rounds: tuple[Cells, ...]
    groups: tuple[Cells, ...]
    counted: tuple[Counted, ...]
    began: Mapping[str, Any]
    survivors: Mapping[int, tuple[str, ...]]
    summary: Mapping[str, Any]
    shrinkage: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any]
    model: Weights | None
    hashes: Mapping[str, str]

    @property
    def simulated(self) -> bool:
        """Whether a seed drove it all."""
        return "seed" in self.summary

    @cached_property
    def number(self) -> Array:
        """The rounds' numbers."""
        return self.column("round")

    @property
    def finished(self) -> int:
        """How many training rounds are over, lost ones included."""
        return int((self.number < self.plan.training.rounds).sum())

    def column(self, name: str) -> Array:
        """Return a column of ``rounds.csv`` [rounds]; NaN where it has no cell."""
        return numbers(self.rounds, name)

    def last_counted(self, part: str, group: str = "") -> Counted | None:
        """Return the last counts of a part's rows; None where none were released."""
        found = [one for one in self.counted if (one.part, one.group) == (part, group)]
        return found[-1] if found else None


def numbers(rows: Iterable[Cells], name: str) -> Array:
    """Return a column of a table as numbers; NaN where it has no cell."""
    return np.array([float(row.get(name) or nan) for row in rows])


def read_run(directory: Path) -> RunFiles:
    """Read the run in ``directory``.

    Raises `ConfigError` naming the file that is no run's.
    """
    for needed in (PLAN, ROUNDS):
        if not (directory / needed).is_file():
            raise ConfigError(f"{directory}: holds no {needed}: name the directory of a run")
    plan = load_plan(directory / PLAN)
    events = _events(directory / JOURNAL)
    return RunFiles(
        plan=plan,
        rounds=_table(directory / ROUNDS),
        groups=_table(directory / GROUPS),
        counted=_counted(directory / COUNTS_TABLE),
        began=next((one for one in events if one.get("event") == "began"), {}),
        survivors={one["round"]: tuple(one["survivors"]) for one in events if "survivors" in one},
        summary=json_of(directory / SUMMARY),
        shrinkage=json_of(directory / SHRINKAGE),
        facts=json_of(directory / FACTS),
        model=_weights(directory / MODEL, plan),
        hashes={
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.iterdir())
            if path.suffix[1:] in HASHED and path.stem != "checkpoint" and path.name != CARD_FACTS
        },
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Put what is wrong with a run's file into one `ConfigError` line."""
    try:
        yield
    except (ValueError, KeyError, TypeError, SafetensorError, ProtocolError) as error:
        raise ConfigError(
            f"{path}: is not as a run wrote it: restore it, or take it away and have the report"
            " name it as missing"
        ) from error


def _table(path: Path) -> tuple[Cells, ...]:
    if not path.is_file():
        return ()
    with reading(path), path.open(newline="", encoding="utf-8") as file:
        rows = tuple(csv.DictReader(file))
        for row in rows:
            # A row with too many cells has None as a key, one with too few has it as a cell.
            if None in row or None in row.values():
                raise ValueError("a row is cut")
            for name in {"round", *row} - WORDS:
                float(row[name] or nan)
        return rows


def json_of(path: Path) -> dict[str, Any]:
    """Return a file's JSON object; an empty one where there is no file."""
    if not path.is_file():
        return {}
    with reading(path):
        return dict(json.loads(path.read_bytes()))


def _events(path: Path) -> list[dict[str, Any]]:
    """Return the journal's whole lines; the last may still be written."""
    if not path.is_file():
        return []
    with reading(path):
        text = path.read_bytes()
        return [dict(json.loads(line)) for line in text[: text.rfind(b"\n") + 1].splitlines()]


def _counted(path: Path) -> tuple[Counted, ...]:
    by_release: dict[tuple[str, str, str], list[Cells]] = {}
    rows = _table(path)
    with reading(path):
        for row in rows:
            by_release.setdefault((row["round"], row["part"], row["group"]), []).append(row)
        return tuple(
            Counted(
                round=int(number),
                part=part,
                group=group,
                noise=float(rows[0]["noise"]),
                counts=np.concatenate([numbers(rows, "negatives"), numbers(rows, "positives")]),
            )
            for (number, part, group), rows in by_release.items()
        )


def _weights(path: Path, plan: Plan) -> Weights | None:
    if not path.is_file():
        return None
    layout = layout_of(plan.model, plan.schema_.width)
    with reading(path):
        tensors = load(path.read_bytes())
        mask = unpack_mask(tensors["mask"].tobytes(), layout.size)
        flat = [tensors[entry.name].reshape(entry.shape).ravel() for entry in layout.entries]
        return Weights(layout, np.concatenate(flat), mask)
