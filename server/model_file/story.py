"""A model file from a run's records: every fact of the catalogue, told or missing."""

from collections.abc import Callable, Mapping

from common.facts import pruning_of, warnings_of
from server.model_file import advice, agreed, found, kept, pruned
from server.model_file.agreed import Values
from server.model_file.catalogue import CHAPTERS, Part, Slot
from server.model_file.checks import checks_of
from server.model_file.records import Records
from server.model_file.shapes import Chapter, Fact, Missing, ModelFile, Told
from server.report.story import CUT_SHORT, SIMULATED

TELLERS: Mapping[str, Callable[[Records], Values]] = {
    "identity": agreed.identity,
    "purpose": agreed.purpose,
    "data": agreed.data,
    "training": agreed.training,
    "privacy": agreed.privacy,
    "pruning": pruned.pruning,
    "performance": found.performance,
    "groups": found.groups,
    "stability": found.stability,
    "decisions": kept.decisions,
    "limits": advice.limits,
    "monitoring": advice.monitoring,
    "materials": kept.materials,
    "reproduction": kept.reproduction,
}


def file_of(records: Records) -> ModelFile:
    """Return the model file of what was read."""
    run = records.run
    plan, kind = run.plan, "simulated" if run.simulated else "federated"
    warnings = [*warnings_of(plan), *[SIMULATED] * run.simulated]
    if run.finished < plan.training.rounds:
        warnings.append(CUT_SHORT)
    return ModelFile(
        name=plan.name,
        lead=f"A {kind} model of {plan.schema_.name} by {len(plan.names)} institutions:"
        f" {plan.model.kind}, {plan.schema_.width} inputs; pruned: {pruning_of(plan.pruning)}.",
        warnings=tuple(warnings),
        chapters={part.key: _chapter(part, TELLERS[part.key](records)) for part in CHAPTERS},
        checks=checks_of(records),
    )


def _chapter(part: Part, values: Values) -> Chapter:
    facts = {slot.key: _fact(slot, values.get(slot.key)) for slot in part.slots}
    return Chapter(title=part.title, words=part.words, facts=facts, rules=part.rules)


def _fact(slot: Slot, value: object) -> Fact:
    if value is None:
        return Missing(label=slot.label, remedy=slot.remedy)
    return Told.model_validate({"label": slot.label, "value": value})
