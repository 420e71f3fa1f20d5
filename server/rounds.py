"""The life of a round: one vector each, the opened sum, the next model and mask."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from common.entropy import Stream
from common.errors import AggregationError
from common.model import initial_weights
from common.plan import Plan
from common.privacy.budgets import learning_rate
from common.privacy.shared import shared_grid
from common.pruning.evidence import Traces
from common.pruning.rules import deepest, proximal_of, units_of
from common.pruning.selection import require_possible
from common.segments import GRADIENT, MAGNITUDES, UPDATE, VALIDATION
from server.aggregation import Attempt, Note, Sums, unnoted
from server.evaluation import Estimate, estimate
from server.exchange import Caller, Exchange, Traffic
from server.groups import apart, looked_at
from server.guard import Verdict
from server.model import GlobalModel
from server.optimiser import direction
from server.pruning import cut, sparsity_due, watched

log = logging.getLogger("fedprune.server")

Clock = Callable[[], float]


@dataclass(frozen=True)
class RoundReport:
    """What a round was: survivors, sums of counts by segment, bytes an institution, seconds.

    ``noise`` is the standard deviation of the noise on each count of a segment, if it has any;
    ``verdict`` the guard's on the model that was received, if it judged; ``stages`` the seconds
    that the server waited for institutions, by trip.
    """

    round: int
    epoch: int
    survivors: tuple[str, ...]
    kept: int
    sparsity: float
    counts: dict[str, NDArray[np.float64]]
    bytes_up: int
    bytes_down: int
    seconds: float
    noise: dict[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    stages: dict[str, float] = field(default_factory=dict)

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """What the counts of each segment tell of the received model."""
        return {
            name: estimate(self.counts[name], self.noise.get(name, 0.0)) for name in self.counts
        }


def initial_model(plan: Plan, stream: Stream) -> GlobalModel:
    """Return the model before round 0: fresh weights, nothing pruned.

    Raises `PlanError` when the plan's sparsity would have to prune protected weights.
    """
    require_possible(units_of(plan), deepest(plan))
    weights = initial_weights(plan.model, plan.schema_.width, stream)
    return GlobalModel(weights, np.ones(weights.size, np.bool_), Traces.begin(weights))


def at_once() -> None:
    """Wait for nobody: the institutions are in this process."""


def lose_round(model: GlobalModel, epoch: int) -> tuple[GlobalModel, RoundReport]:
    """Return the model and report after a round whose sum nobody has, and nobody may open again."""
    report = RoundReport(
        round=model.round,
        epoch=epoch,
        survivors=(),
        kept=model.kept,
        sparsity=1 - model.kept / model.mask.size,
        counts={},
        bytes_up=0,
        bytes_down=0,
        seconds=0.0,
    )
    return replace(model, round=model.round + 1, epoch=epoch), report


def run_rounds(  # noqa: PLR0913
    model: GlobalModel,
    plan: Plan,
    run: str,
    exchange: Exchange,
    clock: Clock = time.monotonic,
    *,
    note: Note = unnoted,
) -> Iterator[tuple[GlobalModel, RoundReport]]:
    """Yield the model and report after each round, the final evaluation (no update) included.

    A round that cannot be completed leaves the model as it was; as many such rounds in a row as
    ``aggregation.attempts`` end the run with `AggregationError`, as does one that is over at so
    many institutions that it never can be. ``note`` is told of each attempt before it asks for
    anything, and again before it asks for its sum to be opened.
    """
    lost, least = 0, plan.least
    again = partial(exchange.await_connected, least)
    while model.round <= plan.training.rounds:
        started, exchange.traffic, exchange.finished = clock(), Traffic(), set()
        model, survivors, sums = complete_round(model, plan, run, exchange, note, again)
        if not survivors and len(plan.names) - len(exchange.finished) < least:
            raise AggregationError(
                f"round {model.round} is over at {', '.join(sorted(exchange.finished))}: the run"
                " went further than this record of it, which is from a backup; begin a new run"
            )
        lost = 0 if survivors else lost + 1
        if lost >= plan.aggregation.attempts:
            told = [f"{name} refused: {reason}" for name, reason in exchange.refused.items()]
            raise AggregationError(
                f"{lost} rounds in a row could not be completed by {plan.threshold} institutions"
                + (f" ({', '.join(sorted(told))})" if told else "")
                + ": bring them back and resume"
            )
        counts, noise = looked_at(plan, sums, survivors)
        traffic, members = exchange.traffic, max(1, len(survivors))
        report = RoundReport(
            round=model.round,
            epoch=model.epoch,
            survivors=survivors,
            kept=model.kept,
            sparsity=1 - model.kept / model.mask.size,
            counts=counts,
            noise=noise,
            bytes_up=sum(traffic.up[name] for name in survivors) // members,
            bytes_down=sum(traffic.down[name] for name in survivors) // members,
            seconds=0.0,  # The clock is read when the round is over.
            stages=dict(traffic.seconds),
        )
        model, verdict = _advance(model, plan, sums, report)
        if verdict is not None:
            level = logging.WARNING if verdict.fell else logging.INFO
            log.log(level, "round %d: %s", report.round, verdict)
        yield model, replace(report, seconds=clock() - started, verdict=verdict)


def complete_round(  # noqa: PLR0913, PLR0917
    model: GlobalModel,
    plan: Plan,
    run: str,
    exchange: Caller,
    note: Note = unnoted,
    again: Callable[[], None] = at_once,
) -> tuple[GlobalModel, tuple[str, ...], Sums]:
    """Try a round in fresh epochs until its sum opens; no survivors when none did.

    ``again`` returns when institutions may be asked once more after they could not complete it.

    A round that institutions were asked to open is never tried again: they would refuse, for
    two sums that differ by one institution show it.
    """
    for _ in range(plan.aggregation.attempts):
        _require_members(model, plan)
        model = replace(model, epoch=model.epoch + 1)
        attempt = Attempt(model, plan, run, exchange, note)
        survivors: tuple[str, ...] = ()
        sums: Sums = {}
        try:
            survivors, sums = attempt.run()
        except AggregationError as error:
            log.warning("round %d, epoch %d: %s", model.round, model.epoch, error)
            again()
        model = replace(
            model,
            holders=attempt.holders,
            offers=attempt.offers,
            culprits=model.culprits | attempt.culprits,
        )
        sums = _averaged(sums, plan, survivors)
        if survivors or attempt.asked_to_open:
            return model, survivors, sums
        # The keys sent ahead are of the next epoch and round; repeating this one takes others.
        model = replace(model, epoch=model.epoch + 1)
    return model, (), {}


def _averaged(sums: Sums, plan: Plan, survivors: tuple[str, ...]) -> Sums:
    """Divide what the survivors' records added up to by their declared number."""
    if UPDATE in sums:
        weight = sum(plan.weight(name) for name in survivors)
        means = {name: sums[name] / weight for name in (UPDATE, MAGNITUDES) if name in sums}
        return sums | means
    if GRADIENT in sums:
        batch = sum(plan.expected_batch(name) for name in survivors)
        return sums | {GRADIENT: sums[GRADIENT] * (shared_grid(plan).step / batch)}
    return sums


