"""What one vector holds in each round: derived from the plan by both sides, never negotiated."""

from math import sqrt

from common.descriptor import Segment
from common.plan import Plan
from common.privacy.budgets import learning_rate, training_mechanism
from common.privacy.shared import ring_levels

UPDATE = "update"
GRADIENT = "gradient"
VALIDATION = "validation"
TEST = "test"

NOISE_TAIL = 8.0
"""Standard deviations of noise an update holds before it saturates (chance 1e-15 a value)."""


def evaluation_rounds(plan: Plan) -> tuple[int, ...]:
    """Return the rounds whose received model is scored: spread evenly, the last always.

    Round r scores the model that r rounds have trained, so round ``training.rounds`` comes
    after the last training round and holds no update.
    """
    rounds, count = plan.training.rounds, min(plan.evaluation.rounds, plan.training.rounds)
    return tuple(rounds * (index + 1) // count for index in range(count))


def segments_of(plan: Plan, round_number: int, kept: int) -> tuple[Segment, ...]:
    """Return the segments of a round with ``kept`` surviving weights.

    An update is what local steps did to the weights; a gradient is the clipped sum of one step
    with a share of the noise, in levels of the shared grid. A histogram holds the counts by score
    bin of the negative records, then of the positive ones. Test rows are read once, after the
    last training round.
    """
    segments = []
    if round_number < plan.training.rounds:
        shared = plan.privacy.noise == "shared"
        segments.append((_gradient_segment if shared else _update_segment)(plan, kept))
    if round_number in evaluation_rounds(plan):
        counts = (VALIDATION, TEST) if round_number == plan.training.rounds else (VALIDATION,)
        most = max(institution.size for institution in plan.institutions)
        bins = plan.evaluation.bins
        segments += [Segment(name, 2 * bins, scale=1.0, bound=float(most)) for name in counts]
    return tuple(segments)


def _update_segment(plan: Plan, kept: int) -> Segment:
    """Use the whole ring: the finest grid on which no sum of the cohort can overflow."""
    rate, steps = learning_rate(plan), plan.training.steps
    batch = min(plan.expected_batch(name) for name in plan.names)
    noise = training_mechanism(plan).noise_multiplier / batch
    bound = rate * plan.privacy.max_grad_norm * (2 * steps + NOISE_TAIL * noise * sqrt(steps))
    levels = 2 ** (plan.aggregation.ring_bits - 1) // len(plan.institutions) - 2
    return Segment(UPDATE, kept, scale=levels / bound, bound=bound)


def _gradient_segment(plan: Plan, kept: int) -> Segment:
    return Segment(GRADIENT, kept, scale=1.0, bound=float(ring_levels(plan)))
