"""What a run found of its model's quality, for each group, and over seeds."""

from math import isfinite

import numpy as np

from common.segments import TEST, VALIDATION
from server.evaluation import CONFIDENCE, bin_scores
from server.model_file.agreed import Values
from server.model_file.records import Records
from server.model_file.shapes import Cell, Grid
from server.model_file.watching import bands_of, mean_score
from server.report.files import Cells, Counted, RunFiles, numbers
from server.report.quality import TITLES
from server.tables import METRICS

METRIC_HEADS = tuple(head for title in TITLES.values() for head in (title, f"{title}, sd"))
"""Columns of `METRICS`, each with what noise alone does to it."""


def last_counts(run: RunFiles) -> Counted | None:
    """Return the counts that tell most of the last model: test rows, else validation rows."""
    return run.last_counted(TEST) or run.last_counted(VALIDATION)


def cell(number: float) -> float | None:
    """Return a number for a table; None where it is none."""
    return float(number) if isfinite(number) else None


def performance(records: Records) -> Values:
    """Tell the last model's figures, and its calibration by band."""
    run = records.run
    counted = last_counts(run)
    if counted is None or not (bands := bands_of(counted)):
        return {}
    rows = sum(band.rows for band in bands)
    return {
        "source": f"{counted.part} rows, round {counted.round}",
        "count_noise": counted.noise,
        "metrics": _metrics(run, counted),
        "observed": sum(band.positives for band in bands) / rows,
        "expected": mean_score(counted, bin_scores(len(counted.counts) // 2)),
        "bands": Grid(
            columns=("score", "share of rows", "positives", "sd of noise"),
            rows=tuple(
                (f"{one.low:.3f} to {one.high:.3f}", one.rows / rows, one.share, one.sd)
                for one in bands
            ),
        ),
    }


def groups(records: Records) -> Values:
    """Tell each group's figures, and whose are lost in noise."""
    rows = last_groups(records.run)
    if not rows:
        return {}
    known = [row for row in rows if row["auc"]]
    heads = ("group", *METRIC_HEADS, "positives")
    cells = tuple(
        (
            row["group"],
            *(cell(numbers([row], name + end)[0]) for name in METRICS for end in ("", "_sd")),
            cell(numbers([row], "positives")[0]),
        )
        for row in known
    )
    reach = [auc_of(row) + CONFIDENCE * auc_of(row, "_sd") for row in known]
    least = known[int(np.argmin(reach))] if known else None
    return {
        "counted": tuple(row["group"] for row in rows),
        "figures": Grid(columns=heads, rows=cells) if known else None,
        "worst": None
        if least is None
        else f"{least['group']}: ROC-AUC {auc_of(least):.4f}, sd {auc_of(least, '_sd'):.4f}",
        "unread": tuple(row["group"] for row in rows if not row["auc"]) or "none",
    }


def last_groups(run: RunFiles, part: str = "") -> list[Cells]:
    """Return the rows of the last model's groups in a part; in test rows, if they were counted."""
    parts = [row["part"] for row in run.groups if row["auc"]]
    part = part or (TEST if TEST in parts else VALIDATION)
    mine = [row for row in run.groups if row["part"] == part]
    last = max((int(row["round"]) for row in mine), default=-1)
    return [row for row in mine if int(row["round"]) == last]


def stability(records: Records) -> Values:
    """Tell how figures differ by seed."""
    study = records.study
    if study is None:
        return {}
    rows = [
        (name, *study.spread(name), min(values), max(values))
        for name, values in study.models.items()
    ]
    by_seed = zip(study.seeds, *study.models.values(), strict=True)
    return {
        "seeds": tuple(map(str, study.seeds)),
        "models": Grid(columns=("model", "mean", "sd", "lowest", "highest"), rows=tuple(rows)),
        "by_seed": Grid(
            columns=("seed", *study.models),
            rows=tuple((str(seed), *values) for seed, *values in by_seed),
        ),
    }


def _metrics(run: RunFiles, counted: Counted) -> Grid:
    rows: list[tuple[Cell, ...]] = [
        (title, *last_metric(run, name, counted.part)) for name, title in TITLES.items()
    ]
    rows += [
        (f"{TITLES[name]}, exact on test rows", run.summary[name], None)
        for name in ("auc", "pr_auc", "ks")
        if name in run.summary
    ]
    return Grid(columns=("figure", "value", "sd of noise"), rows=tuple(rows))


def last_metric(run: RunFiles, name: str, part: str = "") -> tuple[float | None, float | None]:
    """Return a metric's last value and what noise alone does to it."""
    for one in (part,) if part else (TEST, VALIDATION):
        value = run.column(f"{name}_{one}")
        known = np.flatnonzero(np.isfinite(value))
        if known.size:
            at = known[-1]
            return cell(value[at]), cell(run.column(f"{name}_{one}_sd")[at])
    return None, None


def part_of_both(run: RunFiles, other: RunFiles) -> str:
    """Return whose ROC-AUC both runs know: test rows, else validation rows."""
    known = all(last_metric(one, "auc", TEST)[0] is not None for one in (run, other))
    return TEST if known else VALIDATION


def auc_of(row: Cells, end: str = "") -> float:
    """Return a group's ROC-AUC, or what noise alone does to it; 0 where there is no cell."""
    return float(np.nan_to_num(numbers([row], f"auc{end}")[0]))
