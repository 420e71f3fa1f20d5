"""How much an institution lets out of one table, whatever its plans say."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import inf
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from client.entries import Release
from client.refusals import OverLimitError
from common.privacy.accounting import COUNTS_ACCOUNTANT, composed_epsilon

YEAR = 365 * 24 * 3600
"""Seconds."""

Epsilon = Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["none"]

Spent = tuple[int, str, str, Release]
"""Time in Unix seconds, plan hash, split, and what was released."""


class Limits(BaseModel):
    """The most a unit may lose: to one plan, within a year, for ever; "none" sets no limit.

    ``accountant`` composes what different runs released. Runs that hide different units, records
    and customers, compose to nothing finite: a customer may have any number of records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: Epsilon = 2.0
    year: Epsilon = 4.0
    ever: Epsilon = 10.0
    accountant: Literal["prv", "rdp"] = "prv"

    def require(self, spent: Sequence[Spent], plan_hash: str, now: int) -> None:
        """Raise `OverLimitError` when ``spent``, the run to come included, passes a limit."""
        for name, window in windows(spent, plan_hash, now).items():
            limit = getattr(self, name)
            if limit == "none":
                continue
            if len(units := units_of(window)) > 1:
                raise OverLimitError(
                    f"runs hide different units of the table ({', '.join(units)}), to which"
                    f" limits.{name} sets no common limit: keep to the unit of its earlier runs, or"
                    ' set the limit to "none"'
                )
            epsilon = table_epsilon(window, self.accountant)
            # Calibration may end a hair above the epsilon it was asked for.
            if epsilon > limit * (1 + 1e-3):
                raise OverLimitError(
                    f"the run would bring the table to epsilon {epsilon:.4g}, beyond the {limit:g}"
                    f" of limits.{name}: agree on a smaller plan, or raise your own limit"
                )


def windows(spent: Sequence[Spent], plan_hash: str, now: int) -> dict[str, list[Spent]]:
    """Return what counts against each limit, by its name."""
    return {
        "plan": [item for item in spent if item[1] == plan_hash],
        "year": [item for item in spent if item[0] > now - YEAR],
        "ever": list(spent),
    }


UNLIMITED = Limits(plan="none", year="none", ever="none")
"""For simulations, which protect nobody."""


def table_epsilon(spent: Iterable[Spent], accountant: str) -> float:
    """Return the epsilon of a table's worst unit, at the smallest delta of all releases.

    A unit stands in one part, so the parts compose in parallel; but where schemas split
    the rows differently it may have stood in each, and all releases add up. Releases of different
    units bound nothing together: infinity.
    """
    released = sorted(spent, key=lambda item: item[3].part)
    if len(units_of(released)) > 1:
        return inf
    if len({split for _, _, split, _ in released}) > 1:
        return _epsilon([release for *_, release in released], accountant)
    parts = groupby(released, key=lambda item: item[3].part)
    return max(
        (_epsilon([release for *_, release in part], accountant) for _, part in parts),
        default=0.0,
    )


def units_of(spent: Iterable[Spent]) -> list[str]:
    """Return the units that releases hide, sorted."""
    return sorted({release.unit for *_, release in spent})


def _epsilon(releases: Sequence[Release], accountant: str) -> float:
    if any(release.part != "train" for release in releases):
        accountant = COUNTS_ACCOUNTANT
    delta = min(release.delta for release in releases)
    return composed_epsilon(tuple(release.priced for release in releases), delta, accountant)
