"""Which model to take: ranks on validation rows, paired tests over seeds, and one sentence of why.

A seed deals the rows, draws the weights, batches and noise, alike for every model: models are
compared seed by seed. The spread is over seeds, on one set of rows; it says nothing of other rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Literal

from scipy.stats import t as student

from simulations.cells import Outcome
from simulations.compare import CONTROLS, DENSE, PRUNED, Arm

RankBy = Literal["private", "exact"]

MEASURES: dict[RankBy, str] = {
    "private": "private validation ROC-AUC, as the server would see it",
    "exact": "exact validation ROC-AUC, which only a simulator sees",
}


@dataclass(frozen=True, eq=False)
class Entry:
    """An arm and its outcomes, one a seed, in the order of the seeds."""

    arm: Arm
    outcomes: tuple[Outcome, ...]
    values: tuple[float, ...]
    noise: float
    """Standard deviation of the mean of ``values`` from the evaluation's noise alone."""

    @property
    def mean(self) -> float:
        """Mean validation ROC-AUC."""
        return fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None for one seed."""
        return spread_of(self.values)

    @property
    def kept(self) -> float:
        """Mean number of surviving weights."""
        return fmean(outcome.kept for outcome in self.outcomes)


@dataclass(frozen=True, eq=False)
class Standing:
    """An entry's place in its budget's table, and its tests against the first and against dense.

    ``first`` and ``dense`` are mean differences, each with Holm's p over the table (None for one
    seed, or against itself).
    """

    entry: Entry
    rank: int
    first: float
    first_p: float | None
    dense: float
    dense_p: float | None


@dataclass(frozen=True)
class Advice:
    """The arm to take, why in one sentence, and what must be said beside it.

    There is none where the noise of the private metric hides every difference of pruned models.
    """

    arm: Arm | None
    reason: str
    notes: tuple[str, ...]


def spread_of(values: Sequence[float]) -> float | None:
    """Return the standard deviation over seeds; None for one."""
    return stdev(values) if len(values) > 1 else None


def entry_of(arm: Arm, outcomes: Sequence[Outcome], by: RankBy) -> Entry | None:
    """Return an entry; None where the private metric could not be computed for some seed."""
    finals = [outcome.final for outcome in outcomes]
    if by == "exact":
        return Entry(arm, tuple(outcomes), tuple(final.exact for final in finals), 0.0)
    values = [final.private for final in finals if final.private is not None]
    deviations = [final.private_sd for final in finals if final.private_sd is not None]
    if min(len(values), len(deviations)) < len(finals):
        return None
    noise = sqrt(sum(sd**2 for sd in deviations)) / len(deviations)
    return Entry(arm, tuple(outcomes), tuple(values), noise)


def paired(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return the two-sided p of a paired t-test (Student 1908); None for a single pair.

    It takes differences for normal, which a few seeds cannot show; a signed-rank test of n pairs
    has no p below 2^(1-n), .25 for three, and could never find anything.
    """
    differences = [a - b for a, b in zip(one, other, strict=True)]
    if len(differences) < 2:
        return None
    mean, error = fmean(differences), stdev(differences) / sqrt(len(differences))
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * student.sf(abs(mean / error), len(differences) - 1))


def holm(chances: Sequence[float | None]) -> list[float | None]:
    """Return p values that hold together (Holm 1979); None stays and is not counted."""
    order = sorted((p, index) for index, p in enumerate(chances) if p is not None)
    adjusted: list[float | None] = [None] * len(chances)
    highest = 0.0
    for rank, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = highest
    return adjusted


def rank(entries: Sequence[Entry]) -> list[Standing]:
    """Return the table of one budget, the highest mean first, of equals the smaller model."""
    ordered = sorted(entries, key=lambda entry: (-entry.mean, entry.kept, entry.arm.name))
    dense = next((entry for entry in ordered if entry.arm.kind == DENSE), ordered[0])

    def tested(reference: Entry) -> list[float | None]:
        return holm(
            [
                None if entry is reference else paired(entry.values, reference.values)
                for entry in ordered
            ]
        )

    tests = zip(ordered, tested(ordered[0]), tested(dense), strict=True)
    return [
        Standing(
            entry=entry,
            rank=place,
            first=entry.mean - ordered[0].mean,
            first_p=first_p,
            dense=entry.mean - dense.mean,
            dense_p=dense_p,
        )
        for place, (entry, first_p, dense_p) in enumerate(tests, start=1)
    ]


def advise(table: Sequence[Standing], by: RankBy, tolerance: float) -> Advice:
    """Recommend the smallest pruned model that is not clearly worse than the best pruned one.

    Not clearly worse is within ``tolerance``, or within one standard error of the difference,
    the larger of that over seeds and that of the evaluation's noise (Breiman et al. 1984,
    section 3.4.3: the one standard error rule).
    """
    pruned = [standing.entry for standing in table if standing.entry.arm.kind == PRUNED]
    best = pruned[0]
    if _hidden(pruned, tolerance):
        return Advice(None, _undecided(pruned, by), tuple(_of_seeds(len(best.values))))
    within = [
        entry for entry in pruned if best.mean - entry.mean <= _margin(entry, best, tolerance)
    ]
    chosen = min(within, key=lambda entry: (entry.kept, -entry.mean))
    told = f"mean {MEASURES[by]}, over {_seeds(len(best.values))}"
    size = f"{chosen.arm.name} ({chosen.kept:,.0f} weights)"
    if chosen is best:
        reason = (
            f"{size} has the best {told}, {best.mean:.4f}, and no smaller one is within the margin."
        )
    else:
        margin, error = _margin(chosen, best, tolerance), _error(chosen, best)
        kind = "the tolerance of the plan" if margin > error else "one standard error"
        reason = (
            f"{size} is the smallest whose {told}, is within {margin:.4f} ({kind}) of the best,"
            f" {best.arm.name}: {chosen.mean:.4f} against {best.mean:.4f}."
        )
    return Advice(chosen.arm, reason, tuple(_notes(table, chosen, best, by, tolerance)))


