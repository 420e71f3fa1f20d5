"""What every output of a run says about how it was protected."""

import json

from common.plan import RECORD, Plan, PruningPlan
from common.segments import evaluation_rounds

NOISE_SOURCE = "csprng discrete gaussian"


def facts_of(plan: Plan) -> dict[str, str]:
    """Return the facts by name: budget, unit, noise, evaluation, aggregation."""
    private, secure = plan.privacy.epsilon != "none", plan.aggregation.kind == "secure"
    return {
        "planned_epsilon": f"{plan.privacy.epsilon}",
        "delta": f"{plan.privacy.delta:g}",
        "unit": unit_of(plan),
        "held_by_many": sum_of(plan),
        "noise": plan.privacy.noise if private else "none",
        "noise_source": NOISE_SOURCE if private else "none",
        "evaluation": evaluation_of(plan),
        "aggregation": plan.aggregation.kind,
        "protocol": "two trips, signed keys" if secure else "unmasked (research)",
    }


def sum_of(plan: Plan) -> str:
    """Say what whoever is in several institutions' tables spends."""
    if plan.privacy.epsilon == "none":
        return "no epsilon"
    most, count = plan.privacy.epsilon * len(plan.names), len(plan.names)
    return f"epsilon adds up over the institutions that hold a person, to {most:g} at all {count}"


def metadata_of(plan: Plan) -> dict[str, str]:
    """Return what every model file says: the plan's hash, architecture, features and the facts."""
    return {
        "plan_sha256": plan.digest(),
        "model": plan.model.model_dump_json(),
        "width": str(plan.schema_.width),
        "features": json.dumps(plan.schema_.feature_names),
        **facts_of(plan),
    }


def unit_of(plan: Plan) -> str:
    """Say whose presence in one institution's table is hidden."""
    if plan.privacy.unit == RECORD:
        return RECORD
    rows = plan.rows_per_unit
    return f"{plan.privacy.unit}, at most {rows} row{'s'[: rows != 1]} each"


def evaluation_of(plan: Plan) -> str:
    """Say what the metrics cost the records they are counted on."""
    evaluation = plan.evaluation
    if evaluation.noise == "none":
        return "exact counts, outside epsilon"
    return (
        f"discrete Gaussian counts: epsilon {evaluation.epsilon:g} for validation rows over"
        f" {len(evaluation_rounds(plan))} rounds, {evaluation.epsilon:g} for test rows, once"
        + (", groups and pools included" if evaluation.groups or evaluation.pools else "")
    )


def pruning_of(pruning: PruningPlan) -> str:
    """Say how far the model is pruned and by what."""
    goal = "as far as quality holds" if pruning.sparsity == "auto" else f"{pruning.sparsity:g}"
    said = (
        f"{goal} of {pruning.granularity}s by {pruning.score}, {pruning.allocation} allocation,"
        f" {pruning.schedule} schedule"
    )
    if pruning.penalty != "none":
        said += f", {pruning.penalty} penalty of {pruning.strength:g}"
    return said if pruning.nested else said + "; pruned weights may come back"


def warnings_of(plan: Plan) -> list[str]:
    """Return what must be said loudly wherever the plan is shown or begins to run."""
    warnings = []
    if plan.privacy.epsilon == "none":
        warnings.append("epsilon is none: NO differential privacy, the model may reveal records")
    if plan.aggregation.kind == "plain":
        warnings.append("aggregation is plain: the server sees every institution's update")
    if plan.evaluation.noise == "none":
        warnings.append("evaluation.noise is none: exact counts of held-out rows leave")
    return warnings
