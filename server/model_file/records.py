"""What a run and what was found beside it left behind: read, and held to be of this run."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from common.bill import Component, installed_bill
from common.errors import ConfigError
from common.plan import Plan
from common.release.folder import MANIFEST, RELEASES
from common.release.manifest import BILL, Manifest
from common.release.standing import Standing
from server.model_file.owner import NOTHING_SAID, OwnerFacts, read_owner
from server.model_file.study import Study, read_study
from server.report.files import RunFiles, json_of, read_run, reading

RUNS = "runs"
AUDIT_FILE = "audit.json"


@dataclass(frozen=True, slots=True)
class Materials:
    """Packages, and whose they are."""

    components: tuple[Component, ...]
    of_release: bool


@dataclass(frozen=True, slots=True)
class Released:
    """A release of the run whose signatures hold, and where it stands."""

    manifest: Manifest
    digest: str
    operators: int
    standing: Standing


@dataclass(frozen=True, eq=False)
class Records:
    """All that a model file is made of; what is not there is None."""

    run: RunFiles
    owner: OwnerFacts = NOTHING_SAID
    study: Study | None = None
    dense: RunFiles | None = None
    audit: Mapping[str, Any] | None = None
    released: Released | None = None
    materials: Materials | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """What a person names beside a run's directory."""

    facts: Path | None = None
    seeds: Path | None = None
    dense: Path | None = None
    audit: Path | None = None


NOTHING_BESIDE = Beside()


def read_records(directory: Path, beside: Beside = NOTHING_BESIDE) -> Records:
    """Read the run in ``directory``, its release if it lies in a server's home, and the rest.

    Raises:
        ConfigError: something was named that is not there, cannot be read, or is of another plan.
        PolicyError: a release lies there whose signatures do not hold.
    """
    run = read_run(directory)
    return Records(
        run=run,
        owner=read_owner(beside.facts),
        study=None if beside.seeds is None else read_study(beside.seeds, run.plan),
        dense=None if beside.dense is None else _dense(beside.dense, run.plan),
        audit=None if beside.audit is None else _audit(beside.audit, run.plan),
        released=_released(directory.resolve()),
        materials=_materials(directory),
    )


def _dense(directory: Path, plan: Plan) -> RunFiles:
    dense = read_run(directory)
    if dense.plan.model_copy(update={"pruning": plan.pruning, "name": plan.name}) != plan:
        raise ConfigError(
            f"{directory}: is not a run of this plan but for its pruning: run the plan with"
            " pruning.sparsity = 0"
        )
    if dense.plan.pruning.sparsity != 0:
        raise ConfigError(
            f"{directory}: prunes to {dense.plan.pruning.sparsity}: set pruning.sparsity to 0"
        )
    done, whole = dense.finished, dense.plan.training.rounds
    if dense.summary.get("interrupted") or done < whole:
        raise ConfigError(
            f"{directory}: was cut short after {done} of {whole} rounds: run it again to its end"
        )
    return dense


def _audit(directory: Path, plan: Plan) -> Mapping[str, Any]:
    path = directory / AUDIT_FILE
    if not path.is_file():
        raise ConfigError(f"{directory}: holds no {AUDIT_FILE}: fedprune-sim audit writes one")
    found = json_of(path)
    with reading(path):
        audited, findings = found["plan_sha256"], found["findings"]
        for one in findings:
            _ = [one[name] for name in ("attack", "verdict")]
            if not (isfinite(one["bound"]) and isfinite(one["claim"] or 0)):
                raise ValueError("a bound, or a claim, is no number")
    if audited != plan.digest():
        raise ConfigError(
            f"{path}: is of plan {audited[:16]}, the run of {plan.digest()[:16]}: audit its"
            " plan.toml"
        )
    return found


def _released(directory: Path) -> Released | None:
    """Return the release of a run that lies in a server's home; signatures are checked."""
    home, run = directory.parent.parent, directory.name
    if directory.parent.name != RUNS or not (home / RELEASES / run / MANIFEST).is_file():
        return None
    # Flower takes a second to import, which a run without a release does without.
    from server.home import ServerHome  # noqa: PLC0415
    from server.releases import open_release  # noqa: PLC0415

    kept = open_release(ServerHome(home), run)
    return Released(
        manifest=kept.manifest,
        digest=kept.bundle.digest,
        operators=len(kept.bundle.signatures),
        standing=kept.standing,
    )


def _materials(directory: Path) -> Materials | None:
    """Return the bill that a release kept beside the model, or else of what is installed here."""
    path = directory / BILL
    if path.is_file():
        with reading(path):
            return Materials(tuple(map(_component, json_of(path)["components"])), True)
    try:
        return Materials(installed_bill().components, False)
    except ConfigError:
        return None


def _component(entry: Mapping[str, Any]) -> Component:
    licences = [
        one.get("expression") or one["license"]["name"] for one in entry.get("licenses", ())
    ]
    hashes = [one["value"] for one in entry.get("properties", ())]
    return Component(entry["name"], entry["version"], *licences[:1] or [""], *hashes[:1])
