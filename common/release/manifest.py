"""What a release says of its model, under one hash: what it is, is made of, and has cost.

The operators sign it as they sign every other act (`common.consent.acts`).
"""

import hashlib
from typing import Annotated, ClassVar, Final, Literal, Self, final, get_args

from pydantic import Field, model_validator

from common.consent.enrolment import MemberName
from common.crypto.body import Body, Time, hash_facts
from common.crypto.keys import SIGNED_RELEASE, SIGNED_WITHDRAWAL
from common.crypto.roster import Roster
from common.plan import Plan
from common.release.refusals import AlteredModelError, OtherPlanError
from common.trail.events import Count, Hash

FORMAT: Final = 1
"""Of manifests; raised with every change of their fields."""

FileName = Literal[
    "plan.toml",
    "model.safetensors",
    "model.onnx",
    "model.sparse",
    "compact.safetensors",
    "bill.cdx.json",
]
"""The model in each form, its plan, and the bill of materials of the machine that wrote it."""

FILES: Final[tuple[FileName, ...]] = get_args(FileName)
"""What every release consists of."""

BILL: Final = "bill.cdx.json"

LARGEST: Final = 2**28
"""Bytes of one file; a message holds no more."""

RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Line = Annotated[str, Field(max_length=200)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Budget = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@final
class ReleasedFile(Body):
    """A file by its content."""

    sha256: Hash
    size: Annotated[int, Field(ge=0, le=LARGEST)]

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return what a file of these bytes is known by."""
        return cls(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


@final
class Figure(Body):
    """A private metric, and its standard deviation by the noise on the counts."""

    value: Real
    sd: Real | None = None


@final
class Budgets(Body):
    """The most that the plan lets the model tell of a unit; None where nothing bounds it."""

    unit: Line
    delta: Budget
    epsilon: Budget | None
    epsilon_if_others_collude: Budget | None
    evaluation_epsilon: Budget | None

    def require(self, plan: Plan) -> None:
        """Raise `OtherPlanError` unless the plan says the same; what collusion costs it implies."""
        private, counted = plan.privacy, plan.evaluation
        planned = None if private.epsilon == "none" else private.epsilon
        evaluated = None if counted.noise == "none" else counted.epsilon
        said = (self.unit, self.delta, self.epsilon, self.evaluation_epsilon)
        if said != (private.unit, private.delta, planned, evaluated):
            raise OtherPlanError("the release tells other budgets than the plan: do not use it")


@final
class Manifest(Body):
    """A model that operators release; ``number`` counts the releases of one run.

    ``run`` is the folder's name, ``run_id`` what logs and ledgers call the run. ``charter``,
    ``plan`` and ``roster`` are what institutions have approved; ``roster`` is without those that
    were ``revoked`` since. ``model`` and ``mask`` are the hashes under which its last round knew
    the model. ``metrics`` go by what was counted, then by their names.
    """

    label: ClassVar = SIGNED_RELEASE
    kind: Literal["release"] = "release"
    format: Literal[1] = FORMAT
    federation: MemberName
    run: RunName
    run_id: Line
    number: Annotated[int, Field(ge=1)]
    made: Time
    charter: Hash
    plan: Hash
    roster: Hash
    revoked: tuple[MemberName, ...]
    schema_hash: Hash
    model: Hash
    mask: Hash
    weights: Count
    kept: Count
    rounds: Count
    budgets: Budgets
    metrics: dict[Line, dict[Line, Figure]]
    files: dict[FileName, ReleasedFile]
    versions: dict[Line, Line]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if {*self.files} != {*FILES}:
            raise ValueError("the files of a release are not those that every release has")
        if not 0 < self.kept <= self.weights:
            raise ValueError("no weight is left, or more than there are")
        return self

    @property
    def sparsity(self) -> float:
        """Share of the weights that are gone."""
        return 1 - self.kept / self.weights

    def require_agreed(self, plan: Plan, roster: Roster) -> None:
        """Return if this is the release of a plan's model to the members of its roster.

        Raises:
            OtherPlanError: it is of another plan, schema, budget or roster.
        """
        if self.plan != plan.digest():
            raise OtherPlanError(
                f"release of run {self.run}: its model is of plan {self.plan[:16]}, and"
                f" {plan.digest()[:16]} was approved: do not use it"
            )
        self.budgets.require(plan)
        if self.rounds != plan.training.rounds:
            raise OtherPlanError(
                f"release of run {self.run}: its model is of {self.rounds} rounds, and the plan has"
                f" {plan.training.rounds}: do not use it"
            )
        of_members = roster.without(*self.revoked).digest
        if (self.schema_hash, self.roster) != (schema_hash(plan), of_members):
            raise OtherPlanError(
                f"release of run {self.run}: its schema or roster is not the approved one: do not"
                " use it"
            )

    def require_file(self, name: str, data: bytes) -> None:
        """Raise `AlteredModelError` unless these are a file's bytes."""
        known = {str(one): file for one, file in self.files.items()}.get(name)
        if known != ReleasedFile.of(data):
            raise AlteredModelError(
                f"{name}: not the file of release {self.number} of run {self.run}, by its SHA-256:"
                " have it sent again"
            )


@final
class Withdrawal(Body):
    """Operators take a release back, for good."""

    label: ClassVar = SIGNED_WITHDRAWAL
    kind: Literal["withdrawal"] = "withdrawal"
    federation: MemberName
    run: RunName
    manifest: Hash
    made: Time
    reason: Line


def schema_hash(plan: Plan) -> str:
    """Return what a plan's schema is known by."""
    return hash_facts("schema", plan.to_dict()["schema"]).hex()
