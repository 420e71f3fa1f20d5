"""Where a model's known limits are, and what to watch it by: both from its own figures."""

from collections.abc import Iterator
from math import hypot

from common.facts import sum_of, warnings_of
from common.plan import RECORD
from common.schema import NumericColumn
from server.evaluation import CONFIDENCE
from server.model_file.agreed import Values
from server.model_file.found import auc_of, last_counts, last_groups, last_metric
from server.model_file.records import Records
from server.model_file.shapes import Grid, shown
from server.model_file.watching import (
    OTHER,
    ROWS,
    SHIFTED,
    auc_sd,
    bands_of,
    falls,
    index_bound,
    rows_for_change,
    rows_for_index,
)
from server.report.files import Cells, numbers
from server.report.story import CUT_SHORT, SIMULATED

NEVER = "no number: the figures here are too uncertain"


def limits(records: Records) -> Values:
    """Tell what the records say of where the model ends."""
    return {"known": tuple(_known(records)), "owner_limits": records.owner.owner_limits}


def monitoring(records: Records) -> Values:
    """Tell what to watch, and what so many rows can show."""
    owner, rows = records.owner, last_groups(records.run)
    gap = owner.thresholds.group_gap
    watched = tuple(
        (row["group"], reach, reach <= gap)
        for row in rows
        if row["auc"]
        for reach in [CONFIDENCE * 2**0.5 * _auc_sd(row)]
    )
    heads = ("group", "smallest fall between two such releases", f"shows a fall of {gap:g}")
    return {
        **_measured(records),
        "watched": Grid(columns=heads, rows=watched) if watched else None,
        "review": owner.review,
        "contact": owner.contact,
    }


def _auc_sd(row: Cells) -> float:
    """Return what noise and the chance of its rows do to a group's ROC-AUC."""
    positives, negatives = numbers([row], "positives")[0], numbers([row], "negatives")[0]
    return hypot(auc_sd(auc_of(row), positives, negatives), auc_of(row, "_sd"))


def _measured(records: Records) -> Values:
    counted = last_counts(records.run)
    if counted is None or not (bands := bands_of(counted)):
        return {}
    whole, enough = sum(band.rows for band in bands), rows_for_index(bands)
    noise_sd = last_metric(records.run, "auc", counted.part)[1] or 0.0
    seen = tuple(falls(counted, noise_sd))
    named = [(f"{one.low:.3f} to {one.high:.3f}", one) for one in bands]
    return {
        "advice": tuple(_advice(records, enough)),
        "reference": Grid(
            columns=("score", "share of rows"),
            rows=tuple((name, band.rows / whole) for name, band in named),
        ),
        "stability_index": Grid(
            columns=("new rows", "chance passes it once in 20", f"tells a shift of {SHIFTED:g}"),
            rows=tuple(
                (shown(rows), bound, bound < SHIFTED)
                for rows in ROWS
                for bound in [index_bound(bands, rows)]
            ),
        ),
        "fall": Grid(
            columns=("labelled rows", "smallest fall"),
            rows=tuple((shown(rows), fall) for rows, fall in seen),
        )
        if seen
        else None,
        "change": Grid(
            columns=("score", "share of positives", "labelled rows in it"),
            rows=tuple((name, band.share, rows_for_change(band) or NEVER) for name, band in named),
        ),
    }


def _advice(records: Records, enough: int | None) -> Iterator[str]:
    plan = records.run.plan
    yield (
        "Before any score: count values outside the declared bounds and codes, which the model"
        " clips or refuses (fedprune-client check TABLE --schema SCHEMA)."
    )
    if enough is None:
        yield (
            "The reference's own noise passes a stability index of"
            f" {SHIFTED:g}: hold scores against an institution's own first months instead."
        )
    else:
        yield (
            f"Each month, or each {enough:,} rows if that is later: the population stability index"
            f" of the scores against the shares below. {SHIFTED:g} is by custom a shift, {OTHER:g}"
            f" another population; with fewer rows chance alone passes {SHIFTED:g}."
        )
    yield (
        "Once outcomes are known: ROC-AUC, and the share of positives in each band, beside what"
        " the tables below say that so many rows can tell."
    )
    if plan.evaluation.noise != "none":
        yield (
            "Figures over all institutions cost the held-out rows' budget anew (epsilon"
            f" {plan.evaluation.epsilon:g} a plan): ask for them with the next training, not each"
            " month."
        )
    yield (
        "An institution differs from the sum of all: what it sees in its first month against these"
        " figures is its own mix of customers, not a drift."
    )


def _known(records: Records) -> Iterator[str]:
    run = records.run
    plan = run.plan
    yield from (f"{one[0].upper()}{one[1:]}." for one in warnings_of(plan))
    if run.simulated:
        yield SIMULATED
    if run.finished < plan.training.rounds:
        yield CUT_SHORT
    yield (
        "It tells who resembles whom in the columns of its schema; it says nothing of causes, nor"
        " of applicants unlike those that institutions have on their books."
    )
    clipped = [
        column.name
        for column in plan.schema_.inputs
        if isinstance(column, NumericColumn) and column.outside == "clip"
    ]
    if clipped:
        yield (
            f"Beyond the declared bounds {len(clipped)} of its numbers are clipped: two customers"
            " beyond one have the same value."
        )
    yield from _measured_limits(records)
    if plan.privacy.epsilon != "none":
        unit = "a record" if plan.privacy.unit == RECORD else "a customer"
        yield f"The guarantee is for {unit} of one institution: {sum_of(plan)}."
    yield (
        "How well it serves a single institution, only that institution can tell"
        " (fedprune-client validate)."
    )
    if records.study is None:
        yield "One seed was run, as far as these records tell: how far others differ is not known."
    if plan.pruning.guard == "step_back":
        yield (
            "Its guard may return to an earlier model after the last evaluation; the figures here"
            " are then those of the model that was given up."
        )


def _measured_limits(records: Records) -> Iterator[str]:
    counted = last_counts(records.run)
    if counted is None:
        yield "No evaluation was finished: nothing is known of its quality."
        return
    sd = last_metric(records.run, "auc", counted.part)[1]
    if sd:
        yield (
            f"Noise alone moves its ROC-AUC by {CONFIDENCE * sd:.4f} either way: smaller"
            " differences to another model mean nothing."
        )
    rows = last_groups(records.run)
    if not rows:
        yield "No group was counted apart: whom it serves worse, nobody looked at."
    lost = [row["group"] for row in rows if not row["auc"]]
    if lost:
        names = ", ".join(lost)
        yield f"Nothing is known of {names}: too few rows for the noise, or too few members."
