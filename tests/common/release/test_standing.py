"""A release is what a quorum signed, and final by a quorum of others; nothing else counts."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from common.consent.acts import Charter, Proposal, charter_of
from common.consent.refusals import MalformedError, OtherFederationError, UnsignedError
from common.crypto.refusals import BadSignatureError, RevokedPeerError, UnknownPeerError
from common.plan import plan_from_dict
from common.release.manifest import FILES, Budgets, Manifest, ReleasedFile, Withdrawal, schema_hash
from common.release.refusals import (
    AlteredModelError,
    NotFinalError,
    OtherCharterError,
    OtherFormatError,
    OtherPlanError,
    OtherReleaseError,
    WithdrawnError,
)
from common.release.standing import read_release, require_released, roster_of, standing_of
from common.release.verdict import Verdict, Word, joined, parted
from simulations.rehearsal import seeded_identity
from tests.common.consent.test_acts import ALICE, BOB, MALLORY, PLAN, ROSTER
from tests.common.consent.test_acts import bundle as charter_bundle

HASH = "5a" * 32
CHARTER = charter_bundle()
AGREED: Charter = charter_of(CHARTER)


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "federation": "small",
        "run": "first",
        "run_id": "ab",
        "number": 1,
        "made": 1,
        "charter": CHARTER.digest,
        "plan": PLAN.digest(),
        "roster": ROSTER.digest,
        "revoked": (),
        "schema_hash": schema_hash(PLAN),
        "model": HASH,
        "mask": HASH,
        "weights": 10,
        "kept": 4,
        "rounds": PLAN.training.rounds,
        "budgets": budgets(),
        "metrics": {},
        "files": {name: ReleasedFile.of(name.encode()) for name in FILES},
        "versions": {},
    }
    return Manifest.model_validate(fields | changes)


def budgets(**changes: Any) -> Budgets:
    fields = {
        "unit": "record",
        "delta": 1e-3,
        "epsilon": 1.0,
        "epsilon_if_others_collude": 2.0,
        "evaluation_epsilon": None,
    }
    return Budgets.model_validate(fields | changes)


def released(*signers: bytes, **changes: Any) -> Proposal:
    made = Proposal(act=manifest(**changes))
    for private in signers or (ALICE, BOB):
        made = made.signed(private)
    return made


def said(bundle: Proposal, *names: str, word: Word = "sign-off") -> tuple[Verdict, ...]:
    return tuple(
        Verdict.make("first", bundle.digest, name, word, seeded_identity(name, 0).signing_private)
        for name in names
    )


def withdrawal(bundle: Proposal, *signers: bytes) -> Proposal:
    act = Withdrawal(
        federation="small", run="first", manifest=bundle.digest, made=2, reason="a wrong table"
    )
    made = Proposal(act=act)
    for private in signers:
        made = made.signed(private)
    return made


def test_a_manifest_has_one_form() -> None:
    bundle = released()
    data = bundle.to_bytes()
    assert read_release(data) == bundle
    assert require_released(bundle, CHARTER).sparsity == pytest.approx(0.6)
    with pytest.raises(MalformedError, match="canonical form"):
        read_release(json.dumps(json.loads(data)).encode())
    with pytest.raises(MalformedError, match="not the manifest of a release"):
        read_release(CHARTER.to_bytes())
    later = json.loads(data)
    later["act"]["format"] = 7
    with pytest.raises(OtherFormatError, match="has format 7"):
        read_release(json.dumps(later).encode())
    with pytest.raises(ValidationError, match="files of a release"):
        manifest(files={})
    with pytest.raises(ValidationError, match="no weight is left"):
        manifest(kept=0)


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"plan": HASH}, OtherPlanError, "its model is of plan 5a5a"),
        ({"schema_hash": HASH}, OtherPlanError, "schema or roster"),
        ({"roster": HASH}, OtherPlanError, "schema or roster"),
        ({"revoked": ("elm",)}, OtherPlanError, "schema or roster"),
        ({"budgets": budgets(epsilon=0.5)}, OtherPlanError, "other budgets"),
        ({"budgets": budgets(epsilon=None)}, OtherPlanError, "other budgets"),
        ({"budgets": budgets(unit="customer")}, OtherPlanError, "other budgets"),
        ({"budgets": budgets(evaluation_epsilon=1.0)}, OtherPlanError, "other budgets"),
        ({"charter": HASH}, OtherCharterError, "charter 5a5a"),
        ({"rounds": PLAN.training.rounds + 1}, OtherPlanError, "its model is of"),
        ({"federation": "other"}, OtherFederationError, "of other, not of small"),
    ],
)
def test_a_release_of_something_else_is_refused(
    changes: dict[str, Any], error: type[Exception], problem: str
) -> None:
    require_released(released(), CHARTER)
    with pytest.raises(error, match=problem):
        require_released(released(**changes), CHARTER)


def test_a_quorum_of_operators_and_nobody_else_releases() -> None:
    for signers in ((ALICE,), (ALICE, MALLORY), (ALICE, BOB, MALLORY)):
        with pytest.raises(UnsignedError):
            require_released(released(*signers), CHARTER)


def test_two_thirds_make_it_final_and_an_objection_is_none_of_them() -> None:
    bundle = released()
    assert AGREED.agreed.release_quorum == 3
    before = standing_of(bundle, AGREED, said(bundle, "ash", "birch"), None)
    assert (before.state, before.silent) == ("offered", ("cedar", "elm"))
    with pytest.raises(NotFinalError, match=r"2 of 3 .*\(ash, birch\)"):
        before.require_final()
    final = standing_of(bundle, AGREED, said(bundle, "ash", "birch", "elm"), None)
    assert final.state == "final"
    final.require_final()
    against = said(bundle, "elm", word="objection")
    both = standing_of(bundle, AGREED, said(bundle, "ash", "birch", "elm") + against, None)
    assert (both.state, both.objected) == ("offered", ("elm",))
    against = said(bundle, "elm", "ash", word="objection")
    assert standing_of(bundle, AGREED, against, None).state == "rejected"
    twice = said(bundle, "ash", "ash", "ash")
    assert standing_of(bundle, AGREED, twice, None).signed == ("ash",)


def test_only_members_words_on_this_release_count() -> None:
    bundle, other = released(), released(number=2)
    with pytest.raises(OtherReleaseError, match="the sign-off of 'ash' is of release"):
        standing_of(bundle, AGREED, said(other, "ash"), None)
    with pytest.raises(UnknownPeerError, match="'oak'"):
        standing_of(bundle, AGREED, said(bundle, "oak"), None)
    (own,) = said(bundle, "ash")
    for change in ({"word": "objection"}, {"name": "birch"}, {"run": "second"}):
        with pytest.raises(BadSignatureError, match="is not signed by its key"):
            standing_of(bundle, AGREED, [own.model_copy(update=change)], None)
    shrunk = released(revoked=("elm",), roster=ROSTER.without("elm").digest)
    require_released(shrunk, CHARTER)
    with pytest.raises(RevokedPeerError, match="'elm' was revoked"):
        standing_of(shrunk, AGREED, said(shrunk, "elm"), None)
    roster = roster_of(manifest(), AGREED, "cedar")
    with pytest.raises(RevokedPeerError, match="'cedar' was revoked"):
        said(bundle, "cedar")[0].require(bundle.digest, roster)


def test_operators_withdraw_this_release_for_good() -> None:
    bundle = released()
    final = said(bundle, "ash", "birch", "elm")
    gone = standing_of(bundle, AGREED, final, withdrawal(bundle, ALICE, BOB))
    assert gone.state == "withdrawn"
    with pytest.raises(WithdrawnError, match="a wrong table"):
        gone.require_final()
    with pytest.raises(UnsignedError):
        standing_of(bundle, AGREED, final, withdrawal(bundle, ALICE))
    with pytest.raises(OtherReleaseError, match="of another release"):
        standing_of(bundle, AGREED, final, withdrawal(released(number=2), ALICE, BOB))
    with pytest.raises(OtherReleaseError, match="of another release"):
        standing_of(bundle, AGREED, final, CHARTER)


def test_a_file_is_known_by_every_bit() -> None:
    made = manifest()
    made.require_file("model.onnx", b"model.onnx")
    for name, data in (("model.onnx", b"model.onny"), ("model.sparse", b""), ("other", b"other")):
        with pytest.raises(AlteredModelError, match=f"{name}: not the file of release 1"):
            made.require_file(name, data)


def test_words_are_written_in_one_order() -> None:
    verdicts = said(released(), "elm", "ash")
    data = joined(verdicts)
    assert joined(reversed(verdicts)) == joined(verdicts * 2) == data
    assert {*parted(data)} == {*verdicts}
    assert parted(b"") == ()
    lines = data.splitlines(keepends=True)
    for wrong in (b"".join(reversed(lines)), data + lines[0], data[:-1], b"\n", data + b"{}\n"):
        with pytest.raises(MalformedError):
            parted(wrong)


def test_a_plan_says_how_many_must_sign_off() -> None:
    fields = PLAN.to_dict()
    assert "release" not in fields
    asked = plan_from_dict(fields | {"release": {"quorum": 4}})
    assert (asked.release_quorum, asked.to_dict()["release"]) == (4, {"quorum": 4})
    assert asked.digest() != PLAN.digest()
    with pytest.raises(Exception, match="a release quorum of 5 among 4 institutions is out of"):
        plan_from_dict(fields | {"release": {"quorum": 5}})
    with pytest.raises(Exception, match=r"release\.quorum 0"):
        plan_from_dict(fields | {"release": {"quorum": 0}})
