"""What one vector holds in each round: derived from the plan by both sides, never negotiated."""

from collections import Counter
from dataclasses import replace
from math import ceil, sqrt

from common.descriptor import Segment
from common.errors import BudgetError
from common.groups import groups_of
from common.layout import layout_of
from common.plan import Plan
from common.privacy.accounting import COUNTS_ACCOUNTANT, SampledGaussian
from common.privacy.budgets import learning_rate, training_mechanism
from common.privacy.discrete import MAX_SIGMA
from common.privacy.noise import grid_of
from common.privacy.shared import ring_levels, shared_grid
from common.pruning.schedules import prunes_after
from common.pruning.scores import MEAN_MAGNITUDE

UPDATE = "update"
GRADIENT = "gradient"
VALIDATION = "validation"
TEST = "test"
COUNTS = (VALIDATION, TEST)

POOL = "pool:"
"""How the name of a pool's counts begins; that of a protected group is ``column=value``."""

MAGNITUDES = "magnitudes"
"""Magnitudes of an institution's own weights, which follow from its private update."""

LARGEST_MAGNITUDE = 4.0
"""Where an institution's magnitude saturates; weights stay far below it."""

NOISE_TAIL = 8.0
"""Standard deviations of noise a value holds before it saturates (chance 1e-15 a value)."""


PENALTY_REACH = 8.0
"""Thresholds that a penalty moves a weight by in one step before its update saturates."""


