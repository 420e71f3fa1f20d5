"""The sections of a plan: each a frozen value that checks itself and refuses unknown keys."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from common.pruning.allocation import ALLOCATIONS
from common.pruning.granularity import GRANULARITIES
from common.pruning.penalties import PENALTIES
from common.pruning.schedules import SCHEDULES
from common.pruning.scores import MEAN_MAGNITUDE, SCORES
from common.registry import Registry

RECORD = "record"
"""The unit of privacy that is one row."""

WHOLE = 1e-9
"""How far a product of fractions may be from the whole number that it is."""

REGISTRIES: dict[str, Registry[Any]] = {
    "score": SCORES,
    "granularity": GRANULARITIES,
    "allocation": ALLOCATIONS,
    "schedule": SCHEDULES,
    "penalty": PENALTIES,
}
"""What answers for each named choice of ``pruning``."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Section(BaseModel):
    """A frozen part of the plan; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class InstitutionPlan(Section):
    """A member and the rounded number of rows it declares: those that are left after any cap.

    The declared size, never the table's length, sets batches, weights and denominators.
    """

    name: Name
    size: Annotated[int, Field(ge=50)]


class ModelPlan(Section):
    """Architecture; ``logistic`` ignores the rest, ``initial_scale`` is the output layer's."""

    kind: Literal["wide_and_deep", "mlp", "logistic"] = "wide_and_deep"
    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = (128, 64)
    activation: Literal["relu", "tanh"] = "relu"
    initial_scale: Positive = 0.25


class TrainingPlan(Section):
    """Federated averaging of local DP-SGD steps.

    ``learning_rate`` "auto" is derived from the noise (`common.privacy.budgets`).
    """

    rounds: Annotated[int, Field(ge=1, le=10_000)] = 60
    steps: Annotated[int, Field(ge=1, le=1_000)] = 5
    sample_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    learning_rate: Positive | Literal["auto"] = "auto"


class PrivacyPlan(Section):
    """(epsilon, delta) of a unit for the training rows; "none" trains without noise.

    ``unit`` is "record", or the schema's customer column: then all rows of a customer count as
    one, ``rows_per_customer`` of them at most.
    "local" noise makes each institution's own update private; "shared" noise is added in parts
    that only together are enough, whoever of ``aggregation.colluders`` tells its part.
    Beyond 50, which protects nobody, the PRV accountant takes minutes and gigabytes.
    """

    epsilon: Annotated[float, Field(gt=0, le=50)] | Literal["none"] = 1.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    max_grad_norm: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    unit: str = RECORD
    rows_per_customer: Annotated[int, Field(ge=1, le=1_000)] = 1
    noise: Literal["local", "shared"] = "local"
    accountant: Literal["prv", "rdp"] = "prv"


