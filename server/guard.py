"""The quality guard: a fall counts only beyond what the plan tolerates and noise explains."""

from dataclasses import dataclass
from math import hypot

from server.evaluation import Estimate

CONFIDENCE = 2.0
"""Standard deviations of the noise that a fall must exceed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``fall`` of ROC-AUC, and the smallest one that could have been told from noise."""

    fall: float
    smallest_detectable: float

    @property
    def fell(self) -> bool:
        """Whether quality fell by more than is tolerated; never on a metric that is NaN."""
        return self.fall > self.smallest_detectable

    def __str__(self) -> str:
        """Say both numbers in a line."""
        return (
            f"ROC-AUC {'fell' if self.fell else 'holds'}: {-self.fall:+.4f};"
            f" smallest detectable fall {self.smallest_detectable:.4f}"
        )


def guard(before: Estimate, after: Estimate, tolerance: float) -> Verdict:
    """Compare two evaluations; noise in them is independent, and only it is allowed for.

    ``tolerance`` is the fall of ROC-AUC that a federation accepts, in [0, 1].
    """
    noise = hypot(before.sd.roc_auc, after.sd.roc_auc)
    fall = before.value.roc_auc - after.value.roc_auc
    return Verdict(fall, tolerance + CONFIDENCE * noise)
