"""Tampering with a final release: its manifest, its files, and what institutions signed."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from common.consent.acts import Charter, Proposal
from common.crypto.keys import verifying_key
from common.entropy import SeededEntropy
from common.errors import PolicyError
from common.export.forms import compact_forms, hashes_of, model_bytes
from common.layout import layout_of
from common.plan import Plan, plan_from_dict
from common.pruning.compaction import compact
from common.release.folder import MANIFEST, VERDICTS, Folder
from common.release.forms import MODEL
from common.release.kept import Kept
from common.release.manifest import FILES, Budgets, Figure, Manifest, ReleasedFile, schema_hash
from common.release.verdict import Verdict, Word, joined
from server.certificates import certificate_pem, new_authority
from simulations.rehearsal import seeded_identity, seeded_roster
from simulations.tampering import edits
from simulations.tampering.edits import TARGETS, Edit, Files, Target

NOON = 1_700_000_000
NAMES = ("ash", "birch", "cedar", "elm")
SAYING = NAMES[:3]
"""Who signed off: as many as the plan asks for, so that each is needed."""


def alter_field(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Give one value of the manifest another, in the only form."""
    bundle = json.loads(files[MANIFEST])
    leaves = list(_leaves(bundle["act"]))
    place, key = leaves[draw.integers(len(leaves))]
    place[key] = _other(place[key], draw)
    return files | {MANIFEST: _canonical(bundle)}


