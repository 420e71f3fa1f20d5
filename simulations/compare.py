"""The grid of a comparison: which models stand in the table, and the plans that train them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from common.errors import ConfigError, PlanError
from common.layout import layout_of
from common.plan import ModelPlan, Plan, PruningPlan, plan_from_dict
from common.pruning.rules import deepest, units_of
from common.pruning.selection import require_possible
from common.sections import REGISTRIES
from simulations.baselines import baseline_plans

Epsilon = float | str
"""A budget, or "none"."""

RANDOM = "random"
"""The score that is the control of every other."""

PRUNED, DENSE, LOGISTIC, SAME_SIZE = "pruned", "dense", "logistic", "same size"

CONTROLS = (RANDOM, SAME_SIZE, DENSE, LOGISTIC)
"""What stands in every table beside the pruned models."""

AXES = ("score", "granularity", "allocation", "schedule", "penalty")
"""Fields of a plan's ``pruning`` that a comparison may vary, beside its sparsity."""


@dataclass(frozen=True)
class Grid:
    """What to compare; an axis that is not named stays as the plan has it."""

    epsilons: tuple[Epsilon, ...] = ()
    sparsities: tuple[float, ...] = ()
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names that no registry knows."""
        for axis, names in self.axes.items():
            for name in names:
                try:
                    REGISTRIES[axis].require(name)
                except ValueError as error:
                    raise ConfigError(str(error)) from error


@dataclass(frozen=True)
class Arm:
    """A row of the table: one kind of model at one budget; its spread is over the seeds.

    ``pruning`` holds the plan's fields by name, for a pruned model or a random mask; ``hidden``
    the widths of a dense model that is as small as a pruned one.
    """

    kind: str
    epsilon: Epsilon
    pruning: tuple[tuple[str, str], ...] = ()
    sparsity: float = 0.0
    hidden: tuple[int, ...] = ()

    @property
    def variant(self) -> str:
        """What it is, whatever its sparsity: what differs from a plan's defaults."""
        if not self.pruning:
            return self.kind
        usual = PruningPlan()
        chosen = dict(self.pruning)
        shown = [chosen["score"], chosen["granularity"]]
        shown += [chosen[axis] for axis in AXES[2:] if chosen[axis] != getattr(usual, axis)]
        return " ".join(shown)

    @property
    def name(self) -> str:
        """Its name in the table."""
        if self.hidden:
            return f"{self.variant} {'-'.join(map(str, self.hidden))}"
        return f"{self.variant} {100 * self.sparsity:g} %" if self.pruning else self.variant

    def plans(self, base: Plan) -> tuple[Plan, ...]:
        """Return its plans: one of a pruned model, each rate of a baseline.

        Raises `PlanError` where the plan contradicts itself, or would prune what it protects.
        """
        fields = base.to_dict()
        fields["privacy"]["epsilon"] = self.epsilon
        if self.pruning:
            fields["pruning"] |= {**dict(self.pruning), "sparsity": self.sparsity}
            plan = plan_from_dict(fields, self.name)
            require_possible(units_of(plan), deepest(plan))
            return (plan,)
        if self.hidden:
            fields["model"]["hidden"] = list(self.hidden)
        name = LOGISTIC if self.kind == LOGISTIC else DENSE
        return tuple(baseline_plans(plan_from_dict(fields, self.name), name))


def arms_of(grid: Grid, base: Plan) -> tuple[list[Arm], dict[str, str]]:
    """Return the rows of the table, and by name why others contradict the plan.

    Raises `ConfigError` when no pruned model is left.
    """
    arms: dict[Arm, None] = {}
    left_out: dict[str, str] = {}
    for epsilon in grid.epsilons or (base.privacy.epsilon,):
        arms |= dict.fromkeys((Arm(DENSE, epsilon), Arm(LOGISTIC, epsilon)))
        for arm in _masked(grid, base, epsilon):
            try:
                arm.plans(base)
            except PlanError as error:
                left_out[arm.name] = str(error).removeprefix(f"{arm.name}: ")
                continue
            arms[arm] = None
            if base.model.kind != "logistic":
                arms[Arm(SAME_SIZE, epsilon, hidden=same_size(base, arm))] = None
    if not any(arm.kind == PRUNED for arm in arms):
        raise ConfigError(
            "nothing is left to compare: "
            + ("; ".join(f"{name}: {reason}" for name, reason in left_out.items()) or "name scores")
        )
    return list(arms), left_out


def _masked(grid: Grid, base: Plan, epsilon: Epsilon) -> Iterator[Arm]:
    """Yield pruned models, and a random mask for each of their kinds."""
    typed = {axis: grid.axes.get(axis) or (getattr(base.pruning, axis),) for axis in AXES}
    typed["score"] = tuple(dict.fromkeys((*typed["score"], RANDOM)))
    sparsities = grid.sparsities or (base.pruning.sparsity,)
    for sparsity, *names in product(sparsities, *typed.values()):
        if isinstance(sparsity, str):
            raise ConfigError("a search has no sparsity to compare at: name some with --sparsity")
        kind = RANDOM if names[0] == RANDOM else PRUNED
        yield Arm(kind, epsilon, tuple(zip(AXES, names, strict=True)), sparsity)


def same_size(plan: Plan, arm: Arm) -> tuple[int, ...]:
    """Return hidden widths of a dense model of about as many weights as a pruned one.

    A share of neurons leaves that share of each width; a share of weights narrows all widths by
    the one factor that comes nearest.
    """
    model, width = plan.model, plan.schema_.width
    if dict(arm.pruning)["granularity"] == "neuron":
        return _narrowed(model, 1 - arm.sparsity).hidden
    target = (1 - arm.sparsity) * layout_of(model, width).size
    widest = max(model.hidden, default=1)
    narrow = [_narrowed(model, part / widest) for part in range(1, widest + 1)]
    return min(narrow, key=lambda one: abs(layout_of(one, width).size - target)).hidden


def _narrowed(model: ModelPlan, factor: float) -> ModelPlan:
    hidden = tuple(max(1, round(width * factor)) for width in model.hidden)
    return model.model_copy(update={"hidden": hidden})
