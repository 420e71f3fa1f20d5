"""The tables of a run: their files, and what their columns are called.

Apart from what fills them, so that they can be read without the seconds that torch takes.
"""

from common.segments import TEST, VALIDATION

METRICS = {
    "auc": "roc_auc",
    "pr_auc": "pr_auc",
    "ks": "ks",
    "brier": "brier",
    "calibration": "calibration",
}
"""Columns of a released histogram, and what they show of it."""

ROUNDS, GROUPS, COUNTS_TABLE = "rounds.csv", "groups.csv", "counts.csv"
"""What each round was; what its evaluation tells of each group and pool; the noised counts."""

STAGES = ("advertise", "update", "sign", "unmask")
"""A round's trips, in their order; a steady round has two of them."""

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
    *(
        f"{metric}_{part}{end}"
        for part in (VALIDATION, TEST)
        for metric in METRICS
        for end in ("", "_sd")
        if (metric, end) != ("auc", "")
    ),
    *(f"seconds_{stage}" for stage in STAGES),
)
"""A metric's standard deviation is that of the noise on the counts it was computed from."""

GROUP_COLUMNS = (
    "round",
    "part",
    "group",
    *(metric + end for metric in METRICS for end in ("", "_sd")),
    "positives",
    "negatives",
)
"""Of ``groups.csv``, which plans with groups or pools have; the counts are noised ones."""

COUNT_COLUMNS = ("round", "part", "group", "noise", "bin", "negatives", "positives")
"""Of ``counts.csv``: a row a bin of the score, from the lowest up, as the sums were opened.

``group`` is empty for all rows of a part; ``noise`` is the standard deviation on each count.
"""

COLUMNS_OF = {ROUNDS: COLUMNS, COUNTS_TABLE: COUNT_COLUMNS, GROUPS: GROUP_COLUMNS}

SHRINKAGE, LATENCY = "shrinkage.json", "latency_ms"
"""What shrank, and the one figure in it that is measured, not counted: by number of records."""

FACTS = "facts.json"
"""What the finished rounds have spent, and the versions that they ran on."""

REPORT = "report.html"
"""What people look at."""

CARD, CARD_FACTS, VALIDATION_PAGE = "model-card.md", "model-card.json", "validation.html"
"""The model file: for people, for machines, for who validates the model."""

MODEL = "model.safetensors"
"""The model so far, in the plan's shapes, with its mask."""