def _require_members(model: GlobalModel, plan: Plan) -> None:
    left = len(plan.names) - len(model.culprits)
    if plan.aggregation.kind == "secure" and left < plan.least:
        raise AggregationError(
            f"without {', '.join(sorted(model.culprits))}, who spoiled openings, {left}"
            f" institutions are fewer than {plan.least}: agree on a new plan"
        )


def _advance(
    received: GlobalModel, plan: Plan, sums: Sums, report: RoundReport
) -> tuple[GlobalModel, Verdict | None]:
    """Apply the average update or gradient, let the guard judge, then prune as far as is due."""
    finished, model, verdict = received.round + 1, received, None
    if GRADIENT in sums:
        model = _stepped(model, plan, sums[GRADIENT])
    elif UPDATE in sums:
        weights = model.weights.copy()
        weights[model.mask] += sums[UPDATE].astype(np.float32)
        model = replace(model, weights=weights, traces=_traced(model, sums[UPDATE], sums))
    if VALIDATION in report.counts and plan.pruning.guard != "off":
        seen = report.estimates
        groups = apart(seen, VALIDATION)
        model, verdict = watched(received, model, plan, seen[VALIDATION], groups)
    if GRADIENT in sums or UPDATE in sums:
        if finished <= plan.pruning.start * plan.training.rounds:
            model = replace(model, traces=replace(model.traces, anchor=model.weights))
        model = cut(model, plan, sparsity_due(model, plan, finished), finished)
    return replace(model, round=finished), verdict


def _stepped(model: GlobalModel, plan: Plan, gradient: NDArray[np.float64]) -> GlobalModel:
    """Move the surviving weights by one step of the plan's optimiser and penalty."""
    moments = np.zeros((2, model.mask.size)) if model.moments is None else model.moments.copy()
    updates, mask, rate = model.updates + 1, model.mask, learning_rate(plan)
    against, moments[:, mask] = direction(gradient, moments[:, mask], plan.optimiser, updates)
    weights = model.weights.copy()
    weights[mask] -= (rate * against).astype(np.float32)
    if (proximal := proximal_of(plan, rate)) is not None:
        proximal(weights)
    traces = _traced(model, -gradient, {})
    return replace(model, weights=weights, moments=moments, updates=updates, traces=traces)


def _traced(model: GlobalModel, descent: NDArray[np.float64], sums: Sums) -> Traces:
    """Return the traces after a round's descent of the surviving weights [kept]."""
    traces = model.traces.after(model.weights, _spread(model, descent))
    if MAGNITUDES in sums:
        traces = replace(traces, magnitudes=_spread(model, sums[MAGNITUDES]))
    return traces


def _spread(model: GlobalModel, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return values of the surviving weights [kept] as [size], zero elsewhere."""
    vector = np.zeros(model.mask.size, np.float32)
    vector[model.mask] = values
    return vector
