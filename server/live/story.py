"""A run as its files tell it: a pure fold over the lines of its journal and tables.

What it holds is bounded by the number of institutions and groups, however long the run is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

MOST_POINTS: Final = 2048
"""Of the curves; a longer run keeps every second one, then every fourth, and so on."""

MOST_GROUPS: Final = 200

CURVES: Final = (
    "round",
    "survivors",
    "sparsity",
    "auc_validation",
    "auc_validation_sd",
    "bytes_up",
    "bytes_down",
    "seconds",
)
"""Columns of ``rounds.csv`` that are drawn."""

_AUC: Final = CURVES.index("auc_validation")

Point = tuple[float | None, ...]
"""A round in the order of `CURVES`; None where a metric was not released."""

Stage = Literal["waiting", "began", "tried", "opening", "kept", "finished", "interrupted"]
"""The journal's last line; ``waiting`` before it, ``interrupted`` by a simulation's summary."""


class Noted(BaseModel):
    """A line of the journal, as far as it is shown; `server.record` has the whole."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event: Literal["began", "tried", "opening", "kept", "finished"]
    run: str = ""
    round: int = 0
    epoch: int = 0
    survivors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """An institution's part in a run: in how many sums it is, and the last of these rounds."""

    rounds: int = 0
    last: int = -1


@dataclass(frozen=True, slots=True)
class Group:
    """The latest ROC-AUC of a group or pool, with the deviation of the noise in it."""

    round: int
    part: str
    group: str
    auc: float | None
    sd: float | None


@dataclass(frozen=True, slots=True)
class Story:
    """A run so far: ``over`` rounds are in the journal, ``rows`` of them in the table.

    ``stride`` says how many rounds a point of the curves stands for, ``latest`` is the last row.
    """

    run: str = ""
    stage: Stage = "waiting"
    round: int = 0
    epoch: int = 0
    over: int = 0
    parts: Mapping[str, Part] = field(default_factory=dict)
    rows: int = 0
    stride: int = 1
    points: tuple[Point, ...] = ()
    latest: Mapping[str, float | None] = field(default_factory=dict)
    evaluated: Mapping[str, float | None] = field(default_factory=dict)
    groups: Mapping[tuple[str, str], Group] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)


def noted(story: Story, event: Noted) -> Story:
    """Return the story after a line of the journal."""
    match event.event:
        case "began":
            return replace(story, run=event.run, stage="began")
        case "kept":
            parts = dict(story.parts)
            for name in event.survivors:
                parts[name] = Part(parts.get(name, Part()).rounds + 1, event.round)
            return replace(story, stage="kept", round=event.round, over=story.over + 1, parts=parts)
        case "finished":
            return replace(story, stage="finished")
        case stage:
            return replace(story, stage=stage, round=event.round, epoch=event.epoch)


def tabled(story: Story, row: Mapping[str, str]) -> Story:
    """Return the story after a row of ``rounds.csv``.

    Raises:
        ValueError: a cell that must hold a number does not.
    """
    point = tuple(_number(row.get(name, "")) for name in CURVES)
    latest = dict(zip(CURVES, point, strict=True))
    if latest["round"] is None:
        raise ValueError("a row without its round")
    points, stride = story.points, story.stride
    if story.rows % stride == 0 or point[_AUC] is not None:
        points += (point,)
    if len(points) > MOST_POINTS:
        stride *= 2
        points = _thinned(points)
    return replace(
        story,
        rows=story.rows + 1,
        stride=stride,
        points=points,
        latest=latest,
        evaluated=story.evaluated if point[_AUC] is None else latest,
    )


def counted_apart(story: Story, row: Mapping[str, str]) -> Story:
    """Return the story after a row of ``groups.csv``; raise as `tabled`."""
    key = row.get("part", ""), row.get("group", "")
    if key not in story.groups and len(story.groups) >= MOST_GROUPS:
        return story
    auc, sd = _number(row.get("auc", "")), _number(row.get("auc_sd", ""))
    group = Group(int(row.get("round", "")), *key, auc, sd)
    return replace(story, groups={**story.groups, key: group})


def summed_up(story: Story, summary: Mapping[str, Any]) -> Story:
    """Return the story after a simulation's ``summary.json``, which ends it."""
    shown = {
        name: float(number)
        for name in ("auc", "auc_dense", "auc_logistic", "auc_private", "auc_private_sd")
        if isinstance(number := summary.get(name), int | float)
    }
    stage: Stage = "interrupted" if summary.get("interrupted") is True else "finished"
    return replace(story, stage=stage, test=shown)


def _thinned(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Return about half of the points; those with a metric stay unless they are the most."""
    kept = tuple(
        point for place, point in enumerate(points) if place % 2 == 0 or point[_AUC] is not None
    )
    return kept if len(kept) <= MOST_POINTS * 3 // 4 else points[::2]


def _number(cell: str) -> float | None:
    """Return a cell's number, None for an empty one; raise ValueError for anything else."""
    if not cell:
        return None
    number = float(cell)
    if not isfinite(number):
        raise ValueError("a number that is not finite")
    return number
