"""A search for pruning parameters, by what a server would see, and what it would cost to do so.

Each trial is a whole private run. On real data all of them would read the same records: the search
spends as much as that many runs, whatever becomes of the models.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, log2
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from common.errors import AggregationError, PlanError
from common.plan import Plan, plan_from_dict
from common.privacy.accounting import SampledGaussian, composed_epsilon
from common.privacy.budgets import accounted_delta, training_mechanism
from common.pruning.allocation import ALLOCATIONS
from common.pruning.rules import deepest, units_of
from common.pruning.schedules import SCHEDULES
from common.pruning.scores import MEAN_MAGNITUDE, SCORES
from common.pruning.selection import require_possible
from common.segments import TEST, VALIDATION, evaluation_mechanism
from simulations.campaign import CellStore, Failure, attempt
from simulations.cells import Cell, Outcome, data_digest
from simulations.compare import RANDOM
from simulations.inputs import Federation

SPARSEST, DENSEST = 0.02, 0.5
"""Shares of weights left between which a sparsity is searched, evenly in their logarithm."""

LATEST_START, LATEST_END = 0.5, 0.95
"""Shares of the run up to which pruning may start and end."""

PRV_REACH = 50.0
"""Epsilon beyond which the PRV accountant takes minutes and RDP's bound stands instead."""


@dataclass(frozen=True)
class Search:
    """How to search; where ``sparsity`` is None, each halving of weights counts as ``worth``."""

    trials: int
    seed: int
    sparsity: float | None
    worth: float


@dataclass(frozen=True)
class Tried:
    """A trial: its plan's parameters, and what came of it (None with the reason why not)."""

    number: int
    parameters: dict[str, Any]
    plan: Plan | None
    outcome: Outcome | None
    value: float | None
    reason: str = ""


@dataclass(frozen=True)
class Cost:
    """Epsilon that a record would spend by all trials, if it trains, validates or tests."""

    training: float
    validation: float
    test: float


def tune(
    federation: Federation,
    search: Search,
    store: CellStore,
    watch: Callable[[Tried], None] = lambda tried: None,
) -> list[Tried]:
    """Return all trials, in order; the first is of the plan's own parameters.

    The sampler (tree-structured Parzen estimator, Bergstra et al. 2011) is told the private
    validation ROC-AUC of the finished model. Trial i takes seed + i: no two see the same noise.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=search.seed)
    )
    study.enqueue_trial(_own(federation.plan))
    data = data_digest(federation.splits)
    tried = []
    for number in range(search.trials):
        trial = study.ask()
        parameters = proposed(trial, federation.plan, search)
        one = _tried(number, parameters, federation, search, store, data)
        if one.value is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, one.value)
        tried.append(one)
        watch(one)
    return tried


def proposed(trial: Trial, plan: Plan, search: Search) -> dict[str, Any]:
    """Return fields of ``pruning`` that the sampler proposes."""
    scores = [name for name in SCORES.names if name != RANDOM]
    if plan.privacy.noise == "shared":
        scores.remove(MEAN_MAGNITUDE)
    granularities = ["weight"] if plan.model.kind == "logistic" else ["weight", "neuron"]
    start = trial.suggest_float("start", 0.0, LATEST_START)
    end = max(start, trial.suggest_float("end", 0.0, LATEST_END))
    sparsity = search.sparsity
    if sparsity is None:
        sparsity = 1 - trial.suggest_float("left", SPARSEST, DENSEST, log=True)
    return {
        "score": trial.suggest_categorical("score", scores),
        "granularity": trial.suggest_categorical("granularity", granularities),
        "allocation": trial.suggest_categorical("allocation", list(ALLOCATIONS.names)),
        "schedule": trial.suggest_categorical("schedule", list(SCHEDULES.names)),
        "start": round(start, 3),
        "end": round(end, 3),
        "sparsity": round(sparsity, 4),
    }


def _own(plan: Plan) -> dict[str, Any]:
    """Return the plan's own parameters; what lies outside the space is left to the sampler."""
    pruning = plan.pruning
    own: dict[str, Any] = {
        name: getattr(pruning, name) for name in ("score", "allocation", "schedule")
    }
    if pruning.granularity != "block":
        own["granularity"] = pruning.granularity
    if pruning.start <= LATEST_START and pruning.end <= LATEST_END:
        own |= {"start": pruning.start, "end": pruning.end}
    if pruning.sparsity != "auto" and SPARSEST <= 1 - pruning.sparsity <= DENSEST:
        own["left"] = 1 - pruning.sparsity
    return {name: value for name, value in own.items() if value != RANDOM}


def _tried(  # noqa: PLR0913, PLR0917
    number: int,
    parameters: dict[str, Any],
    federation: Federation,
    search: Search,
    store: CellStore,
    data: str,
) -> Tried:
    try:
        plan = tuned(federation.plan, parameters)
    except PlanError as error:
        return Tried(number, parameters, None, None, None, str(error))
    cell = Cell((plan,), federation.splits, search.seed + number)
    result = store.load(key := cell.key(data)) or attempt(cell)
    if isinstance(result, Failure):
        return Tried(number, parameters, plan, None, None, result.reason)
    store.keep(key, result)
    private = result.final.private
    if private is None:
        return Tried(number, parameters, plan, result, None, "noise left nothing of the metric")
    worth = search.worth if search.sparsity is None else 0.0
    value = private + worth * log2(result.weights / result.kept)
    return Tried(number, parameters, plan, result, value)


def tuned(plan: Plan, parameters: dict[str, Any]) -> Plan:
    """Return the plan with fields of ``pruning``; raise `PlanError` where they contradict it."""
    fields = plan.to_dict()
    fields["pruning"] |= parameters
    candidate = plan_from_dict(fields, "the trial")
    require_possible(units_of(candidate), deepest(candidate))
    return candidate


def best_of(tried: Iterable[Tried]) -> Tried:
    """Return the trial of the highest value; raise `AggregationError` when none has any."""
    valued = [one for one in tried if one.value is not None]
    if not valued:
        raise AggregationError("no trial has a value: lower pruning.sparsity, or raise epsilon")
    return max(valued, key=lambda one: (one.value or 0.0, -one.number))


def cost_of(plans: Sequence[Plan]) -> Cost:
    """Return what runs of these plans on the same records spend, by the role of a record."""
    training = [training_mechanism(plan) for plan in plans]
    privacy = plans[0].privacy

    def counted(name: str) -> float:
        mechanisms = [evaluation_mechanism(plan, name) for plan in plans]
        return _composed(mechanisms, privacy.delta, privacy.accountant)

    return Cost(
        training=_composed(training, accounted_delta(plans[0]), privacy.accountant),
        validation=counted(VALIDATION),
        test=counted(TEST),
    )


def _composed(mechanisms: Sequence[SampledGaussian], delta: float, accountant: str) -> float:
    bound = composed_epsilon(mechanisms, delta, "rdp")
    if bound == inf or bound > PRV_REACH:
        return bound
    return composed_epsilon(mechanisms, delta, accountant)
