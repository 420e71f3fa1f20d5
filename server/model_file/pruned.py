"""What was pruned, and what it did to quality, to calibration and to groups."""

import numpy as np

from common.facts import pruning_of
from common.layout import Layout
from common.plan import Plan
from common.pruning.masks import Mask
from common.segments import VALIDATION
from server.model_file.agreed import Values
from server.model_file.found import (
    METRIC_HEADS,
    auc_of,
    cell,
    last_groups,
    last_metric,
    part_of_both,
)
from server.model_file.records import Records
from server.model_file.shapes import Cell, Grid
from server.report.files import Cells, RunFiles, numbers
from server.report.quality import RIVALS, TITLES
from server.tables import LATENCY, METRICS


def pruning(records: Records) -> Values:
    """Tell what went, and what it cost."""
    run = records.run
    sparsity, kept = run.column("sparsity"), run.column("weights_kept")
    return {
        "planned": pruning_of(run.plan.pruning),
        "sparsity": float(sparsity[-1]) if sparsity.size else None,
        "kept": int(kept[-1]) if kept.size else None,
        "layers": None if run.model is None else _layers(run.model.layout, run.model.mask),
        "unread": None
        if run.model is None
        else _unread(run.plan, run.model.layout, run.model.mask) or "none",
        "forms": _forms(run),
        "rivals": _rivals(run),
        "steps": _steps(run),
        "group_steps": _group_steps(run),
        "dense": None if records.dense is None else _beside(run, records.dense),
    }


def _layers(layout: Layout, mask: Mask) -> Grid:
    rows = []
    for entry in layout.entries:
        held = mask[entry.span]
        rows.append((entry.name, int(held.size), int(held.sum()), float(1 - held.mean())))
    return Grid(columns=("tensor", "weights", "kept", "share gone"), rows=tuple(rows))


def _unread(plan: Plan, layout: Layout, mask: Mask) -> tuple[str, ...]:
    """Return inputs that neither a neuron nor the skip reads; a logistic model has but the skip."""
    read = np.zeros(plan.schema_.width, np.int64)
    for name, held in layout.split(mask).items():
        if name in ("hidden.0.weight", "linear.weight"):
            read += held.astype(bool).sum(axis=0)
    return tuple(
        name for name, count in zip(plan.schema_.feature_names, read, strict=True) if not count
    )


def _forms(run: RunFiles) -> Grid | None:
    fields = ("weights", "neurons", "flops_per_record", "bytes_stored")
    rows: list[tuple[Cell, ...]] = []
    for form, found in run.shrinkage.items():
        took = found.get(LATENCY, {})
        rows.append((form, *(found.get(field) for field in fields), took.get("256")))
    heads = ("form", "weights", "neurons", "operations a record", "bytes", "ms for 256 records")
    return Grid(columns=heads, rows=tuple(rows)) if rows else None


def _rivals(run: RunFiles) -> Grid | None:
    """Return the exact figures of a simulation beside those of what it trained alike."""
    summary = run.summary
    if not any(f"auc_{name}" in summary for name in RIVALS):
        return None
    ends = {"pruned": "", **{name: f"_{name}" for name in RIVALS if f"auc_{name}" in summary}}
    rows = tuple(
        (
            name,
            *(summary.get(f"{metric}{end}") for metric in ("auc", "pr_auc", "ks")),
            summary.get(f"weights{end}" if end else "weights_kept"),
        )
        for name, end in ends.items()
    )
    heads = ("model, exact on test rows", "ROC-AUC", "PR-AUC", "KS", "weights")
    return Grid(columns=heads, rows=rows)


def _steps(run: RunFiles) -> Grid | None:
    known = np.flatnonzero(np.isfinite(run.column(f"auc_{VALIDATION}")))
    if not known.size:
        return None
    columns = [run.number, run.column("sparsity")]
    columns += [run.column(f"{name}_{VALIDATION}{end}") for name in METRICS for end in ("", "_sd")]
    rows = tuple(
        (str(int(run.number[at])), *(cell(column[at]) for column in columns[1:])) for at in known
    )
    heads = ("round", "share gone", *METRIC_HEADS)
    return Grid(columns=heads, rows=rows)


def _group_steps(run: RunFiles) -> Grid | None:
    seen = [row for row in run.groups if row["part"] == VALIDATION and row["auc"]]
    if not seen:
        return None
    first, last = (pick(int(row["round"]) for row in seen) for pick in (min, max))
    if first == last:
        return None
    named: dict[str, dict[int, Cells]] = {}
    for row in seen:
        named.setdefault(row["group"], {})[int(row["round"])] = row
    rows = tuple(
        (name, *before, *after, _less(after[0], before[0]))
        for name, by in named.items()
        for before, after in [(_pair(by.get(first)), _pair(by.get(last)))]
    )
    rounds = (head for at in (first, last) for head in (f"round {at}", f"round {at}, sd"))
    heads = ("group", *rounds, "difference")
    return Grid(columns=heads, rows=rows)


def _beside(run: RunFiles, dense: RunFiles) -> Grid:
    """Return quality, calibration and groups of the run and of one that pruned nothing."""
    part = part_of_both(run, dense)
    rows: list[tuple[Cell, ...]] = []
    for name, title in TITLES.items():
        pairs = [last_metric(one, name, part) for one in (dense, run)]
        rows.append((title, *pairs[0], *pairs[1], _less(pairs[1][0], pairs[0][0])))
    before = {row["group"]: row for row in last_groups(dense, part) if row["auc"]}
    for row in last_groups(run, part):
        if row["auc"] and row["group"] in before:
            for name in ("auc", "calibration"):
                old, new = (
                    (cell(numbers([one], name)[0]), cell(numbers([one], f"{name}_sd")[0]))
                    for one in (before[row["group"]], row)
                )
                rows.append((f"{TITLES[name]}, {row['group']}", *old, *new, _less(new[0], old[0])))
    each = (head for model in ("unpruned", "pruned") for head in (model, f"{model}, sd"))
    heads = (f"figure, {part} rows", *each, "difference")
    return Grid(columns=heads, rows=tuple(rows))


def _less(new: float | None, old: float | None) -> float | None:
    return None if new is None or old is None else new - old


def _pair(row: Cells | None) -> tuple[float | None, float | None]:
    return (None, None) if row is None else (auc_of(row), auc_of(row, "_sd"))
