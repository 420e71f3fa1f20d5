"""A release in plain words, for whoever signs, tests or uses it."""

from collections.abc import Iterator
from typing import Any

from common.release.kept import Kept
from common.release.manifest import Budgets, Manifest
from common.release.standing import Standing

Facts = Iterator[tuple[str, str]]


def manifest_facts(manifest: Manifest) -> Facts:
    """Tell what a manifest says of its model."""
    yield "release", f"{manifest.number} of run {manifest.run}, {manifest.federation}"
    yield "run id", manifest.run_id
    yield "plan hash", manifest.plan
    yield "roster hash", manifest.roster
    yield "schema hash", manifest.schema_hash
    yield "model hash", manifest.model
    yield (
        "weights",
        f"{manifest.kept:,} of {manifest.weights:,} ({manifest.sparsity:.1%} gone),"
        f" {manifest.rounds} rounds",
    )
    yield from _budgets(manifest.budgets)
    for part, figures in sorted(manifest.metrics.items()):
        shown = (
            f"{name} {one.value:.3f}" + (f" (sd {one.sd:.3f})" if one.sd is not None else "")
            for name, one in sorted(figures.items())
        )
        yield part, ", ".join(shown) or "nothing was told"
    for name, file in manifest.files.items():
        yield name, f"{file.size:,} bytes, SHA-256 {file.sha256}"
    yield "made by", ", ".join(f"{part} {said}" for part, said in sorted(manifest.versions.items()))


def standing_facts(standing: Standing) -> Facts:
    """Tell who has said what of a release."""
    yield "state", standing.state
    yield "signed off", _listed(standing.signed) + f"; {standing.quorum} needed"
    yield "objected", _listed(standing.objected)
    yield "not heard", _listed(standing.silent)
    if standing.withdrawn is not None:
        yield "withdrawn", standing.withdrawn


def release_fields(release: Kept) -> dict[str, Any]:
    """Return both for programs, and the hash by which a release is signed off."""
    standing = release.standing
    return {
        "release": release.bundle.digest,
        "manifest": release.manifest.model_dump(mode="json"),
        "run": standing.run,
        "state": standing.state,
        "quorum": standing.quorum,
        "signed_off": standing.signed,
        "objected": standing.objected,
        "not_heard": standing.silent,
        "withdrawn": standing.withdrawn,
    }


def _budgets(budgets: Budgets) -> Facts:
    if budgets.epsilon is None:
        yield "epsilon", "none: NO differential privacy"
    else:
        yield "epsilon", f"{budgets.epsilon:g} for each {budgets.unit}, at delta {budgets.delta:g}"
    if (other := budgets.epsilon_if_others_collude) is not None:
        yield "if all others collude", f"epsilon {other:.3g}"
    if (counted := budgets.evaluation_epsilon) is not None:
        yield "of held-out rows", f"epsilon {counted:g} for the figures here"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nobody"
