"""The quality guard: a fall counts only beyond what the plan tolerates and noise explains."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot

from server.evaluation import CONFIDENCE, Estimate
from server.groups import worst


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The group or pool that fares worst under a ``floor`` of ROC-AUC."""

    group: str
    roc_auc: float
    sd: float
    floor: float

    @property
    def smallest_detectable(self) -> float:
        """How far below the floor the group must be to be told from noise."""
        return CONFIDENCE * self.sd

    @property
    def below(self) -> bool:
        """Whether the group is below the floor by more than noise explains."""
        return self.floor - self.roc_auc > self.smallest_detectable

    def __str__(self) -> str:
        """Say who, how well, and what could have been told."""
        return (
            f"worst group {self.group}: ROC-AUC {self.roc_auc:.4f}, sd {self.sd:.4f},"
            f" {'below' if self.below else 'holds'} the floor {self.floor:.4f}; smallest detectable"
            f" shortfall {self.smallest_detectable:.4f}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """``fall`` of ROC-AUC, and the smallest one that could have been told from noise.

    ``worst`` stands for all groups and pools where the plan has a floor for them.
    """

    fall: float
    smallest_detectable: float
    worst: Shortfall | None = None

    @property
    def fell(self) -> bool:
        """Whether quality fell by more than is tolerated, over all or below the floor of any group.

        Never on a metric that is NaN.
        """
        return self._fell or (self.worst is not None and self.worst.below)

    @property
    def _fell(self) -> bool:
        return self.fall > self.smallest_detectable

    def __str__(self) -> str:
        """Say all numbers in a line."""
        said = (
            f"ROC-AUC {'fell' if self._fell else 'holds'}: {0 - self.fall:+.4f};"
            f" smallest detectable fall {self.smallest_detectable:.4f}"
        )
        return said if self.worst is None else f"{said}; {self.worst}"


def guard(
    before: Estimate, after: Estimate, tolerance: float, worst_group: Shortfall | None = None
) -> Verdict:
    """Compare two evaluations; noise in them is independent, and only it is allowed for.

    ``tolerance`` is the fall of ROC-AUC that a federation accepts, in [0, 1].
    """
    noise = hypot(before.sd.roc_auc, after.sd.roc_auc)
    fall = before.value.roc_auc - after.value.roc_auc
    return Verdict(fall, tolerance + CONFIDENCE * noise, worst_group)


def shortfall(groups: Mapping[str, Estimate], floor: float | None) -> Shortfall | None:
    """Return how the worst group stands to the floor; None without a floor or a known group.

    Who fares worst (`worst`) is below the floor if any group is.
    """
    name = worst(groups)
    if floor is None or name is None:
        return None
    seen = groups[name]
    return Shortfall(name, seen.value.roc_auc, seen.sd.roc_auc, floor)