def evaluation_rounds(plan: Plan) -> tuple[int, ...]:
    """Return the rounds whose received model is scored: spread evenly, the last always.

    Round r scores the model that r rounds have trained, so round ``training.rounds`` comes
    after the last training round and holds no update.
    """
    rounds, count = plan.training.rounds, min(plan.evaluation.rounds, plan.training.rounds)
    return tuple(rounds * (index + 1) // count for index in range(count))


def evaluation_mechanism(plan: Plan, name: str) -> SampledGaussian:
    """Return what an institution runs over the whole plan on the rows of a histogram segment.

    Validation rows are counted in every evaluation round, test rows once. All counts of a round,
    those of groups and pools included, are one mechanism of the `sensitivity` they have together.
    """
    evaluation, privacy = plan.evaluation, plan.privacy
    steps = len(evaluation_rounds(plan)) if name == VALIDATION else 1
    once = SampledGaussian(noise_multiplier=0.0, sample_rate=1.0, steps=1)
    if evaluation.noise == "none":
        return replace(once, steps=steps)
    # So many Gaussian mechanisms are exactly one with as much less noise: calibrated once.
    once = once.calibrated(evaluation.epsilon, privacy.delta, COUNTS_ACCOUNTANT)
    return replace(once, noise_multiplier=once.noise_multiplier * sqrt(steps), steps=steps)


def sensitivity(plan: Plan) -> float:
    """Return how far one unit moves all counts of a part together (L2).

    A row is counted once among all, once by each column of groups and once by each pool that its
    institution is in; at worst all rows of a unit are counted in the same places.
    """
    held = Counter(name for members in plan.evaluation.pools.values() for name in members)
    times = 1 + len(plan.evaluation.groups) + max(held.values(), default=0)
    return plan.rows_per_unit * sqrt(times)


def counting_noise(plan: Plan, part: str, survivors: int = 1) -> float:
    """Return the standard deviation of the noise, in rows, on each count of a sum."""
    own = evaluation_mechanism(plan, part).noise_multiplier * sensitivity(plan)
    return own * sqrt(survivors)


def part_of(name: str) -> str:
    """Return the part that a histogram segment counts rows of; any other segment is its own."""
    return name.partition("/")[0]


def count_names(plan: Plan, part: str) -> tuple[str, ...]:
    """Return the segments that count the rows of a part: all, each group's, each pool's."""
    evaluation = plan.evaluation
    groups = groups_of(plan.schema_, evaluation.groups, evaluation.cuts)
    apart = [name for names in groups.values() for name in names]
    apart += [POOL + pool for pool in evaluation.pools]
    return (part, *(f"{part}/{name}" for name in apart))


def require_releasable(plan: Plan) -> None:
    """Raise `BudgetError` where no grid or ring holds the noise, before a round is charged."""
    noise_multiplier, privacy = training_mechanism(plan).noise_multiplier, plan.privacy
    if noise_multiplier and privacy.noise == "local":
        grid_of(
            noise_multiplier, privacy.max_grad_norm, layout_of(plan.model, plan.schema_.width).size
        )
    elif noise_multiplier:
        shared_grid(plan)
    for part in COUNTS:
        segment = _count_segment(plan, part)
        if (noise := counting_noise(plan, part)) > MAX_SIGMA:
            raise BudgetError(
                f"{part} counts need noise of {noise:,.0f} rows, more than {MAX_SIGMA:,.0f}: raise"
                " evaluation.epsilon or lower privacy.rows_per_customer"
            )
        if len(plan.names) * segment.limit >= 2 ** (plan.aggregation.ring_bits - 1):
            raise BudgetError(
                f"{segment.name} counts of {len(plan.names)} x {segment.limit}, noise included,"
                f" overflow a ring of {plan.aggregation.ring_bits} bits: raise"
                " aggregation.ring_bits or evaluation.epsilon, or lower privacy.rows_per_customer"
            )


def segments_of(plan: Plan, round_number: int, kept: int) -> tuple[Segment, ...]:
    """Return the segments of a round with ``kept`` surviving weights.

    An update is what local steps did to the weights; a gradient is the clipped sum of one step
    with a share of the noise, in levels of the shared grid. Where the plan scores by them,
    magnitudes come in rounds that end in a cut. A histogram holds the counts by score
    bin of the negative records, then of the positive ones, and those of groups and pools follow
    that of all rows. Test rows are read once, after the last training round.
    """
    segments = []
    if round_number < plan.training.rounds:
        shared = plan.privacy.noise == "shared"
        segments.append((_gradient_segment if shared else _update_segment)(plan, kept))
        if sends_magnitudes(plan, round_number):
            scale = ring_levels(plan) / LARGEST_MAGNITUDE
            segments.append(Segment(MAGNITUDES, kept, scale, LARGEST_MAGNITUDE))
    if round_number in evaluation_rounds(plan):
        parts = COUNTS if round_number == plan.training.rounds else (VALIDATION,)
        for part in parts:
            whole = _count_segment(plan, part)
            segments += [replace(whole, name=name) for name in count_names(plan, part)]
    return tuple(segments)


def sends_magnitudes(plan: Plan, round_number: int) -> bool:
    """Whether magnitudes come in this round: it ends in a cut, and the plan scores by them."""
    trains = round_number < plan.training.rounds
    return trains and plan.pruning.score == MEAN_MAGNITUDE and prunes_after(plan, round_number)


def values_of(plan: Plan, round_number: int, kept: int) -> int:
    """Return how many values `segments_of` holds: without their scales, which take accountants."""
    values = kept * (round_number < plan.training.rounds)
    values += kept * sends_magnitudes(plan, round_number)
    if round_number in evaluation_rounds(plan):
        parts = COUNTS if round_number == plan.training.rounds else (VALIDATION,)
        names = sum(len(count_names(plan, part)) for part in parts)
        values += names * 2 * plan.evaluation.bins
    return values


def _count_segment(plan: Plan, part: str) -> Segment:
    """Count in whole rows: a scale of one keeps noise that is an integer as it is."""
    noise = ceil(NOISE_TAIL * counting_noise(plan, part))
    bound = float(plan.largest_size + noise)
    return Segment(part, 2 * plan.evaluation.bins, scale=1.0, bound=bound)


def _update_segment(plan: Plan, kept: int) -> Segment:
    """Use the whole ring: the finest grid on which no sum of the cohort can overflow."""
    rate, steps = learning_rate(plan), plan.training.steps
    batch = min(plan.expected_batch(name) for name in plan.names)
    noise = training_mechanism(plan).noise_multiplier * plan.privacy.max_grad_norm / batch
    bound = rate * (2 * steps * plan.row_norm + NOISE_TAIL * noise * sqrt(steps))
    if plan.pruning.penalty != "none":
        bound += PENALTY_REACH * rate * plan.pruning.strength * steps
    return Segment(UPDATE, kept, scale=ring_levels(plan) / bound, bound=bound)


def _gradient_segment(plan: Plan, kept: int) -> Segment:
    return Segment(GRADIENT, kept, scale=1.0, bound=float(ring_levels(plan)))