def _hidden(pruned: Sequence[Entry], tolerance: float) -> bool:
    """Return whether noise alone explains all by which the pruned models differ from the best."""
    best, *others = pruned
    noises = [_noise(entry, best) for entry in others]
    return max(noises, default=0.0) > tolerance and all(
        best.mean - entry.mean <= noise for entry, noise in zip(others, noises, strict=True)
    )


def _undecided(pruned: Sequence[Entry], by: RankBy) -> str:
    best, last = pruned[0], pruned[-1]
    return (
        f"none: the mean {MEASURES[by]}, over {_seeds(len(best.values))}, of the {len(pruned)}"
        f" pruned models differs by {best.mean - last.mean:.4f} at most, and from its noise alone"
        f" by a standard deviation of {_noise(best, last):.4f}. More seeds (--seeds), a larger"
        " evaluation.epsilon or, on rows that you may see, --rank exact would decide."
    )


def _noise(one: Entry, other: Entry) -> float:
    return sqrt(one.noise**2 + other.noise**2)


def _error(one: Entry, other: Entry) -> float:
    if one is other:
        return 0.0
    spread = spread_of([a - b for a, b in zip(one.values, other.values, strict=True)])
    over_seeds = 0.0 if spread is None else spread / sqrt(len(one.values))
    return max(over_seeds, _noise(one, other))


def _margin(one: Entry, other: Entry, tolerance: float) -> float:
    return max(tolerance, _error(one, other))


def _notes(
    table: Sequence[Standing], chosen: Entry, best: Entry, by: RankBy, tolerance: float
) -> list[str]:
    notes = []
    noise = _noise(best, best)
    if noise > tolerance:
        notes.append(
            f"A difference of two models has a standard deviation of {noise:.4f} from the noise of"
            f" the private metric alone, more than the tolerance of {tolerance:g}: smaller ones"
            " mean nothing, and p is too small, for a seed repeats its noise for each model."
            " More seeds, a larger evaluation.epsilon or --rank exact tell more."
        )
    notes += _of_seeds(len(chosen.values))
    nearest: dict[str, Entry] = {}
    for kind in CONTROLS:
        rivals = [standing.entry for standing in table if standing.entry.arm.kind == kind]
        if rivals:
            nearest[kind] = min(rivals, key=lambda entry: _distance(entry, chosen))
    chances = holm([paired(chosen.values, entry.values) for entry in nearest.values()])
    for entry, p in zip(nearest.values(), chances, strict=True):
        notes.append(_beside(chosen, entry, p, _margin(chosen, entry, tolerance)))
    return notes


def _of_seeds(seeds: int) -> list[str]:
    if seeds == 1:
        return ["One seed has no spread: no test was made; give more with --seeds."]
    if seeds < 5:
        return [
            f"{seeds} seeds show large differences alone: a paired t-test has"
            f" {seeds - 1} degree{'s'[: seeds != 2]} of freedom and takes them for normal."
        ]
    return []


def _distance(entry: Entry, chosen: Entry) -> tuple[bool, float]:
    """Order controls by likeness to the chosen model: the same mask but for chance, then size."""
    unlike = entry.arm.pruning[1:] != chosen.arm.pruning[1:] if entry.arm.pruning else False
    return unlike, abs(entry.kept - chosen.kept)


def _beside(chosen: Entry, entry: Entry, p: float | None, margin: float) -> str:
    difference = chosen.mean - entry.mean
    test = "" if p is None else f", p {p:.2g}"
    if difference > margin:
        verdict = "worse than the recommended model"
    elif difference < -margin:
        verdict = "better, at another size" if entry.kept > chosen.kept else "better, and as small"
    else:
        verdict = "not to be told apart from it"
    return (
        f"{entry.arm.name} ({entry.kept:,.0f} weights): {entry.mean:.4f}, {verdict}"
        f" (recommended {difference:+.4f}{test})."
    )


def _seeds(count: int) -> str:
    return f"{count} seed{'s'[: count != 1]}"


def curve_of(entry: Entry, by: RankBy) -> list[tuple[float, float]]:
    """Return bytes up and ROC-AUC of each evaluation, means over the seeds that have one."""
    points = []
    for stops in zip(*(outcome.stops for outcome in entry.outcomes), strict=True):
        seen = [stop.private if by == "private" else stop.exact for stop in stops]
        if known := [auc for auc in seen if auc is not None]:
            points.append((fmean(stop.bytes_up for stop in stops), fmean(known)))
    return points


def bytes_to(entry: Entry, by: RankBy, target: float) -> float | None:
    """Return the bytes up at the first evaluation that reached an AUC; None if none did."""
    return next((sent for sent, auc in curve_of(entry, by) if auc >= target), None)
