"""How good the model is: its headline, as rounds went, at each sparsity, for each group."""

from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np

from common.segments import POOL, TEST, VALIDATION, evaluation_rounds
from server.evaluation import CONFIDENCE
from server.report.files import RunFiles, numbers
from server.report.shapes import Array, Bars, Chart, Figure, Section, Series, Table
from server.report.spread import WITHIN, Curve, Curves, curves
from server.tables import METRICS

TITLES = {
    "auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "ks": "KS",
    "brier": "Brier score",
    "calibration": "Calibration error",
}
RIVALS = {"dense": "--", "logistic": ":"}
"""What a simulation trains beside the pruned model, and how it is drawn."""

NOISE_BARS = (
    f"Bars are {CONFIDENCE:g} standard deviations of the noise that protects the counted rows;"
    " without bars the counts are exact."
)
NO_RIVALS = (
    "A dense model and a logistic regression: nobody trained them beside this run."
    " fedprune-sim compare does, under the same budget."
)
NO_COUNTS = "Noised counts by score: no evaluation was finished, or a release wrote none."


def shown(number: float | None, digits: int = 4) -> str:
    """Return a number for a cell; nothing where it is not known."""
    return "" if number is None or not isfinite(number) else f"{number:,.{digits}f}"


def with_sd(value: float, sd: float, digits: int = 4) -> str:
    """Return a value and the standard deviation that noise alone gives it."""
    if not isfinite(value):
        return ""
    return f"{value:.{digits}f}" + (f" ± {sd:.{digits}f}" if isfinite(sd) and sd else "")


def standings(run: RunFiles) -> Table:
    """Return the pruned model beside its rivals, and what the server's counts say of it."""
    heads = ("model", "ROC-AUC", "PR-AUC", "KS", "weights")
    rows = []
    summary = run.summary
    names = {"": "pruned, exact on test rows", **{f"_{name}": f"{name}, exact" for name in RIVALS}}
    for end, name in names.items():
        if f"auc{end}" in summary:
            figures = [shown(summary.get(f"{metric}{end}")) for metric in ("auc", "pr_auc", "ks")]
            weights = summary.get("weights_kept" if not end else f"weights{end}")
            rows.append((name, *figures, shown(weights, 0)))
    for part in (TEST, VALIDATION):
        seen = np.flatnonzero(np.isfinite(_metric(run, "auc", part)))
        if seen.size:
            place = int(seen[-1])
            figures = [
                with_sd(_metric(run, one, part)[place], _metric(run, one, part, "_sd")[place])
                for one in ("auc", "pr_auc", "ks")
            ]
            told = f"pruned, {part} counts of round {run.number[place]:.0f}"
            rows.append((told, *figures, shown(run.column("weights_kept")[place], 0)))
    return Table("The model beside what it is held against", heads, tuple(rows))


def by_round(run: RunFiles) -> Section:
    """Return the curves by round."""
    figures = [chart for metric in METRICS if (chart := _by_round(run, metric)) is not None]
    missing = () if figures else (NO_COUNTS,)
    words = (
        "Each point is the model that so many rounds have trained, scored by every institution on"
        " rows it held out, and seen in the noised sum of all counts alone.",
    )
    return Section("Quality by round", words, figures=tuple(figures), missing=missing)


def against_sparsity(run: RunFiles) -> Section:
    """Return ROC-AUC against the share of weights gone."""
    auc, sd = _metric(run, "auc", VALIDATION), _metric(run, "auc", VALIDATION, "_sd")
    known = np.isfinite(auc)
    gone = 100 * run.column("sparsity")
    figures: list[Figure] = []
    if known.any():
        rows = tuple(
            (f"{number:.0f}", f"{share:.1f} %", with_sd(value, spread))
            for number, share, value, spread in zip(
                run.number[known], gone[known], auc[known], sd[known], strict=True
            )
        )
        table = Table("ROC-AUC at each sparsity", ("round", "pruned", "ROC-AUC"), rows)
        points = replace(
            _points("pruned, validation counts", gone[known], auc[known], sd[known]), dash=""
        )
        told = "; ".join(f"{value} with {share} pruned" for _, share, value in rows)
        title = "ROC-AUC against sparsity"
        figures.append(
            Chart(
                title,
                "The run's own models, from the first evaluated to the last. Early ones are less"
                f" trained, too. {NOISE_BARS}{_without(run, 'auc', VALIDATION)}",
                f"{title}: {told}.",
                "weights pruned, %",
                "ROC-AUC",
                (points, *_rivals(run, "auc")),
                table,
                share=True,
            )
        )
    figures.append(_sparsity(run, gone))
    return Section("Pruning as it went", figures=tuple(figures))


