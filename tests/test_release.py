"""A model's way from the end of its run to an institution's scores, by people's commands."""

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import client.release_cli
from client.consent import read_pin
from client.keys import read_identity
from client.scorer import BESIDES
from common import messages as wire
from common.consent.acts import Proposal
from common.crypto.refusals import BadSignatureError, RevokedPeerError, UnknownPeerError
from common.crypto.roster import Identity
from common.export.forms import compact_forms, model_bytes, read_model
from common.export.onnx_file import ONNX
from common.export.sparse_file import SPARSE
from common.pruning.compaction import compact
from common.release.folder import Folder
from common.release.kept import Kept
from common.release.manifest import FILES, Manifest, ReleasedFile
from common.release.refusals import OtherReleaseError
from common.release.standing import Standing, manifest_of, read_release
from common.release.verdict import Verdict
from common.trail.counts import Counts
from common.trail.events import (
    Event,
    Objected,
    Refused,
    ReleaseFinal,
    ReleaseOffered,
    ReleaseReceived,
    ReleaseWithdrawn,
    ScoredUnreleased,
    SignedOff,
    VerdictTaken,
)
from common.trail.file import FileTrail
from common.trail.interface import Trail
from server import release_app, release_cli
from server.releases import take_verdict
from tests.founding import NAMES, Federation, good, refused
from tests.releases import (
    RUN,
    copy_of,
    finished,
    handed,
    installed,
    mark_at,
    noted,
    release,
    sign_off,
)


@pytest.fixture(scope="module")
def _ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with installed(tmp_path_factory.mktemp("installed")):
        yield finished(tmp_path_factory.mktemp("federation"))


