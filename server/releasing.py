"""The manifest of a finished run: what its directory holds, checked against what was noted of it.

A model is released as its rounds made it: checkpoint, journal and audit log must agree on it, and
each form of it must follow from it byte for byte.
"""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.bill import installed_bill
from common.consent.acts import Proposal
from common.durable import write_atomically
from common.errors import ConfigError
from common.plan import Plan, load_plan
from common.privacy.budgets import training_mechanism
from common.privacy.shared import abandoned_epsilon
from common.release.manifest import (
    BILL,
    FILES,
    Budgets,
    Figure,
    Manifest,
    ReleasedFile,
    schema_hash,
)
from common.release.refusals import AlteredModelError, NoReleaseError, OtherPlanError
from common.release.standing import manifest_of
from common.segments import TEST
from common.trail.events import ModelWritten
from common.trail.examination import read
from common.trail.file import FOLDER, files_of, still
from common.versions import OURS
from server.checkpoint import Checkpoint
from server.home import ServerHome
from server.journal import JOURNAL
from server.record import CHECKPOINT, is_finished
from server.releases import RUNS, folder_of
from server.run_trail import hashes_of
from server.store import forms_of, model_bytes
from server.tables import GROUPS, METRICS, MODEL, ROUNDS

PARTS = ("flwr", "torch", "opacus", "onnx")
"""Packages whose versions stand in the manifest itself; the bill has all."""


def propose_release(home: ServerHome, run: str, now: int) -> Proposal:
    """Propose to release the model of a finished run, under the charter in force.

    The bill of materials is written beside the model. ``now`` is in Unix seconds.

    Raises:
        ConfigError: the run is not there, not finished, or damaged.
        OtherPlanError: the charter is of another plan.
        AlteredModelError: a file is not what the run made of its model.
    """
    folder = home.path / RUNS / run
    last, plan = _last_number(home, run), _finished(folder)
    charter, bundle = home.charter, home.bundle
    if bundle is None or plan.digest() != charter.agreed.digest():
        raise OtherPlanError(
            f"run {run} is of plan {plan.digest()[:16]}, and {charter.agreed.digest()[:16]} is"
            " published: publish the run's plan to release its model"
        )
    saved = Checkpoint.from_bytes((folder / CHECKPOINT).read_bytes())
    model, hashes = saved.model, hashes_of(saved.model)
    _require_noted(home, saved.run, hashes)
    _, made = forms_of(model, plan)
    write_atomically(folder / BILL, installed_bill().to_json())
    made |= {
        "plan.toml": plan.to_toml().encode(),
        MODEL: model_bytes(model, plan),
        BILL: (folder / BILL).read_bytes(),
    }
    for name in FILES:
        if not (folder / name).is_file() or (folder / name).read_bytes() != made[name]:
            raise AlteredModelError(
                f"{folder / name}: is not what the run made of its model: restore the backup"
            )
    members = home.members
    revoked = [name for name in charter.roster.names if name not in members]
    return Proposal(
        act=Manifest(
            federation=charter.federation,
            run=run,
            run_id=saved.run,
            number=last + 1,
            made=now,
            charter=bundle.digest,
            plan=plan.digest(),
            roster=charter.roster.without(*revoked).digest,
            revoked=tuple(revoked),
            schema_hash=schema_hash(plan),
            model=hashes["model"],
            mask=hashes["mask"],
            weights=model.mask.size,
            kept=model.kept,
            rounds=plan.training.rounds,
            budgets=planned_budgets(plan),
            metrics=_metrics(folder),
            files={name: ReleasedFile.of(made[name]) for name in FILES},
            versions={
                "fedprune": OURS.release,
                "protocol": str(OURS.protocol),
                "python": platform.python_version(),
                **{part: version(part) for part in PARTS},
            },
        )
    )


def planned_budgets(plan: Plan) -> Budgets:
    """Return the most that a plan lets its model tell of a unit."""
    private = plan.privacy.epsilon != "none"
    return Budgets(
        unit=plan.privacy.unit,
        delta=plan.privacy.delta,
        epsilon=None if plan.privacy.epsilon == "none" else plan.privacy.epsilon,
        epsilon_if_others_collude=(
            abandoned_epsilon(plan, training_mechanism(plan).steps) if private else None
        ),
        evaluation_epsilon=None if plan.evaluation.noise == "none" else plan.evaluation.epsilon,
    )


def _finished(folder: Path) -> Plan:
    if not is_finished(folder):
        raise ConfigError(
            f"{folder}: no finished run: name one that `fedprune-server status` calls completed"
        )
    return load_plan(folder / "plan.toml")


def _last_number(home: ServerHome, run: str) -> int:
    try:
        return manifest_of(folder_of(home, run).bundle).number
    except NoReleaseError:
        return 0


def _require_noted(home: ServerHome, run: str, hashes: Mapping[str, str]) -> None:
    """Refuse a model that is not the one whose end the audit log tells of."""
    with still(home.path / FOLDER):
        events = [line.event for line in read(files_of(home.path / FOLDER)).lines]
    written = [one for one in events if isinstance(one, ModelWritten) and one.run == run]
    if not written or (written[-1].model, written[-1].mask) != (hashes["model"], hashes["mask"]):
        raise AlteredModelError(
            f"the model of run {run[:12]} is not the one that the audit log says was written:"
            " restore both from the same backup"
        )


def _metrics(folder: Path) -> dict[str, dict[str, Figure]]:
    """Return what the last round told of test rows, if it told it of the model that is left.

    Where the guard went back to an earlier model, those counts were another's.
    """
    lines = [json.loads(line) for line in (folder / JOURNAL).read_bytes().splitlines()]
    kept = [line for line in lines if line["event"] == "kept"]
    if len({line["model"] for line in kept[-2:]}) > 1:
        return {}
    rows: Mapping[str, list[Mapping[str, Any]]] = kept[-1]["rows"]
    told = {TEST: _figures(rows[ROUNDS][0], f"_{TEST}")}
    for row in rows.get(GROUPS, ()):
        if row["part"] == TEST:
            told[f"{TEST}/{row['group']}"] = _figures(row, "")
    return {name: figures for name, figures in told.items() if figures}


def _figures(row: Mapping[str, Any], end: str) -> dict[str, Figure]:
    cells = {name: (row[name + end], row[f"{name}{end}_sd"]) for name in METRICS}
    return {
        name: Figure(value=float(value), sd=None if sd == "" else float(sd))
        for name, (value, sd) in cells.items()
        if value != ""
    }
