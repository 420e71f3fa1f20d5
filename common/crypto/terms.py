"""How many must survive, and how many colluders that withstands.

With n institutions dealt to, threshold t and c colluders, two openings of one round need t
bearers each; an honest one bears for one of them only, so both exist only if 2t <= n + c. A sum
over fewer than c + 2 is refused, so that with c > n - 2 no round could ever run.
"""

from dataclasses import dataclass

from common.crypto.refusals import ColludersError, ThresholdError


def default_threshold(dealt_to: int) -> int:
    """Return floor(2n/3) + 1: it withstands a third of the institutions as colluders."""
    return 2 * dealt_to // 3 + 1


def withstood(threshold: int, dealt_to: int) -> int:
    """Return the most colluders that a threshold withstands and that leave a sum to open."""
    return min(2 * threshold - dealt_to - 1, dealt_to - 2)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an institution insists on: the approved threshold and the colluders to withstand."""

    threshold: int
    colluders: int

    @property
    def least(self) -> int:
        """Fewest survivors of a sum: beside the colluders, two others must hide each other."""
        return max(self.threshold, self.colluders + 2)

    def require(self, dealt_to: int) -> None:
        """Return if these terms are safe among ``dealt_to`` institutions.

        Raises:
            ThresholdError: the threshold cannot be met, or two halves could meet it.
            ColludersError: with so many colluders two sets could meet it, or none.
        """
        if not 2 <= self.threshold <= dealt_to or 2 * self.threshold <= dealt_to:
            raise ThresholdError(
                f"threshold {self.threshold} of {dealt_to} institutions is out of range:"
                f" set it from {max(2, dealt_to // 2 + 1)} to {dealt_to}"
            )
        if not 0 <= self.colluders <= (most := withstood(self.threshold, dealt_to)):
            raise ColludersError(
                f"{self.colluders} colluders are more than the {most} that threshold"
                f" {self.threshold} of {dealt_to} withstands: allow for fewer"
            )