def probabilities(run: RunFiles) -> Section:
    """Return calibration, ROC and PR curves from the last noised counts."""
    counted = run.last_counted(TEST) or run.last_counted(VALIDATION)
    drawn = None if counted is None else curves(counted.counts, counted.noise)
    title = "Calibration, ROC and precision"
    if counted is None or drawn is None:
        return Section(title, missing=(NO_COUNTS,))
    source = f"{counted.part} counts of round {counted.round}"
    band = (
        f"The band holds {WITHIN:.0%} of 200 draws of the same noise on the likely counts"
        " (parametric bootstrap); how few rows there are is not in it."
        if counted.noise
        else "The counts are exact."
    )
    words = (
        f"From the {source}, noise of standard deviation {counted.noise:,.1f} rows on each count,"
        " after the counts were made ones that could be: none below zero, more positives where"
        " scores rise.",
    )
    return Section(title, words, figures=_probabilities(drawn, source, band))


def by_group(run: RunFiles) -> Section:
    """Return how the model serves each protected group and pool."""
    title = "By group and pool"
    parts = [row["part"] for row in run.groups if row["auc"]]
    if not run.groups:
        planned = run.plan.evaluation.groups or run.plan.evaluation.pools
        told = "no evaluation was finished" if planned else "the plan counts nobody apart"
        return Section(title, missing=(f"Groups and pools: {told}.",))
    if not parts:
        return Section(title, missing=("Groups and pools: none was looked at so far.",))
    part = TEST if TEST in parts else VALIDATION
    last = max(int(row["round"]) for row in run.groups if row["part"] == part)
    rows = [row for row in run.groups if (row["part"], int(row["round"])) == (part, last)]
    names = [
        f"pool {row['group'].removeprefix(POOL)}" if row["group"].startswith(POOL) else row["group"]
        for row in rows
    ]
    auc, sd = numbers(rows, "auc"), numbers(rows, "auc_sd")
    cells = tuple(
        (
            name,
            *(with_sd(numbers([row], one)[0], numbers([row], one + "_sd")[0]) for one in METRICS),
            shown(numbers([row], "positives")[0], 0),
            shown(numbers([row], "negatives")[0], 0),
        )
        for name, row in zip(names, rows, strict=True)
    )
    heads = ("group", *TITLES.values(), "positives", "negatives")
    table = Table(f"Each group and pool, {part} counts of round {last}", heads, cells)
    known = np.isfinite(auc)
    missing = tuple(
        f"{name}: too few took part, or its counts are all noise."
        for name, there in zip(names, known, strict=True)
        if not there
    )
    whole = run.column(f"auc_{part}")
    overall = whole[np.isfinite(whole)]
    bars = Bars(
        "ROC-AUC of each group and pool",
        f"From {part} counts of round {last}. {NOISE_BARS}",
        "ROC-AUC by group: " + "; ".join(f"{row[0]} {row[1]}" for row in cells if row[1]) + ".",
        "ROC-AUC",
        tuple(name for name, there in zip(names, known, strict=True) if there),
        auc[known],
        table,
        *_bars(auc[known], sd[known]),
        level=("all rows", float(overall[-1])) if overall.size else None,
    )
    return Section(title, figures=(bars,), missing=missing)


def _metric(run: RunFiles, metric: str, part: str, end: str = "") -> Array:
    return run.column(f"{metric}_{part}{end}")


def _bars(value: Array, sd: Array) -> tuple[Array, Array]:
    """Return the ends of the bars of a metric, none where it cannot be: all are in [0, 1]."""
    spread = CONFIDENCE * np.nan_to_num(sd)
    return (
        np.minimum(value, np.maximum(value - spread, 0)),
        np.maximum(value, np.minimum(value + spread, 1)),
    )


def _points(label: str, x: Array, y: Array, sd: Array, colour: int = 0) -> Series:
    low, high = _bars(y, sd) if np.nan_to_num(sd).any() else (None, None)
    return Series(label, x, y, low, high, "points", colour)


def _without(run: RunFiles, metric: str, part: str) -> str:
    """Return a note of the rounds that were counted, and have no figure all the same."""
    due = evaluation_rounds(run.plan) if part == VALIDATION else (run.plan.training.rounds,)
    counted = np.isin(run.number, due) & (run.column("survivors") > 0)
    gone = [f"{at:.0f}" for at in run.number[counted & ~np.isfinite(_metric(run, metric, part))]]
    if not gone:
        return ""
    *first, last = gone
    named = f"rounds {', '.join(first)} and {last}" if first else f"round {last}"
    return f" No point at {named}: the noise on the {part} counts left no figure."


def _rivals(run: RunFiles, metric: str) -> list[Series]:
    """Return the exact levels of what a simulation trained beside the run."""
    found: list[tuple[str, Any, str]] = [
        (name, run.summary.get(f"{metric}_{name}"), dash) for name, dash in RIVALS.items()
    ]
    return [
        Series(f"{name}, exact", np.zeros(1), np.array([value]), kind="level", colour=None, dash=d)
        for name, value, d in found
        if value is not None
    ]


