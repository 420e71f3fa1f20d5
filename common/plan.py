"""The federation plan: everything the parties agree on, in one TOML file with one hash.

An institution approves a plan by its hash; whatever the hash does not cover is not agreed.
The feature schema is therefore part of the plan: a shipped schema may be named in the file,
and its content is what is hashed. What one section alone must hold, it checks (`common.sections`).
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import Field, field_validator, model_validator

from common.consent.operators import Operators
from common.crypto.terms import Terms, default_threshold, withstood
from common.errors import PlanError
from common.groups import LEAST, require_groups, require_pools
from common.parsing import fields_of, parse_toml, read_bytes, read_toml, validated
from common.pruning.scores import MEAN_MAGNITUDE
from common.schema import FeatureSchema, load_schema, shipped_schemas
from common.sections import (
    RECORD,
    AggregationPlan,
    EvaluationPlan,
    InstitutionPlan,
    ModelPlan,
    Name,
    OptimiserPlan,
    PrivacyPlan,
    PruningPlan,
    ReleasePlan,
    Section,
    TrainingPlan,
)

__all__ = [
    "RECORD",
    "TRAIN_SHARE",
    "ModelPlan",
    "OptimiserPlan",
    "Plan",
    "PruningPlan",
    "load_draft",
    "load_plan",
    "plan_from_dict",
]

TRAIN_SHARE = 0.72
"""Share of an institution's rows that train (validation .08, test .20)."""

LONGEST_STEP = 100.0
"""Learning rate times clipping norm; a tenth of it already learns nothing."""

GUARD_EVALUATIONS = 3
"""What a guard compares at least: before a cut, after it, and at the end."""