@pytest.fixture(scope="module")
def _offered(_ended: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    federation = _ended.copy_to(tmp_path_factory.mktemp("offered"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release_cli, "_hand_round", lambda place, run: None)
        told = good(release(federation, "server", "offer", RUN)).out
        assert "Not in effect: 1 more of the operators must sign" in told
        good(federation.agree(f"release-{RUN}"))
        good(release(federation, "server", "offer", RUN))
        yield federation


@pytest.fixture
def ended(_ended: Federation, tmp_path: Path) -> Federation:
    """Return a federation whose run is finished."""
    return _ended.copy_to(tmp_path)


@pytest.fixture
def offered(_offered: Federation, tmp_path: Path) -> Federation:
    """Return one whose operators have released the model; no institution has it yet."""
    return _offered.copy_to(tmp_path)


def manifest_at(home: Path) -> Manifest:
    return manifest_of(read_release((home / "releases" / RUN / "release.json").read_bytes()))


def score(federation: Federation, name: str, *more: object, model: object = None) -> Any:
    folder = federation.at(name)
    model = model or folder / "releases" / RUN
    files = ("--model", model, "--data", folder / "records.csv", "--out", folder / "scores.csv")
    return federation.do(name, "score", *files, "--force", *more)


def kinds(federation: Federation, name: str, *events: type) -> list[str]:
    return [type(one).__name__ for one in noted(federation.at(name)) if isinstance(one, events)]


def test_a_release_is_handed_round_signed_off_and_final_everywhere(offered: Federation) -> None:
    told = json.loads(good(release(offered, "server", "show", RUN, "--json")).out)
    assert [told[name] for name in ("holds", "absent", "refused")] == [None] * 3
    reached = handed(offered)
    assert (reached.holds, reached.absent, reached.refused) == (NAMES, (), ())
    refused(score(offered, "ash"), "is not final: 0 of 3 institutions needed have signed it off")
    sign_off(offered, "ash", "birch")
    handed(offered)
    refused(score(offered, "ash"), "2 of 3 institutions needed have signed it off (ash, birch)")
    sign_off(offered, "elm")
    handed(offered)
    for name in NAMES:
        shown = good(release(offered, name, "show", RUN)).out
        assert re.search(r"^state +final$", shown, re.MULTILINE)
        brief = good(release(offered, name, "verify", RUN)).out
        assert " ".join(brief.split()) in " ".join(shown.split())
        good(score(offered, name))
        shown = good(release(offered, name, "list")).out
        assert "final" in shown
    assert "3 of 3" in good(release(offered, "server", "list")).out
    said = {"run": RUN, "state": "final", "quorum": 3, "signed_off": ["ash", "birch", "elm"]}
    reach: dict[str, object] = {"holds": [*NAMES], "absent": [], "refused": []}
    sides: tuple[tuple[str, dict[str, object], dict[str, object]], ...] = (
        ("server", {}, reach),
        ("ash", {"said_here": "sign-off"}, {}),
        ("cedar", {"said_here": None}, {}),
    )
    for name, here, more in sides:
        told = json.loads(good(release(offered, name, "show", RUN, "--json")).out)
        (listed,) = json.loads(good(release(offered, name, "list", "--json")).out)
        assert listed.items() >= (said | here).items()
        assert listed["manifest"]["run"] == RUN
        # By which a person, or a program, names it to sign it off.
        assert told["release"].startswith(mark_at(offered, "ash"))
        assert told == listed | more
    shown = good(release(offered, "server", "show", RUN)).out
    assert "not heard" in shown
    assert "holds" not in shown.partition("absent")[2]
    mine, server = (ReleaseReceived, SignedOff, ReleaseFinal), (ReleaseOffered, VerdictTaken)
    assert kinds(offered, "ash", *mine) == ["ReleaseReceived", "SignedOff", "ReleaseFinal"]
    assert kinds(offered, "cedar", *mine) == ["ReleaseReceived", "ReleaseFinal"]
    events = kinds(offered, "server", *server, ReleaseFinal)
    assert events == ["ReleaseOffered", *["VerdictTaken"] * 3, "ReleaseFinal"]
    # The same once more tells nothing new, and changes nothing.
    assert handed(offered).holds == NAMES
    assert kinds(offered, "server", *server, ReleaseFinal) == events


def test_the_manifest_says_what_it_is_answerable_for(offered: Federation) -> None:
    manifest = manifest_at(offered.server)
    plan, charter = offered.home.charter.agreed, offered.home.bundle
    assert charter is not None
    assert (manifest.plan, manifest.charter) == (plan.digest(), charter.digest)
    assert manifest.roster == offered.home.charter.roster.digest
    budgets = manifest.budgets
    assert (budgets.epsilon, budgets.evaluation_epsilon, budgets.delta) == (1.0, 1.0, 1e-3)
    assert budgets.epsilon_if_others_collude == pytest.approx(1.0, rel=0.01)
    figure = manifest.metrics["test"]["auc"]
    assert 0 < figure.value < 1
    assert figure.sd is not None
    assert figure.sd > 0
    assert {*manifest.files} == {*FILES}
    assert 0 < manifest.kept < manifest.weights
    folder = offered.server / "releases" / RUN
    bill = json.loads((folder / "bill.cdx.json").read_bytes())
    assert bill["metadata"]["component"]["name"] == "fedprune"
    assert {"fedprune", "protocol", "torch", "flwr"} < manifest.versions.keys()
    shown = good(release(offered, "server", "show", RUN)).out
    assert "if all others collude" in shown
    assert manifest.files["model.onnx"].sha256 in shown


def test_objections_count_against_it_and_their_reason_stays_at_home(offered: Federation) -> None:
    handed(offered)
    why = "worse than ours on SECRET-SEGMENT"
    mark = mark_at(offered, "ash")
    good(release(offered, "ash", "object", RUN, mark, "--reason", why))
    told = refused(release(offered, "ash", "sign-off", RUN, mark), "ash has said 'objection' of")
    assert "signatures are not taken back" in told
    sign_off(offered, "birch", "cedar")
    handed(offered)
    assert "state" in good(release(offered, "server", "verify", RUN)).out
    assert "offered" in good(release(offered, "server", "list")).out
    good(release(offered, "elm", "object", RUN, mark))
    handed(offered)
    assert "rejected" in good(release(offered, "cedar", "verify", RUN)).out
    assert [e.reason for e in noted(offered.at("ash")) if isinstance(e, Objected)] == [why]
    others = [path for path in offered.path.rglob("*") if path.is_file()]
    holding = [path for path in others if b"SECRET-SEGMENT" in path.read_bytes()]
    assert {path.relative_to(offered.path).parts[0] for path in holding} == {"ash"}


def test_figures_are_shown_to_the_institution_alone(offered: Federation) -> None:
    handed(offered)
    shown = json.loads(good(offered.do("ash", "validate", RUN, "--json")).out)
    here = shown["here"]["all rows"]
    assert 30 < here["rows"] < 90
    assert here.keys() == {"rows", "auc", "pr_auc", "ks", "brier", "calibration"}
    assert shown["federation"]["auc"]["value"] == pytest.approx(
        manifest_at(offered.at("ash")).metrics["test"]["auc"].value
    )
    other = offered.at("birch") / "records.csv"
    told = good(offered.do("ash", "validate", RUN, "--data", other)).out
    assert "300" in told
    assert "all institutions" in told
    verdict = Verdict.make(RUN, "0" * 64, "ash", "sign-off", bytes(32))
    assert {*verdict.model_dump()} == {"run", "manifest", "name", "word", "signature"}


def test_files_carried_by_hand_do_what_messages_do(offered: Federation) -> None:
    carried = copy_of(offered, "server")
    for name in ("ash", "birch", "cedar"):
        good(release(offered, name, "take", carried))
        sign_off(offered, name)
        verdict = offered.at(name) / "releases" / RUN / "verdict.json"
        good(release(offered, "server", "accept", verdict))
    good(release(offered, "elm", "take", copy_of(offered, "server")))
    good(score(offered, "elm"))
    refused(release(offered, "elm", "take", offered.server), "release.json: no such file")


@pytest.mark.parametrize(
    "name", ["release.json", "verdicts.jsonl", "withdrawal.json", "plan.toml", "model.onnx"]
)
def test_a_carried_folder_is_taken_by_its_regular_files_alone(
    offered: Federation, name: str
) -> None:
    carried = copy_of(offered, "server")
    there = carried / name
    secret = offered.path / "elsewhere"
    secret.write_bytes(there.read_bytes() if there.exists() else b"")
    there.unlink(missing_ok=True)
    there.symlink_to(secret)
    told = refused(release(offered, "ash", "take", carried), f"{name}: is a symbolic link")
    assert "put the file itself there" in told
    there.unlink()
    os.mkfifo(there)
    refused(release(offered, "ash", "take", carried), f"{name}: is no regular file")
    there.unlink()
    with there.open("wb") as file:
        file.truncate(2**40)
    refused(release(offered, "ash", "take", carried), f"{name}: more than ")
    because = [one.because for one in noted(offered.at("ash")) if isinstance(one, Refused)]
    assert len(because) == 3


def test_the_operators_withdraw_it_everywhere(offered: Federation) -> None:
    handed(offered)
    sign_off(offered, "ash", "birch", "cedar")
    handed(offered)
    good(score(offered, "ash"))
    offered.act(f"withdraw-{RUN}", "release", "withdraw", RUN, "--reason", "a wrong table")
    good(score(offered, "ash"))
    handed(offered)
    refused(score(offered, "ash"), "release of run first was withdrawn: a wrong table")
    late = release(offered, "elm", "sign-off", RUN, mark_at(offered, "elm"))
    refused(late, "was withdrawn: nothing is left to say")
    for name in ("server", "ash"):
        assert kinds(offered, name, ReleaseWithdrawn) == ["ReleaseWithdrawn"]
        assert "withdrawn" in good(release(offered, name, "list")).out
    again = release(offered, "server", "withdraw", RUN, "--reason", "x")
    refused(again, "is withdrawn already")
    # Released anew it has another number, and nobody's old word counts for it.
    good(release(offered, "server", "offer", RUN, "--anew"))
    good(offered.agree(f"release-{RUN}"))
    handed(offered)
    assert manifest_at(offered.at("ash")).number == 2
    refused(score(offered, "ash"), "0 of 3 institutions needed")


def test_score_refuses_what_is_not_final_and_notes_who_insists(offered: Federation) -> None:
    run = offered.server / "runs" / RUN
    told = refused(score(offered, "ash", model=run), "was not released: it has no release.json")
    assert "--unreleased scores by it all the same" in told
    outcome = good(score(offered, "ash", "--unreleased", model=run))
    assert "the audit log of" in outcome.err
    (event,) = [one for one in noted(offered.at("ash")) if isinstance(one, ScoredUnreleased)]
    assert event.model == manifest_at(offered.server).files["model.onnx"].sha256
    assert "was not released" in event.because
    # At home nowhere, there is nothing to hold a release to, and no log.
    handed(offered)
    sign_off(offered, "ash", "birch", "elm")
    handed(offered)
    nowhere = offered.at("nowhere")
    nowhere.mkdir()
    (nowhere / "records.csv").write_bytes((offered.at("ash") / "records.csv").read_bytes())
    final = offered.at("ash") / "releases" / RUN
    refused(score(offered, "nowhere", model=final), "no charter was approved here")
    outcome = good(score(offered, "nowhere", "--unreleased", model=final))
    assert "noted nowhere" in outcome.err
    assert "WARNING" not in good(score(offered, "ash", "--unreleased")).err


@pytest.mark.parametrize("command", ["score", "validate"])
def test_what_was_checked_is_what_is_used_whatever_lies_there_since(
    offered: Federation, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    handed(offered)
    sign_off(offered, "ash", "birch", "cedar")
    handed(offered)
    folder, out = offered.at("ash") / "releases" / RUN, offered.at("ash") / "scores.csv"
    plan = offered.home.charter.agreed
    weights, mask = read_model((folder / "model.safetensors").read_bytes(), plan)
    other = compact_forms(compact(plan.model, plan.schema_.width, -weights, mask), plan)
    require_files = Kept.require_files

    def answer() -> str:
        if command == "validate":
            return good(offered.do("ash", "validate", RUN, "--json")).out
        good(score(offered, "ash"))
        return out.read_text()

    def replaced(release: Kept) -> Mapping[str, bytes]:
        checked = require_files(release)
        for name, data in {**other, "plan.toml": b"no plan"}.items():
            (folder / name).write_bytes(data)
        return checked

    honest = answer()
    monkeypatch.setattr(Kept, "require_files", replaced)
    assert answer() == honest


def test_the_log_names_the_very_bytes_that_an_unreleased_model_scores_by(
    offered: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = offered.server / "runs" / RUN
    append = FileTrail.append
    good(score(offered, "ash", "--unreleased", model=run))
    honest = (offered.at("ash") / "scores.csv").read_text()

    def replaced(trail: FileTrail, *events: Event) -> None:
        append(trail, *events)
        (run / ONNX).write_bytes(b"another")

    monkeypatch.setattr(FileTrail, "append", replaced)
    good(score(offered, "ash", "--unreleased", model=run))
    assert (offered.at("ash") / "scores.csv").read_text() == honest


def test_the_log_names_no_part_of_a_model_that_is_too_long(offered: Federation) -> None:
    run = offered.server / "runs" / RUN
    with (run / ONNX).open("ab") as file:
        file.write(bytes(BESIDES + 1_000))
    told = score(offered, "ash", "--unreleased", model=run)
    refused(told, "the most that the plan's network takes")
    assert kinds(offered, "ash", ScoredUnreleased) == []


def test_a_model_with_one_weight_changed_is_refused_by_name(offered: Federation) -> None:
    handed(offered)
    sign_off(offered, "ash", "birch", "cedar")
    handed(offered)
    for name in ("model.onnx", "model.safetensors"):
        file = offered.at("ash") / "releases" / RUN / name
        whole = file.read_bytes()
        file.write_bytes(one_bit_off(whole))
        told = f"{name}: not the file of release 1 of run first, by its SHA-256"
        refused(score(offered, "ash"), told)
        refused(release(offered, "ash", "verify", RUN), told)
        file.write_bytes(whole)
    good(score(offered, "ash"))
    file.unlink()
    refused(score(offered, "ash"), "missing: have the release sent again")
    # Handed round again, the institution asks for what it lacks.
    assert handed(offered).holds == NAMES
    good(score(offered, "ash"))


def test_the_server_releases_no_other_model_than_was_trained(ended: Federation) -> None:
    run = ended.server / "runs" / RUN
    for name in ("model.onnx", "model.safetensors", "model.sparse"):
        whole = (run / name).read_bytes()
        (run / name).write_bytes(one_bit_off(whole))
        told = release(ended, "server", "offer", RUN)
        refused(told, f"{name}: is not what the run made of its model")
        (run / name).write_bytes(whole)
    assert "Refused" in kinds(ended, "server", Refused)
    refused(release(ended, "server", "offer", "second"), "no finished run")
    refused(release(ended, "server", "collect", RUN), "was not released")


def test_operators_cannot_release_another_model_than_institutions_trained(
    offered: Federation,
) -> None:
    """All of its operators sign a manifest whose model has one weight more or less."""
    signed = resigned(offered, model="5a" * 32)
    for name in NAMES:
        told = refused(release(offered, name, "take", signed), "its model is not the one that the")
        assert "last round sent here" in told


def test_no_round_or_run_that_never_was_covers_another_model(offered: Federation) -> None:
    for changes, problem in (
        ({"rounds": 3}, "its model is of 3 rounds, and the plan has 2"),
        ({"run_id": "never"}, "took part in its plan, and never in a run never"),
    ):
        signed = resigned(offered, model="5a" * 32, **changes)
        refused(release(offered, "ash", "take", signed), problem)
    # Whoever was in no round of the plan has nothing to compare it with, but its files.
    (offered.at("elm") / "audit").rename(offered.at("elm") / "away")
    good(release(offered, "elm", "take", signed))
    mark = mark_at(offered, "elm")
    told = refused(release(offered, "elm", "sign-off", RUN, mark), "model.safetensors was signed")
    assert "is not the model 5a5a5a5a5a5a5a5a" in told


def test_a_file_of_other_weights_is_refused_though_operators_signed_for_it(
    offered: Federation,
) -> None:
    whole = offered.server / "releases" / RUN
    known, plan = manifest_at(offered.server), offered.home.charter.agreed
    weights, mask = read_model((whole / "model.safetensors").read_bytes(), plan)
    other = compact(plan.model, plan.schema_.width, weights * 2, mask)
    forms = compact_forms(other, plan)
    for changed, named in (
        ({ONNX: forms[ONNX]}, ONNX),
        (forms, SPARSE),
        ({"model.safetensors": model_bytes(weights * 2, mask, plan)}, "model.safetensors"),
        ({"model.safetensors": b"no tensors"}, "does not hold the plan's network"),
        ({"plan.toml": b"name = 1"}, "plan.toml"),
    ):
        files = known.files | {name: ReleasedFile.of(data) for name, data in changed.items()}
        signed = resigned(offered, files=files)
        for name, data in changed.items():
            (signed / name).write_bytes(data)
        copy = offered.copy_to(offered.path / named.split()[0])
        good(release(copy, "ash", "take", signed))
        mark = mark_at(copy, "ash")
        refused(release(copy, "ash", "sign-off", RUN, mark), named)
        refused(copy.do("ash", "validate", RUN), named)
        refused(score(copy, "ash"), named)


def test_another_plans_model_is_refused_by_name(offered: Federation) -> None:
    signed = resigned(offered, plan="5a" * 32)
    told = refused(release(offered, "ash", "take", signed), "its model is of plan 5a5a5a5a5a5a5a5a")
    assert "do not use it" in told
    signed = resigned(offered, charter="5a" * 32)
    refused(
        release(offered, "ash", "take", signed), "under charter 5a5a5a5a5a5a5a5a, which was not"
    )
    offered.publish(3, training={"rounds": 3})
    refused(release(offered, "server", "offer", RUN, "--anew"), "publish the run's plan to release")
    # What was released under the charter before is held to that one for good.
    handed(offered)
    offered.approve(*NAMES)
    sign_off(offered, "ash", "birch", "cedar")
    handed(offered)
    good(score(offered, "ash"))
    good(release(offered, "server", "verify", RUN))


def test_a_sign_off_counts_for_one_release_by_members_alone(offered: Federation) -> None:
    handed(offered)
    sign_off(offered, "ash", "birch", "cedar")
    first = {name: said_by(offered, name) for name in ("ash", "birch", "cedar")}
    good(release(offered, "server", "offer", RUN, "--anew"))
    good(offered.agree(f"release-{RUN}"))
    handed(offered)
    # Replayed for the second release.
    told = f"the sign-off of 'ash' is of release {first['ash'].manifest[:16]}"
    with pytest.raises(OtherReleaseError, match=told):
        take_verdict(offered.home, first["ash"])
    file = offered.path / "replayed.json"
    file.write_bytes(first["ash"].to_bytes())
    refused(release(offered, "server", "accept", file), told)
    carried = copy_of(offered, "server")
    (carried / "verdicts.jsonl").write_bytes(first["ash"].to_bytes() + b"\n")
    good(release(offered, "birch", "take", carried))
    (left_out,) = [one for one in noted(offered.at("birch")) if isinstance(one, Refused)]
    assert left_out.because.startswith(f"run {RUN}: 1 left out: {told}")
    standing = good(release(offered, "birch", "verify", RUN)).out
    assert re.search(r"^signed off +nobody", standing, re.MULTILINE)
    # By nobody's key, and by another member's.
    manifest = first["ash"].model_copy(update={"manifest": released(offered).digest})
    with pytest.raises(BadSignatureError, match="'ash' is not signed by its key in the roster"):
        take_verdict(offered.home, manifest)
    stranger = Verdict.make(RUN, released(offered).digest, "oak", "sign-off", bytes(32))
    with pytest.raises(UnknownPeerError, match="'oak' is not in the roster"):
        take_verdict(offered.home, stranger)


def test_a_sign_off_by_a_revoked_member_is_refused_by_name(offered: Federation) -> None:
    handed(offered)
    sign_off(offered, "ash", "birch", "elm")
    late = said_by(offered, "elm")
    offered.act("revoke-elm", "revoke", "elm")
    with pytest.raises(RevokedPeerError, match="'elm' was revoked"):
        take_verdict(offered.home, late)
    reached = handed(offered)
    assert "elm" not in reached.holds
    assert "Refused" not in kinds(offered, "ash", Refused)
    refused(score(offered, "ash"), "2 of 3 institutions needed have signed it off (ash, birch)")
    # An institution that learned of it refuses that sign-off from whoever brings it.
    good(release(offered, "server", "offer", RUN, "--anew"))
    good(offered.agree(f"release-{RUN}"))
    assert manifest_at(offered.server).revoked == ("elm",)
    handed(offered)
    mark = mark_at(offered, "elm")
    refused(release(offered, "elm", "sign-off", RUN, mark), "'elm' was revoked")
    sign_off(offered, "ash", "birch", "cedar")
    handed(offered, "ash", "birch", "cedar")
    good(score(offered, "ash"))
    # What came before a revocation stays.
    offered.act("revoke-cedar", "revoke", "cedar")
    good(release(offered, "server", "verify", RUN))
    good(score(offered, "ash"))
    assert "final" in good(release(offered, "server", "list")).out


def test_one_word_that_does_not_count_keeps_no_other_out(offered: Federation) -> None:
    handed(offered, "ash", "birch", "elm")
    sign_off(offered, "ash", "birch", "elm")
    handed(offered, "ash", "birch", "elm")
    # Late, and by then a charter was approved without the key by which one of them signed.
    pin = read_pin(offered.at("cedar"))
    assert pin is not None
    key = offered.home.charter.roster.members["elm"].signing_public
    gone = pin.model_copy(update={"retired": (key,)})
    (offered.at("cedar") / "consent.json").write_bytes(gone.to_bytes())
    carried = copy_of(offered, "server")
    words = (carried / "verdicts.jsonl").read_bytes()
    (carried / "verdicts.jsonl").write_bytes(words + b"no word\n")
    good(release(offered, "cedar", "take", carried))
    assert "offered" in good(release(offered, "cedar", "list")).out
    told = [one.because for one in noted(offered.at("cedar")) if isinstance(one, Refused)]
    assert [said.split(":")[:3] for said in told] == [
        [f"run {RUN}", " 2 left out", " 'elm' was revoked"]
    ]
    standing = good(release(offered, "cedar", "verify", RUN)).out
    assert re.search(r"^signed off +ash, birch; 3 needed$", standing, re.MULTILINE)
    sign_off(offered, "cedar")
    assert "final" in good(release(offered, "cedar", "list")).out


def test_more_words_than_members_have_are_refused_at_once(offered: Federation) -> None:
    handed(offered, "ash", "birch")
    sign_off(offered, "ash", "birch")
    handed(offered, "ash", "birch")
    carried = copy_of(offered, "server")
    words = (carried / "verdicts.jsonl").read_bytes()
    (carried / "verdicts.jsonl").write_bytes(words + b"\n" * 300)
    told = refused(release(offered, "cedar", "take", carried), "302 words on the release of run")
    assert "4 members have 8 at most" in told
    assert kinds(offered, "cedar", Refused) == ["Refused"]
    (carried / "verdicts.jsonl").write_bytes(words + b"\n" * 6)
    good(release(offered, "cedar", "take", carried))
    standing = good(release(offered, "cedar", "verify", RUN)).out
    assert re.search(r"^signed off +ash, birch; 3 needed$", standing, re.MULTILINE)
    assert kinds(offered, "cedar", Refused) == ["Refused"] * 2


def test_words_that_do_not_count_fill_no_disk_however_often_they_are_offered(
    offered: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = release_app._request

    def padded(release: Kept) -> wire.OfferRequest:
        return replace(honest(release), verdicts=[b"no word"] * 8)

    monkeypatch.setattr(release_app, "_request", padded)
    for _ in range(5):
        assert handed(offered, "ash").holds == ("ash",)
    assert kinds(offered, "ash", Refused) == ["Refused"]
    counted = Counts.from_bytes((offered.at("ash") / "audit" / "counts").read_bytes())
    assert [(kind.what, one.times) for kind, one in counted.kinds.items()] == [("words", 4)]


def test_a_member_says_each_thing_once_whatever_it_signs_it_with(
    offered: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ed25519 has more than one signature for whoever has the key and wants another."""
    handed(offered)
    sign_off(offered, "ash")
    said, home = said_by(offered, "ash"), offered.home
    take_verdict(home, said)
    again = said.model_copy(update={"signature": bytes(64)})
    with pytest.raises(BadSignatureError):
        take_verdict(home, again)
    monkeypatch.setattr(Verdict, "require", lambda *_: None)
    take_verdict(home, again)
    assert Folder(offered.server / "releases" / RUN).verdicts(said.manifest) == (said,)
    assert kinds(offered, "server", VerdictTaken) == ["VerdictTaken"]


def test_an_old_charter_releases_nothing_new_to_who_took_no_part(offered: Federation) -> None:
    away = offered.at("elm") / "audit"
    away.rename(offered.at("elm") / "away")
    carried = copy_of(offered, "server")
    offered.publish(3, training={"rounds": 3})
    offered.approve("ash", "elm")
    told = refused(release(offered, "elm", "take", carried), "which is no longer in force")
    assert "took no part in its run" in told
    # Whoever trained it takes it, for its run was of that charter's time.
    good(release(offered, "ash", "take", carried))


def test_words_are_heard_by_one_process_at_a_time(
    offered: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    hear = Kept.hear

    def alone(release: Kept, fresh: Iterable[Verdict], trail: Trail) -> Standing:
        lock = release.folder.path.parent / "lock"
        with lock.open("r+b") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        seen.append(lock.parent.parent)
        return hear(release, fresh, trail)

    handed(offered, "ash", "birch")
    with monkeypatch.context() as patch:
        patch.setattr(Kept, "hear", alone)
        sign_off(offered, "ash")
        handed(offered, "ash", "birch")
    assert {offered.at("ash"), offered.server, offered.at("birch")} == {*seen}


def test_too_few_operators_release_and_withdraw_nothing(ended: Federation) -> None:
    good(release(ended, "server", "offer", RUN))
    file = ended.proposal(f"release-{RUN}")
    refused(ended.operate("apply", file), "1 of 2 operators needed have signed (alice)")
    refused(release(ended, "server", "show", RUN), "was not released")
    carried = ended.path / "carried"
    carried.mkdir()
    (carried / "release.json").write_bytes(file.read_bytes())
    refused(release(ended, "ash", "take", carried), "1 of 2 operators needed have signed")
    assert not (ended.at("ash") / "releases").exists()


def test_an_earlier_release_does_not_come_back(offered: Federation) -> None:
    first = copy_of(offered, "server")
    good(release(offered, "server", "offer", RUN, "--anew"))
    good(offered.agree(f"release-{RUN}"))
    handed(offered)
    refused(release(offered, "ash", "take", first), "release 1 of run first is no newer than 2")
    assert manifest_at(offered.at("ash")).number == 2


def test_a_person_signs_off_what_was_read_and_tested(offered: Federation) -> None:
    handed(offered)
    told = good(offered.do("ash", "validate", RUN)).out
    (mark,) = set(re.findall(r"(?:sign-off|object) first ([0-9a-f]{16})", told))
    good(release(offered, "server", "offer", RUN, "--anew"))
    good(offered.agree(f"release-{RUN}"))
    handed(offered)
    refused(release(offered, "ash", "sign-off", RUN, mark), "it is not what was shown")
    # Nobody is at the terminal to be asked.
    outcome = release(offered, "ash", "sign-off", RUN)
    assert outcome.code == 5
    assert "nobody agreed" in outcome.err
    assert kinds(offered, "ash", SignedOff) == []
    shown = good(release(offered, "ash", "show", RUN)).out
    mark = shown.splitlines()[-1].removeprefix("all of this")
    good(release(offered, "ash", "sign-off", RUN, mark))


def test_no_word_lands_on_a_release_that_came_while_a_key_was_asked_for(
    offered: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed(offered)
    mark, read = mark_at(offered, "ash"), read_identity

    def slowly(path: Path) -> Identity:
        anew(offered)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(client.release_cli, "read_identity", slowly)
        told = refused(release(offered, "ash", "sign-off", RUN, mark), "came since the one")
    assert f"begins with {mark_at(offered, 'ash')}, not {mark}" in told
    assert kinds(offered, "ash", SignedOff) == []
    assert not (offered.at("ash") / "releases" / RUN / "verdict.json").exists()


def test_an_old_word_that_a_crash_left_is_none_on_a_new_release(offered: Federation) -> None:
    handed(offered)
    sign_off(offered, "ash")
    file = offered.at("ash") / "releases" / RUN / "verdict.json"
    old = file.read_bytes()
    anew(offered)
    file.write_bytes(old)
    assert "nothing" in good(release(offered, "ash", "list")).out
    assert handed(offered).holds == NAMES
    sign_off(offered, "ash")
    assert said_by(offered, "ash").manifest == released(offered).digest
    assert kinds(offered, "ash", SignedOff) == ["SignedOff"] * 2


def test_what_another_version_wrote_is_refused_by_name(offered: Federation) -> None:
    carried = copy_of(offered, "server")
    file = carried / "release.json"
    fields = json.loads(file.read_bytes())
    fields["act"] |= {"format": 2, "other": 1}
    fields["act"]["versions"]["fedprune"] = "9.9"
    file.write_text(json.dumps(fields, sort_keys=True, separators=(",", ":")))
    told = refused(release(offered, "ash", "take", carried), "has format 2 (fedprune 9.9)")
    assert "this version reads 1" in told
    file.write_text("{}")
    refused(release(offered, "ash", "take", carried), "not a proposal or bundle")


def test_both_logs_tell_the_same_of_a_release(offered: Federation) -> None:
    handed(offered)
    sign_off(offered, "ash")
    handed(offered)
    logs = [offered.at(name) / "audit" for name in ("server", "ash", "birch")]
    good(offered.operate("audit", "compare", *logs))
    # A word of which its own institution's log says nothing.
    (offered.at("cedar") / "audit").rename(offered.at("cedar") / "away")
    digest = released(offered).digest
    home = offered.home
    run_id = manifest_at(offered.server).run_id
    home.trail.append(
        VerdictTaken(run=run_id, release=digest, institution="birch", word="sign-off")
    )
    compared = offered.operate("audit", "compare", *logs)
    assert compared.code == 8
    assert "birch's log does not say that it said 'sign-off'" in compared.out


def anew(federation: Federation) -> None:
    """Release the run's model once more, and hand it round."""
    good(release(federation, "server", "offer", RUN, "--anew"))
    good(federation.agree(f"release-{RUN}"))
    handed(federation)


def one_bit_off(data: bytes) -> bytes:
    """Return a file with one bit of a number in its last quarter changed."""
    place = len(data) - len(data) // 4
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def released(federation: Federation) -> Proposal:
    file = federation.server / "releases" / RUN / "release.json"
    return read_release(file.read_bytes())


def said_by(federation: Federation, name: str) -> Verdict:
    file = federation.at(name) / "releases" / RUN / "verdict.json"
    return Verdict.from_bytes(file.read_bytes())


def resigned(federation: Federation, **changes: Any) -> Path:
    """Return the folder of a manifest that says something else and that all operators signed."""
    bundle = Proposal(act=manifest_of(released(federation)).model_copy(update=changes))
    for home in ("server", "bob"):
        key = (federation.at(home) / "operator.key").read_bytes()
        bundle = bundle.signed(key)
    carried = copy_of(federation, "server")
    (carried / "release.json").write_bytes(bundle.to_bytes())
    return carried