def _by_round(run: RunFiles, metric: str) -> Chart | None:
    series, rows, told = list[Series](), list[tuple[str, ...]](), list[str]()
    without = ""
    title = f"{TITLES[metric]} by round"
    for colour, part in enumerate((VALIDATION, TEST)):
        value, sd = _metric(run, metric, part), _metric(run, metric, part, "_sd")
        known = np.isfinite(value)
        if not known.any():
            continue
        series.append(_points(f"{part} counts", run.number[known], value[known], sd[known], colour))
        cells = [
            (f"{number:.0f}", part, with_sd(one, spread))
            for number, one, spread in zip(run.number[known], value[known], sd[known], strict=True)
        ]
        rows += cells
        told.append(f"{part} from {cells[0][2]} to {cells[-1][2]}")
        without += _without(run, metric, part)
    if not series:
        return None
    if (exact := run.summary.get(metric)) is not None:
        at = float(run.number.max())
        series.append(
            Series("test, exact", np.array([at]), np.array([exact]), kind="mark", colour=5)
        )
        rows.append((f"{at:.0f}", "test, exact", shown(exact)))
        told.append(f"exact on test rows {exact:.4f}")
    rivals = _rivals(run, metric)
    rows += [("end", one.label, shown(float(one.y[0]))) for one in rivals]
    told += [f"{one.label} {one.y[0]:.4f}" for one in rivals]
    return Chart(
        title,
        NOISE_BARS + without,
        f"{title}: {'; '.join(told)}.",
        "round",
        TITLES[metric],
        (*series, *rivals),
        Table(title, ("round", "of", TITLES[metric]), tuple(rows)),
        whole=True,
        share=True,
    )


def _sparsity(run: RunFiles, gone: Array) -> Chart:
    kept = run.column("weights_kept")
    rows = tuple(
        (f"{number:.0f}", f"{share:.1f} %", f"{weights:,.0f}")
        for number, share, weights in zip(run.number, gone, kept, strict=True)
    )
    title = "Sparsity by round"
    told = f"from {rows[0][1]} to {rows[-1][1]}" if rows else "no round is finished"
    return Chart(
        title,
        "Of the model that a round begins with.",
        f"{title}: {told} of the weights pruned.",
        "round",
        "weights pruned, %",
        (Series("pruned", run.number, gone, kind="step", colour=1),),
        Table(title, ("round", "pruned", "weights kept"), rows),
        y_limits=(-2, 102),
        whole=True,
    )


def _probabilities(drawn: Curves, source: str, band: str) -> tuple[Figure, ...]:
    calibration, roc, pr = drawn.calibration, drawn.roc, drawn.pr
    diagonal = Series("chance", np.array([0.0, 1]), np.array([0.0, 1]), colour=None, dash="--")
    ideal = Series(
        "as good as said", np.array([0.0, 1]), np.array([0.0, 1]), colour=None, dash="--"
    )
    level = Series(
        "share of positives", np.zeros(1), np.array([drawn.prevalence]), None, None, "level", None
    )
    unit = (-0.02, 1.02)
    return (
        Chart(
            "Calibration",
            f"Share of positives in each bin of the score. {band}",
            f"Calibration from the {source}: {_some(calibration, 'said', 'found')}.",
            "score",
            "share of positives",
            (_drawn("pruned", calibration), ideal),
            _table("Calibration", ("score", "positives", "band"), calibration, drawn.rows),
            unit,
            unit,
        ),
        Chart(
            "ROC curve",
            f"Positives found by share of false alarms. {band}",
            f"ROC curve from the {source}: {_some(roc, 'false alarms', 'found')}.",
            "false alarms",
            "positives found",
            (_drawn("pruned", roc), diagonal),
            _table("ROC curve", ("false alarms", "found", "band"), roc),
            unit,
            unit,
        ),
        Chart(
            "Precision and recall",
            f"Share of positives among those flagged. {band}",
            f"Precision from the {source}: {_some(pr, 'found', 'precision')}.",
            "positives found",
            "precision",
            (_drawn("pruned", pr), level),
            _table("Precision and recall", ("found", "precision", "band"), pr),
            unit,
            unit,
        ),
    )


def _drawn(label: str, curve: Curve) -> Series:
    return Series(label, curve.x, curve.y, curve.low, curve.high)


def _some(curve: Curve, x: str, y: str) -> str:
    """Tell a few points of a curve."""
    places = np.unique(np.linspace(0, len(curve.x) - 1, 6).round().astype(int))
    return "; ".join(f"{x} {curve.x[at]:.2f}, {y} {curve.y[at]:.2f}" for at in places)


def _table(title: str, heads: tuple[str, ...], curve: Curve, rows: Array | None = None) -> Table:
    cells = [
        (f"{x:.3f}", shown(y, 3), f"{shown(low, 3)} to {shown(high, 3)}")
        for x, y, low, high in zip(curve.x, curve.y, curve.low, curve.high, strict=True)
    ]
    if rows is None:
        return Table(title, heads, tuple(cells))
    counted = [(*row, shown(count, 0)) for row, count in zip(cells, rows, strict=True)]
    return Table(title, (*heads, "rows, likely"), tuple(counted))
