"""A released model on an institution's own labelled rows. Nothing of it leaves the machine.

So it costs no privacy, however often it is done. What is said afterwards, yes or no, is decided by
a person and stands outside every epsilon.
"""

from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from client.config import load_config
from client.counting import group_rows
from client.data import Examples, load_table, prepare
from client.scorer import open_scorer
from common.encoding import Features, Floats, encode, read_labels
from common.errors import DataError
from common.plan import Plan
from common.release.kept import Kept

Figures = dict[str, float]
"""Metrics by the names that the manifest has for them, and the number of rows."""

LEAST = 20
"""Rows of a group that are looked at apart."""

DECILES = 10


def validate(release: Kept, home: Path, data: Path | None) -> dict[str, Figures]:
    """Return the figures of a release on own rows, of all of them and of each protected group.

    They are the test rows of the table in ``client.toml``, which trained nothing, or all rows of
    the table ``data``, which should be newer than the run.

    Raises:
        AlteredModelError: a file of the release is not the one that was signed for.
        DataError: the table does not fit, or has rows of one class alone.
    """
    scorer = open_scorer(release.require_files(), release.folder.path)
    plan = scorer.plan
    rows, source = _rows(plan, home, data)
    if len(np.unique(rows.labels)) < 2:
        raise DataError(f"{source}: {len(rows)} rows of one class: bring rows of both")
    predicted = scorer.predict(rows.features)
    found = {"all rows": figures(predicted.logits, rows.labels)}
    for group, held in group_rows(plan, rows).items():
        if held.sum() >= LEAST and len(np.unique(rows.labels[held])) == 2:
            found[group] = figures(predicted.logits[held], rows.labels[held])
    return found


def figures(logits: Features, labels: Features) -> Figures:
    """Return exact metrics of the logits [n] of rows with labels [n]; calibration by deciles."""
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    alarms, hits, _ = roc_curve(labels, scores)
    return {
        "rows": float(len(labels)),
        "auc": float(roc_auc_score(labels, scores)),
        "pr_auc": float(average_precision_score(labels, scores)),
        "ks": float(np.abs(hits - alarms).max()),
        "brier": float(brier_score_loss(labels, scores)),
        "calibration": _calibration(scores, labels),
    }


def _calibration(scores: Floats, labels: Features) -> float:
    """Return the mean distance of a decile's mean score from its share of positives."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, DECILES) if len(part)]
    gaps = [len(part) * abs(scores[part].mean() - labels[part].mean()) for part in parts]
    return float(sum(gaps) / len(scores))


def _rows(plan: Plan, home: Path, data: Path | None) -> tuple[Examples, str]:
    if data is None:
        table = load_table(load_config(home / "client.toml").data, plan.schema_)
        return prepare(table, plan.schema_, plan.customer_cap).test, table.source
    table = load_table(data, plan.schema_)
    frame, schema = table.frame, plan.schema_
    protected = frame[list(schema.protected)].reset_index(drop=True)
    return Examples(encode(frame, schema), read_labels(frame, schema), protected), table.source