class Plan(Section):
    """What a federation agrees on; ``operators`` sign for one that is founded, not simulated.

    Without ``release``, two thirds of the institutions sign the model off; a plan from before there
    were releases keeps its hash.
    """

    version: Literal[1] = 1
    name: Name
    schema_: FeatureSchema = Field(alias="schema")
    institutions: tuple[InstitutionPlan, ...]
    operators: Operators | None = None
    model: ModelPlan = ModelPlan()
    training: TrainingPlan = TrainingPlan()
    privacy: PrivacyPlan = PrivacyPlan()
    aggregation: AggregationPlan = AggregationPlan()
    optimiser: OptimiserPlan = OptimiserPlan()
    pruning: PruningPlan = PruningPlan()
    evaluation: EvaluationPlan = EvaluationPlan()
    release: ReleasePlan | None = None

    @field_validator("schema_", mode="before")
    @classmethod
    def _shipped_schema(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        # A name, never a path: a plan must not make its reader open a file of its choice.
        if value not in shipped_schemas():
            raise ValueError(
                f"unknown schema {value!r}; known: {', '.join(shipped_schemas())},"
                " a .toml file beside the plan that you write, or the schema written out"
            )
        return load_schema(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [institution.name for institution in self.institutions]
        if len(set(names)) != len(names):
            raise ValueError("an institution is listed twice: give each its own name")
        least = 3 if self.aggregation.kind == "secure" else 1
        if len(names) < least:
            raise ValueError(
                f"{len(names)} institutions are fewer than {least}: a sum over so few shows each"
            )
        if not least <= self.threshold <= len(names) or 2 * self.threshold <= len(names):
            raise ValueError(
                f"threshold {self.threshold} of {len(names)} institutions is out of range:"
                f" set aggregation.threshold from {max(least, len(names) // 2 + 1)} to {len(names)}"
            )
        most = withstood(self.threshold, len(names))
        if self.aggregation.kind == "secure" and self.aggregation.colluders > most:
            raise ValueError(
                f"threshold {self.threshold} of {len(names)} institutions withstands {most}"
                f" colluders, not {self.aggregation.colluders}: lower aggregation.colluders"
            )
        if self.release_quorum > len(names):
            raise ValueError(
                f"a release quorum of {self.release_quorum} among {len(names)} institutions is out"
                " of reach: lower release.quorum"
            )
        self._require_unit()
        self._require_sharing()
        self._require_prunable()
        require_groups(self.schema_, self.evaluation.groups, self.evaluation.cuts)
        require_pools(self.evaluation.pools, names, self.least_pool)
        smallest = min(institution.size for institution in self.institutions)
        largest = max(institution.size for institution in self.institutions)
        noised = self.privacy.epsilon != "none" or self.evaluation.noise != "none"
        if noised and self.privacy.delta * largest >= 1:
            raise ValueError(
                f"delta {self.privacy.delta:g} is not below 1 / declared size {largest}:"
                f" set privacy.delta below {1 / largest:.2g}"
            )
        if len(names) * (largest + 2) >= 2 ** (self.aggregation.ring_bits - 1):
            raise ValueError(
                f"counts of {len(names)} x {largest} records overflow a ring of"
                f" {self.aggregation.ring_bits} bits: raise aggregation.ring_bits"
            )
        rate = self.training.learning_rate
        if rate != "auto" and rate * self.privacy.max_grad_norm > LONGEST_STEP:
            raise ValueError(
                f"learning_rate {rate:g} at max_grad_norm {self.privacy.max_grad_norm:g} may move"
                f" weights by more than {LONGEST_STEP:g} a step: lower training.learning_rate"
            )
        if smallest * TRAIN_SHARE * self.training.sample_rate < 1:
            raise ValueError(
                f"sample_rate {self.training.sample_rate} of {smallest} declared rows expects less"
                " than one row a batch: raise training.sample_rate"
            )
        return self

    def _require_unit(self) -> None:
        """Refuse a unit that the schema does not name, or names in two senses."""
        unit, customer = self.privacy.unit, self.schema_.customer
        if customer == RECORD:
            raise ValueError(
                f"the schema's customer column has the name of the other unit, {RECORD!r}:"
                " rename the column"
            )
        if unit not in (RECORD, customer):
            known = RECORD if customer is None else f"{RECORD}, {customer}"
            raise ValueError(
                f"unknown unit {unit!r}; known: {known}: set privacy.unit to one of them, or name"
                " the customer column in the schema"
            )
        if unit == RECORD and self.privacy.rows_per_customer != 1:
            raise ValueError(
                f"rows_per_customer {self.privacy.rows_per_customer} caps nothing where the unit is"
                " a record: set privacy.unit to the schema's customer column, or leave it out"
            )

    def _require_sharing(self) -> None:
        """Refuse noise that no round could share, and a server's step where there is none."""
        if self.privacy.noise == "local":
            if self.optimiser != OptimiserPlan():
                raise ValueError(
                    "an optimiser acts on shared noise alone: set privacy.noise to shared"
                )
            return
        if self.training.steps != 1:
            raise ValueError(
                f"shared noise covers one step a round, not {self.training.steps}:"
                " set training.steps to 1"
            )
        if self.noise_shares < 2:
            raise ValueError(
                f"threshold {self.threshold} less {self.aggregation.colluders} colluders leaves"
                f" {self.noise_shares} noise shares: lower aggregation.colluders"
            )

    def _require_prunable(self) -> None:
        """Refuse pruning of what the model lacks, and by what institutions cannot send."""
        if self.pruning.score == MEAN_MAGNITUDE and self.privacy.noise == "shared":
            raise ValueError(
                "with shared noise no institution has weights of its own: set pruning.score to"
                " magnitude or privacy.noise to local"
            )
        if self.pruning.granularity == "neuron" and self.model.kind == "logistic":
            raise ValueError("a logistic model has no neurons: set pruning.granularity to weight")
        if self.pruning.penalty == "group_lasso" and self.model.kind == "logistic":
            raise ValueError("a logistic model has no neurons: set pruning.penalty to l1")
        rounds = self.training.rounds
        evaluations = min(self.evaluation.rounds, self.training.rounds)
        if self.pruning.guard != "off" and evaluations < GUARD_EVALUATIONS:
            raise ValueError(
                f"{evaluations} evaluations are too few to guard pruning: set evaluation.rounds to"
                f" {GUARD_EVALUATIONS} or more"
            )
        seen = [rounds * (index + 1) // evaluations for index in range(evaluations)]
        if self.pruning.sparsity == "auto" and not any(
            self.pruning.start * rounds <= number for number in seen[:-2]
        ):
            raise ValueError(
                f"no evaluation from pruning.start {self.pruning.start:g} on leaves two to judge"
                " what a search tries: raise evaluation.rounds or lower pruning.start"
            )
        if self.pruning.floor is not None and not (self.evaluation.groups or self.evaluation.pools):
            raise ValueError(
                f"floor {self.pruning.floor:g} has nobody above it: name evaluation.groups or"
                " evaluation.pools"
            )

    @property
    def customer_cap(self) -> int | None:
        """The most rows of a customer that count, where a customer is the unit; else None."""
        return None if self.privacy.unit == RECORD else self.privacy.rows_per_customer

    @property
    def rows_per_unit(self) -> int:
        """The most rows in which one unit of privacy has a part."""
        return self.customer_cap or 1

    @property
    def row_norm(self) -> float:
        """The norm to which each row's gradient is clipped, so that a unit's sum has the plan's."""
        return self.privacy.max_grad_norm / self.rows_per_unit

    @property
    def noise_shares(self) -> int:
        """Shares of shared noise that every opened sum holds and no colluder knows."""
        return self.threshold - self.aggregation.colluders

    @property
    def least_pool(self) -> int:
        """Fewest institutions of a sum apart: beside the colluders, two others hide each other."""
        secure = self.aggregation.kind == "secure"
        return max(LEAST, self.aggregation.colluders + 2) if secure else LEAST

    @property
    def threshold(self) -> int:
        """Least number of survivors of a round."""
        return self.aggregation.threshold or default_threshold(len(self.institutions))

    @property
    def least(self) -> int:
        """Fewest institutions whose sum may be opened."""
        return self.terms.least if self.aggregation.kind == "secure" else self.threshold

    @property
    def release_quorum(self) -> int:
        """Institutions that must sign the model off: two thirds, rounded up, unless it is said."""
        return self.release.quorum if self.release else -(-2 * len(self.institutions) // 3)

    @property
    def terms(self) -> Terms:
        """Threshold and colluders, as secure aggregation holds its parties to them."""
        return Terms(self.threshold, self.aggregation.colluders)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the institutions, sorted."""
        return tuple(sorted(institution.name for institution in self.institutions))

    @property
    def largest_size(self) -> int:
        """The largest declared size: the most an institution counts in a bin."""
        return max(institution.size for institution in self.institutions)

    def weight(self, name: str) -> float:
        """Averaging weight of an institution, in (0, 1]: its share of the largest size."""
        return self._sizes[name] / self.largest_size

    def expected_batch(self, name: str) -> float:
        """Rows a Poisson batch of this institution holds on average, by its declared size."""
        return self.training.sample_rate * TRAIN_SHARE * self._sizes[name]

    @property
    def _sizes(self) -> dict[str, int]:
        return {institution.name: institution.size for institution in self.institutions}

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, the schema written out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_toml(self) -> str:
        """Return the effective plan, every default written out."""
        return tomli_w.dumps(self.to_dict())

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON form, in hexadecimal."""
        return self.hexdigest

    @cached_property
    def hexdigest(self) -> str:
        """What `digest` returns, computed once: every trip asks for it."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(b"fedprune/1/plan/" + text.encode()).hexdigest()


def plan_from_dict(fields: dict[str, Any], source: str = "the plan") -> Plan:
    """Validate plain values; every problem is named in one `PlanError` line."""
    return validated(Plan.model_validate, fields, source, PlanError)


def load_plan(path: Path) -> Plan:
    """Read and validate a plan file; raise `PlanError` naming the file and each problem."""
    return read_toml(Plan.model_validate, path, PlanError)


def load_draft(path: Path) -> Plan:
    """Read the plan that somebody writes here: its schema may be a file beside it, by its name.

    The file's content becomes part of the plan. A plan of others is read by `load_plan`, which
    opens no other file.

    Raises:
        ConfigError: naming the plan or the schema, and each problem.
    """
    fields = fields_of(read_bytes(path, PlanError), str(path), PlanError)
    named = fields.get("schema")
    if isinstance(named, str) and named.endswith(".toml") and Path(named).name == named:
        fields["schema"] = load_schema(path.parent / named)
    return plan_from_dict(fields, str(path))


def plan_from_toml(data: bytes, source: str) -> Plan:
    """Validate the content of a plan file; raise `PlanError` naming ``source`` and each problem."""
    return parse_toml(Plan.model_validate, data, source, PlanError)