class OptimiserPlan(Section):
    """What the server makes of the gradient that "shared" noise leaves it.

    ``momentum`` is the first moment's decay, ``second`` the second's, which "adam" alone has.
    """

    kind: Literal["sgd", "adam"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    second: Annotated[float, Field(ge=0, lt=1)] = 0.99


class AggregationPlan(Section):
    """How the sum is formed; threshold 0 means the default floor(2n/3) + 1.

    ``colluders`` is how many institutions may side with a dishonest server: the threshold must
    withstand them, and two survivors beside them must hide each other.

    "plain" sends the same encoding without masks: research only, the server sees each update.
    ``attempts`` bounds how often a round is repeated; ``timeout`` is seconds a trip.
    """

    kind: Literal["secure", "plain"] = "secure"
    ring_bits: Annotated[int, Field(ge=16, le=32)] = 24
    threshold: Annotated[int, Field(ge=0)] = 0
    colluders: Annotated[int, Field(ge=0)] = 1
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    timeout: Positive = 120.0


class PruningPlan(Section):
    """When and how far the global mask shrinks, and what decides.

    ``sparsity`` is the share of all weights that end as zero; of hidden neurons with granularity
    "neuron", of each ``block`` of weights with "block"; "auto" looks for the highest that costs
    at most ``tolerance`` of ROC-AUC. ``start`` and ``end`` are shares of the run; the rounds
    after ``end`` fine-tune what is left. Biases survive unless ``biases`` is true, the output
    layer's weights unless ``output`` is; the linear skip beside hidden layers always does.

    ``rewind`` puts survivors back to their weights at ``start`` after each cut. ``regrowth`` is
    the share of survivors exchanged for pruned ones, at the first cut and ever fewer until
    ``end``; masks are then not nested. ``penalty`` pulls by ``strength`` times the learning rate
    in each step. ``guard`` answers a fall of quality beyond ``tolerance`` and noise: "hold" prunes
    no further, "step_back" also returns to the last good model. It does the same when the ROC-AUC
    of a group or pool of ``evaluation`` is below ``floor`` by more than noise explains.
    """

    score: str = "magnitude"
    granularity: str = "weight"
    block: Annotated[int, Field(ge=2, le=64)] = 4
    allocation: str = "global"
    schedule: str = "cubic"
    sparsity: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = 0.9
    start: Fraction = 0.2
    end: Annotated[float, Field(ge=0, lt=1)] = 0.6
    biases: bool = False
    output: bool = True
    rewind: bool = False
    regrowth: Annotated[float, Field(ge=0, lt=1)] = 0.0
    penalty: str = "none"
    strength: Annotated[float, Field(gt=0, le=1)] = 1e-3
    guard: Literal["off", "hold", "step_back"] = "off"
    tolerance: Annotated[float, Field(ge=0, lt=0.5)] = 0.005
    floor: Annotated[float, Field(ge=0, lt=1)] | None = None

    @field_validator("score", "granularity", "allocation", "schedule", "penalty")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        REGISTRIES[str(info.field_name)].require(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}: set start below end")
        if self.granularity == "block":
            if self.sparsity == "auto" or not _whole(self.block * (1 - self.sparsity)):
                raise ValueError(
                    f"sparsity {self.sparsity} leaves no whole number of {self.block} weights a"
                    f" block: set it to a multiple of 1/{self.block}"
                )
            if self.allocation != "global":
                raise ValueError("blocks prune each layer alike: set allocation to global")
        if (self.rewind or self.regrowth) and self.schedule not in ("iterative", "one_shot"):
            raise ValueError(
                f"cuts of schedule {self.schedule} leave no time to train what is rewound or"
                " regrown: set schedule to iterative"
            )
        if self.regrowth and self.granularity != "weight":
            raise ValueError(
                "only single weights regrow: a neuron that returns empty never learns again, and a"
                " block has its own number; set granularity to weight"
            )
        if self.sparsity == "auto" and self.score == MEAN_MAGNITUDE:
            raise ValueError(
                "a search cuts when it may, and magnitudes are sent by the calendar: set score to"
                " magnitude"
            )
        if self.sparsity == "auto" and self.guard != "step_back":
            raise ValueError("a search for sparsity returns where it fails: set guard to step_back")
        if self.floor is not None and self.guard == "off":
            raise ValueError(f"floor {self.floor:g} is watched by nobody: set guard to hold")
        return self

    @property
    def nested(self) -> bool:
        """Whether no pruned weight ever comes back."""
        return self.regrowth == 0 and self.guard != "step_back"


def _whole(number: float) -> bool:
    return abs(number - round(number)) < WHOLE and round(number) >= 1


class EvaluationPlan(Section):
    """``rounds`` evaluations spread over the run; score histograms of ``bins`` bins a class.

    ``epsilon``, at the delta of ``privacy``, is spent once by the validation rows over all
    rounds and once by the test rows; they train nothing. "none" counts exactly, which no
    epsilon covers: research only.

    Each value of the protected columns ``groups`` is also counted apart, numbers by the public
    ``cuts`` of their column, and so is each of the ``pools`` of institutions, by its name.
    """

    rounds: Annotated[int, Field(ge=1, le=1_000)] = 6
    bins: Annotated[int, Field(ge=2, le=1_000)] = 20
    noise: Literal["gaussian", "none"] = "gaussian"
    epsilon: Annotated[float, Field(gt=0, le=50)] = 1.0
    groups: tuple[str, ...] = ()
    cuts: dict[str, tuple[Annotated[float, Field(allow_inf_nan=False)], ...]] = {}
    pools: dict[Name, tuple[Name, ...]] = {}

    @field_validator("cuts", "pools")
    @classmethod
    def _ordered(cls, named: dict[str, Any]) -> dict[str, Any]:
        """Sort: the plan's hash ignores the order of keys, so a round's vector must, too."""
        return dict(sorted(named.items()))

    def __hash__(self) -> int:
        """Hash the content, which is frozen though dictionaries have no hash."""
        return hash(self.model_dump_json())


class ReleasePlan(Section):
    """How many institutions must sign off the finished model before it is final."""

    quorum: Annotated[int, Field(ge=1)]
