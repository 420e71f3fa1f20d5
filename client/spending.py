"""What a plan has an institution release: the whole of it, and one round's part."""

import hashlib

from client.data import SHARES
from client.entries import Budget, Part, Release
from common.descriptor import Segment
from common.plan import Plan
from common.privacy.accounting import SampledGaussian
from common.privacy.budgets import training_mechanism
from common.privacy.shared import abandoned_mechanism
from common.segments import (
    GRADIENT,
    MAGNITUDES,
    TEST,
    UPDATE,
    VALIDATION,
    evaluation_mechanism,
    part_of,
)

PARTS: dict[str, Part] = {
    UPDATE: "train",
    GRADIENT: "train",
    VALIDATION: "validation",
    TEST: "test",
}
"""The rows that each segment of the vector reads."""


def budget_of(plan: Plan) -> Budget:
    """Return all that a run of the plan releases of an institution's rows."""
    mechanisms = {
        UPDATE: _training(plan),
        VALIDATION: evaluation_mechanism(plan, VALIDATION),
        TEST: evaluation_mechanism(plan, TEST),
    }
    releases = (_release(plan, name, mechanism) for name, mechanism in mechanisms.items())
    return Budget(_split(plan), tuple(releases))


def charges_of(plan: Plan, segments: tuple[Segment, ...]) -> tuple[Release, ...]:
    """Return what one round's vector releases: a round's steps, or once all counts of a part."""
    charges = []
    for segment in segments:
        # Magnitudes follow from the update; counts of groups and pools are priced with all rows'.
        if segment.name == MAGNITUDES or part_of(segment.name) != segment.name:
            continue
        if segment.name in (UPDATE, GRADIENT):
            mechanism, steps = _training(plan), plan.training.steps
        else:
            mechanism, steps = evaluation_mechanism(plan, segment.name), 1
        once = SampledGaussian(mechanism.noise_multiplier, mechanism.sample_rate, steps)
        charges.append(_release(plan, segment.name, once))
    return tuple(charges)


def _training(plan: Plan) -> SampledGaussian:
    """Return the mechanism that protects training rows against whoever opens the sums.

    Without masks the server sees an institution's own share of the noise alone.
    """
    secure = plan.aggregation.kind == "secure"
    return training_mechanism(plan) if secure else abandoned_mechanism(plan)


def _release(plan: Plan, segment: str, mechanism: SampledGaussian) -> Release:
    return Release(
        PARTS[segment],
        mechanism.noise_multiplier,
        mechanism.sample_rate,
        mechanism.steps,
        plan.privacy.delta,
        plan.privacy.unit,
    )


def _split(plan: Plan) -> str:
    """Name what decides which part a row falls into, so that two plans can be told to agree."""
    schema = plan.schema_
    cells = [column.model_dump_json() for column in (*schema.columns, schema.outcome)]
    key = schema.customer or "\n".join(cells)
    return hashlib.sha256(f"{SHARES}/{schema.customer is None}/{key}".encode()).hexdigest()[:16]