def other_operators(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Have strangers sign a manifest that says something else."""
    act = Proposal.from_bytes(files[MANIFEST]).act
    signed = Proposal(act=act.model_copy(update={"model": draw.bytes(32).hex()}))
    signed = signed.signed(draw.bytes(32)).signed(draw.bytes(32))
    return files | {MANIFEST: signed.to_bytes()}


def drop_operator(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Take an operator's signature away, of which each is needed."""
    bundle = json.loads(files[MANIFEST])
    keys = sorted(bundle["signatures"])
    del bundle["signatures"][keys[draw.integers(len(keys))]]
    return files | {MANIFEST: _canonical(bundle)}


def change_weight(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Flip one bit of the model in one of its forms."""
    name = str(draw.choice(sorted(FILES)))
    return files | edits.flip({name: files[name]}, {}, draw)


def alter_verdict(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Have a sign-off say something else: by whom, of what, or no."""
    rows = files[VERDICTS].splitlines()
    place = int(draw.integers(len(rows)))
    said = json.loads(rows[place])
    key = str(draw.choice(sorted(said)))
    said[key] = _other(said[key], draw)
    rows[place] = _canonical(said)
    return files | {VERDICTS: b"".join(sorted(row + b"\n" for row in rows))}


def forge_verdict(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Put in a member's word that a stranger signed, or an objector's."""
    manifest = Proposal.from_bytes(files[MANIFEST]).digest
    name = str(draw.choice(NAMES))
    word: Word = "sign-off" if draw.integers(2) else "objection"
    forged = Verdict.make(f"run-{name}", manifest, name, word, draw.bytes(32))
    rows = [*files[VERDICTS].splitlines(keepends=True), forged.to_bytes() + b"\n"]
    return files | {VERDICTS: b"".join(sorted(rows))}


RELEASE_EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (
        edits.flip,
        edits.cut,
        edits.add,
        edits.lose,
        edits.drop_end,
        edits.drop_line,
        edits.repeat_line,
        edits.swap_lines,
        edits.splice_line,
        edits.splice_file,
        edits.swap_files,
        alter_field,
        other_operators,
        drop_operator,
        change_weight,
        alter_verdict,
        forge_verdict,
    )
}


@TARGETS.register("release")
def release(seed: int) -> Target:
    """Return a release that is final by just as many sign-offs as the plan asks for."""
    plan = _plan(seed)
    charter = _charter(plan, seed)
    files, others = (_release(charter, seed, number) for number in (1, 2))

    def found(files: Files) -> list[str]:
        with tempfile.TemporaryDirectory() as made:
            for name, data in files.items():
                (Path(made) / name).write_bytes(data)
            try:
                Kept.open(Folder(Path(made)), lambda _: charter).require_usable()
            except PolicyError as error:
                return [f"{type(error).__name__}: {error}"]
        return []

    return Target(files, others, found, RELEASE_EDITS)


def _plan(seed: int) -> Plan:
    keys = {name: verifying_key(_private(name, seed)).hex() for name in ("alice", "bob")}
    return plan_from_dict(
        {
            "name": "tampered",
            "schema": "credit_consortium",
            "operators": {"quorum": 2, "keys": keys},
            "institutions": [{"name": name, "size": 500} for name in NAMES],
        }
    )


def _charter(plan: Plan, seed: int) -> Proposal:
    stream = SeededEntropy(seed, "authority").stream("keys")
    _, authority = new_authority("tampered", NOON, stream)
    return Proposal(
        act=Charter(
            federation="tampered",
            sequence=1,
            issued=NOON,
            expires=NOON + 1,
            address="fed.example:9092",
            authority=certificate_pem(authority).decode(),
            plan=plan.to_dict(),
            roster=seeded_roster(plan.names, seed),
        )
    )


def _release(charter: Proposal, seed: int, number: int) -> Files:
    draw = np.random.default_rng([seed, number])
    act = charter.act
    assert isinstance(act, Charter)  # noqa: S101 - made just now
    plan = act.agreed
    size = layout_of(plan.model, plan.schema_.width).size
    mask = np.ones(size, np.bool_)
    weights = draw.normal(size=size).astype(np.float32)
    small = compact(plan.model, plan.schema_.width, weights, mask)
    files = {str(name): draw.bytes(400) for name in FILES} | compact_forms(small, plan)
    hashes = hashes_of(weights, mask)
    files |= {MODEL: model_bytes(weights, mask, plan), "plan.toml": plan.to_toml().encode()}
    manifest = Manifest(
        federation="tampered",
        run="first",
        run_id="ab" * 16,
        number=number,
        made=NOON,
        charter=charter.digest,
        plan=act.agreed.digest(),
        roster=act.roster.digest,
        revoked=(),
        schema_hash=schema_hash(act.agreed),
        model=hashes["model"],
        mask=hashes["mask"],
        weights=size,
        kept=size,
        rounds=60,
        budgets=_budgets(act.agreed),
        metrics={"test": {"auc": Figure(value=0.75, sd=0.01)}},
        files={name: ReleasedFile.of(files[name]) for name in FILES},
        versions={"fedprune": "0.1.0"},
    )
    bundle = Proposal(act=manifest)
    for operator in ("alice", "bob"):
        bundle = bundle.signed(_private(operator, seed))
    said = [
        Verdict.make(
            "first", bundle.digest, name, "sign-off", seeded_identity(name, seed).signing_private
        )
        for name in SAYING
    ]
    return files | {MANIFEST: bundle.to_bytes(), VERDICTS: joined(said)}


def _budgets(plan: Plan) -> Budgets:
    private = plan.privacy
    return Budgets(
        unit=private.unit,
        delta=private.delta,
        epsilon=None if private.epsilon == "none" else private.epsilon,
        epsilon_if_others_collude=2.0,
        evaluation_epsilon=plan.evaluation.epsilon,
    )


def _private(name: str, seed: int) -> bytes:
    return SeededEntropy(seed, name).stream("operator")(32)


def _leaves(value: Any) -> Any:
    """Yield each value that holds no others, by what holds it and its place there."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in parts:
        if isinstance(part, dict | list):
            yield from _leaves(part)
        else:
            yield value, key


def _other(value: object, draw: np.random.Generator) -> object:
    """Return another value of the same kind."""
    if isinstance(value, int):
        return value + int(draw.integers(1, 9))
    if isinstance(value, float):
        return value + float(draw.uniform(0.01, 0.1))
    text = str(value)
    place = int(draw.integers(len(text)))
    return text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]


def _canonical(fields: object) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
