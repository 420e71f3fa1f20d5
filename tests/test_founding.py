"""The life of a federation on all its machines, by the commands that people type."""

import base64
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict
from flwr.app.user_config import UserConfig

from client import consent
from client.app import build_app
from client.config import load_institution
from client.consent import Home, approved_bundle, read_pin
from client.executor import Approved
from client.keys import read_identity
from client.releases import Releases
from client.stages import Institution
from common.consent.agreement import mark_of
from common.consent.enrolment import Enrolment
from common.consent.refusals import ExpiredError, NotApprovedError
from common.crypto.node_keys import read_private
from common.entropy import SystemEntropy
from common.errors import ConfigError
from common.release.manifest import Manifest
from server.app import _from_run_config
from server.exchange import Exchange
from server.home import standing_roster
from server.rounds import initial_model, run_rounds
from simulations.grid import InProcessGrid
from tests.founding import (
    ADDRESS,
    NAMES,
    Federation,
    altered,
    found,
    good,
    read,
    refused,
    write_plan,
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return found(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def _approved(published: Federation, tmp_path_factory: pytest.TempPathFactory) -> Federation:
    federation = published.copy_to(tmp_path_factory.mktemp("approved"))
    federation.approve(*NAMES)
    return federation


@pytest.fixture
def fresh(published: Federation, tmp_path: Path) -> Federation:
    """Return a federation whose members have not joined."""
    return published.copy_to(tmp_path)


@pytest.fixture
def federation(_approved: Federation, tmp_path: Path) -> Federation:
    """Return a federation whose members have approved its first charter."""
    return _approved.copy_to(tmp_path)


def opened(federation: Federation, name: str) -> Institution:
    return load_institution(federation.at(name) / "client.toml")


def test_what_was_approved_trains_with_the_real_apps(federation: Federation) -> None:
    members = {2 + place: opened(federation, name) for place, name in enumerate(NAMES)}
    plan = members[2].plan
    grid = InProcessGrid(build_app(lambda context: members[context.node_id]), members)
    file = federation.server / "roster.json"
    exchange = Exchange(grid, 20.0, standing_roster(file, plan, 0))
    exchange.join("run", plan.names, plan.digest())
    model = initial_model(plan, SystemEntropy().stream("weights"))
    rounds = run_rounds(model, plan, "run", exchange)
    assert next(rounds)[1].survivors == plan.names
    earlier = federation.copy_to(federation.path.parent / "earlier")
    # Both sides take a revocation over at the next round, and nobody approves anything.
    federation.act("revoke-elm", "revoke", "elm")
    exchange.roster = standing_roster(file, plan, 0)
    assert next(rounds)[1].survivors == ("ash", "birch", "cedar")
    # The ledger remembers it, whatever the operators publish later.
    earlier.act("publish-2", "publish")
    told = federation.do("birch", "join", earlier.bundle)
    refused(told, "'elm' is back under keys that were revoked or replaced")
    left = good(federation.do("ash", "leave", "--yes")).out
    assert "2 rounds on 'records' shape its models for good" in left
    assert "within epsilon" in left
    with pytest.raises(NotApprovedError, match="left the federation"):
        members[2].require_consent()


def test_a_bundle_is_shown_in_plain_words(fresh: Federation) -> None:
    assert not Home(fresh.at("ash")).pin
    shown = good(fresh.do("ash", "join", fresh.bundle)).out
    said = {line.split("  ")[0]: line for line in shown.splitlines()}
    charter = fresh.home.charter
    assert charter.roster.digest in said["roster hash"]
    assert charter.agreed.digest() in said["plan hash"]
    assert "epsilon  " not in said["if all others collude"]
    assert {"epsilon", "evaluation", "leaves you", "server sees", "members see"} <= said.keys()
    assert "1 for each record, at delta 0.001" in said["epsilon"]
    assert "the sum over 3 institutions" in said["server sees"]
    assert "2 of 2 operators" in said["quorum"]
    assert ADDRESS in said["server"]
    assert "member ash (you)" in said
    assert "Nothing was approved here before." in shown
    assert not Home(fresh.at("ash")).pin
    refused(fresh.consent("birch"), "no bundle waits for approval")


def test_a_plan_beyond_the_own_limit_is_told_before_it_is_approved(fresh: Federation) -> None:
    assert "WARNING" not in good(fresh.do("ash", "join", fresh.bundle)).err
    settings = fresh.at("ash") / "client.toml"
    settings.write_text(settings.read_text().replace("plan = 2.0", "plan = 0.5"))
    shown = good(fresh.do("ash", "join", fresh.bundle))
    assert "WARNING: every run would be refused here" in shown.err
    assert "beyond the 0.5 of limits.plan" in shown.err


def test_fingerprints_are_the_same_on_every_machine(fresh: Federation) -> None:
    def marks(text: str, of: str) -> set[str]:
        lines = [line for line in text.splitlines() if line.startswith(of)]
        return {line.split("  ")[-1].strip().split(",")[0] for line in lines}

    shown = {name: good(fresh.do(name, "join", fresh.bundle)).out for name in NAMES}
    for what in ("all of this", "authority", "operator bob", "member ash"):
        assert len(set.union(*(marks(text, what) for text in shown.values()))) == 1


def test_no_secret_leaves_its_file(fresh: Federation) -> None:
    """Outputs, requests, proposals and bundles hold no private key, in hex or base64."""
    told = [good(fresh.do("oak", "init", "--name", "oak"))]
    told.append(good(fresh.operate("admit", fresh.at("oak") / "request.json")))
    told.append(good(fresh.sign("admit-oak")))
    told.append(good(fresh.do("ash", "join", fresh.bundle)))
    told.append(good(fresh.consent("ash")))
    told.append(good(fresh.do("ash", "rotate")))
    private = set(secrets_of(fresh))
    assert len(private) == 3 * (len(NAMES) + 2) + 4
    told.append(good(fresh.do("ash", "leave", "--yes")))
    assert len(set(secrets_of(fresh))) == 3 * len(NAMES) + 4
    public = [file for file in fresh.path.rglob("*") if file.is_file()]
    public = [file for file in public if file.stat().st_mode & 0o777 != 0o600]
    assert len(public) > 30
    everything = b"\n".join(file.read_bytes() for file in public)
    everything += "".join(one.out + one.err for one in told).encode()
    for secret in private:
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)[:-2]):
            assert form not in everything


def secrets_of(federation: Federation) -> Iterator[bytes]:
    for file in federation.path.rglob("*keys.json"):
        identity = read_identity(file)
        yield identity.signing_private
        yield identity.agreement_private
    for file in federation.path.rglob("*node.key"):
        yield read_private(file.read_bytes()).private_numbers().private_value.to_bytes(48, "big")
    for file in federation.path.rglob("operator.key"):
        yield file.read_bytes()
    for file in (federation.server / "ca.key", federation.server / "server.key"):
        yield b"".join(file.read_bytes().splitlines()[1:-1])[:60]


def test_one_member_more_needs_approval_of_the_difference(federation: Federation) -> None:
    federation.enrol("oak")
    federation.publish(2)
    before = Home(federation.at("ash")).pin
    shown = good(federation.do("ash", "join", federation.bundle)).out
    assert "NEW member oak" in shown.partition("Changed since the last approval:")[2]
    assert "plan institutions.oak.size" in shown
    assert Home(federation.at("ash")).pin == before
    opened(federation, "ash").require_consent()
    standing = opened(federation, "ash")
    good(federation.consent("ash"))
    assert len(opened(federation, "ash").member.roster.names) == 5
    # What was opened under the earlier consent begins no further round.
    with pytest.raises(NotApprovedError, match="approved since"):
        standing.require_consent()


def test_rotated_keys_are_a_new_roster(federation: Federation) -> None:
    home = federation.at("ash")
    before, node = read_identity(home / "keys.json"), (home / "node.key").read_bytes()
    good(federation.do("ash", "rotate"))
    refused(federation.do("ash", "rotate"), "exists already: send it, or give it up")
    federation.act("admit-ash", "admit", home / "next.request.json")
    federation.publish(2)
    changes = good(federation.do("birch", "join", federation.bundle)).out.partition("Changed")[2]
    assert "member ash" in changes
    assert " -> " in changes
    assert read_identity(home / "keys.json") == before
    federation.approve("ash", "birch")
    after = opened(federation, "ash").member
    assert after.identity == read_identity(home / "keys.json") != before
    assert after.roster == opened(federation, "birch").member.roster
    assert (home / "node.key").read_bytes() != node
    assert not list(home.glob("next.*"))


def test_a_node_connects_by_the_key_it_has_until_its_new_ones_are_in_use(
    federation: Federation,
) -> None:
    home, members = federation.at("ash"), federation.server / "members"

    def admitted() -> set[bytes]:
        return {file.read_bytes().strip() for file in members.glob("ash*.pub")}

    old = (home / "node.key.pub").read_bytes().strip()
    good(federation.do("ash", "rotate"))
    new = (home / "next.node.key.pub").read_bytes().strip()
    federation.act("admit-ash", "admit", home / "next.request.json")
    assert admitted() == {old, new}
    # Who signs by its old keys still has approved no others.
    earlier = federation.home.charter.roster.member("ash").signing_public
    federation.home.settle({earlier})
    assert admitted() == {old, new}
    federation.act("publish-2", "publish")
    federation.approve(*NAMES)
    plan = federation.home.charter.agreed
    told = {"plan": federation.server / "plan.toml", "roster": federation.server / "roster.json"}
    folders = {"out": federation.path / "run", "state": federation.server / "state"}
    config: UserConfig = {key: str(path) for key, path in (told | folders).items()}
    context = Context(1, 0, {}, RecordDict(), config)
    task = _from_run_config(context)
    assert task.refresh is not None
    assert admitted() == {old, new}
    people = {2 + place: opened(federation, name) for place, name in enumerate(NAMES)}
    grid = InProcessGrid(build_app(lambda context: people[context.node_id]), people)
    exchange = Exchange(grid, 20.0, task.roster, task.adverts)
    exchange.join("run", plan.names, plan.digest())
    next(run_rounds(initial_model(plan, SystemEntropy().stream("weights")), plan, "run", exchange))
    task.refresh()
    assert admitted() == {new}
    earlier_keys = Enrolment.from_bytes(next((members / "former").glob("*.json")).read_bytes())
    assert earlier_keys.node_public.encode() == old


def test_a_member_that_is_revoked_connects_by_no_key(federation: Federation) -> None:
    good(federation.do("ash", "rotate"))
    federation.act("admit-ash", "admit", federation.at("ash") / "next.request.json")
    federation.act("revoke-ash", "revoke", "ash")
    assert not list((federation.server / "members").glob("ash*"))


def test_a_revocation_needs_no_approval_and_stays(federation: Federation) -> None:
    older = federation.path / "older.json"
    older.write_bytes(federation.bundle.read_bytes())
    federation.act("revoke-elm", "revoke", "elm")
    federation.act("publish-2", "publish")
    told = good(federation.do("ash", "join", federation.bundle)).out
    assert "Nothing here needs approval" in told
    # The bundle that would bring it back is named for what it is: a replay.
    refused(federation.do("ash", "join", older), "bundle 1 is no newer than 2, which was seen")
    assert opened(federation, "ash").member.roster.revoked == ("elm",)
    refused(federation.do("elm", "join", federation.bundle), "was revoked from the roster")
    request = federation.at("elm") / "request.json"
    refused(federation.operate("admit", request), "was revoked or replaced")
    # Whoever kept no record of its own is told by the others' roster.
    good(federation.do("elm", "leave", "--yes"))
    federation.enrol("elm")
    federation.publish(3)
    told = good(federation.do("ash", "join", federation.bundle)).out
    assert "its revocation is taken back" in told
    assert "Nothing here needs approval" not in told


def test_whoever_runs_takes_over_what_needs_no_approval(federation: Federation) -> None:
    """The executor that is up holds by the consent that `join` wrote, without a restart."""
    approved = Approved(federation.at("ash") / "client.toml")
    before = approved()
    federation.act("revoke-elm", "revoke", "elm")
    federation.act("publish-2", "publish")
    good(federation.do("ash", "join", federation.bundle))
    with pytest.raises(NotApprovedError):
        before.require_consent()
    approved().require_consent()
    assert approved().member.roster.revoked == ("elm",)


def test_a_revoked_key_comes_back_to_no_member(federation: Federation) -> None:
    """Operators who forget a revocation find that the members do not."""
    earlier = federation.copy_to(federation.path.parent / "earlier")
    federation.act("revoke-elm", "revoke", "elm")
    federation.act("publish-2", "publish")
    good(federation.do("ash", "join", federation.bundle))
    for number in (2, 3):
        earlier.act(f"publish-{number}", "publish")
    told = federation.do("ash", "join", earlier.bundle)
    refused(told, "'elm' is back under keys that were revoked or replaced")


def test_an_end_is_taken_over_at_once(federation: Federation) -> None:
    standing = opened(federation, "ash")
    standing.require_consent()
    federation.act("expire-2", "expire")
    told = good(federation.do("ash", "join", federation.bundle)).out
    assert "holds until" in told.partition("Changed")[2]
    with pytest.raises(ExpiredError, match="expired"):
        standing.require_consent()
    with pytest.raises(ExpiredError, match="has expired"):
        standing_roster(federation.server / "roster.json", standing.plan, int(2e9))
    federation.act("publish-3", "publish")
    federation.approve("ash")
    standing.require_consent()


def test_consent_ends_by_itself(federation: Federation) -> None:
    expires = federation.home.charter.expires
    ash = opened(federation, "ash")
    replace(ash, clock=lambda: expires - 1.0).require_consent()
    with pytest.raises(ExpiredError):
        replace(ash, clock=lambda: float(expires)).require_consent()


def test_a_late_joiner_finds_the_bundle_expired(
    fresh: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires = fresh.home.charter.expires
    monkeypatch.setattr("time.time", lambda: expires - 1.0)
    good(fresh.do("ash", "join", fresh.bundle))
    monkeypatch.setattr("time.time", lambda: float(expires))
    refused(fresh.do("birch", "join", fresh.bundle), "charter 1 of small has expired")
    refused(fresh.consent("ash"), "charter 1 of small has expired")
    assert not Home(fresh.at("ash")).pin


def test_a_replayed_bundle_is_refused(federation: Federation) -> None:
    older = federation.bundle.read_bytes()
    federation.publish(2, training={"rounds": 7})
    federation.approve("ash")
    (federation.path / "older.json").write_bytes(older)
    told = federation.do("ash", "join", federation.path / "older.json")
    refused(told, "bundle 1 is no newer than 2, which was seen before")
    # Shown is seen: birch has not approved the second, yet cannot be led back.
    good(federation.do("birch", "join", federation.bundle))
    refused(federation.do("birch", "join", federation.path / "older.json"), "no newer than 2")
    good(federation.do("ash", "join", federation.bundle))


@pytest.mark.parametrize(
    ("keys", "by"),
    [
        (("plan", "training", "rounds"), 60),
        (("plan", "operators", "quorum"), 1),
        (("address",), "mallory.example:9092"),
        (("expires",), 2**32),
        (("sequence",), 2),
        (("federation",), "large"),
    ],
)
def test_an_altered_bundle_is_refused(fresh: Federation, keys: tuple[str, ...], by: object) -> None:
    told = fresh.do("ash", "join", altered(fresh.bundle, *keys, by=by))
    refused(told, "is not one of this text")


def test_only_the_bundle_that_was_read_is_approved(fresh: Federation) -> None:
    """Whatever takes its place meanwhile is another one, whoever signed it."""
    shown = good(fresh.do("ash", "join", fresh.bundle)).out
    mark = shown.splitlines()[-1].removeprefix("Then: fedprune-client approve ")
    fresh.publish(2, training={"rounds": 60})
    good(fresh.do("ash", "join", fresh.bundle))
    refused(fresh.do("ash", "approve", mark), "it is not what was shown")
    refused(fresh.do("ash", "approve", mark[:8]), "say 16 or more of its digits")
    # Nobody is at the terminal to be asked.
    told = fresh.do("ash", "approve")
    refused(told, "nobody agreed: read what is shown")
    assert "60 rounds" in told.out
    assert not Home(fresh.at("ash")).pin
    read_anew = good(fresh.do("ash", "join", fresh.bundle)).out.splitlines()[-1]
    good(fresh.do("ash", "approve", read_anew.split()[-1]))
    assert opened(fresh, "ash").plan.training.rounds == 60


def test_whoever_is_at_the_terminal_is_asked(
    fresh: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(fresh.do("ash", "join", fresh.bundle))
    answers = ["n", "n", "y"]
    asked = list[str]()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    def confirm(question: str) -> bool:
        asked.append(question)
        return answers.pop(0) == "y"

    monkeypatch.setattr("typer.confirm", confirm)
    refused(fresh.do("ash", "approve"), "nobody agreed")
    blank = fresh.do("ash", "approve", "  ")
    refused(blank, "nobody agreed")
    assert "plan hash" in blank.out
    assert not Home(fresh.at("ash")).pin
    assert "plan hash" in good(fresh.do("ash", "approve")).out
    assert asked == ["Approve all of this?"] * 3


def test_only_the_proposal_that_was_read_is_signed(fresh: Federation) -> None:
    good(fresh.operate("revoke", "elm"))
    file = fresh.proposal("revoke-elm")
    mark = mark_of(read(file).digest)
    good(fresh.operate("revoke", "ash"))
    fresh.proposal("revoke-ash").replace(file)
    before = file.read_bytes()
    refused(fresh.operate("sign", file, mark, home="bob"), "it is not what was shown")
    refused(fresh.operate("sign", file, home="bob"), "nobody agreed")
    assert file.read_bytes() == before


def test_a_torn_bundle_keeps_no_other_out(federation: Federation) -> None:
    pending = federation.at("ash") / "pending.json"
    pending.write_text("{")
    refused(federation.do("ash", "approve"), f"{pending}: not a proposal or bundle")
    federation.publish(2, training={"rounds": 7})
    good(federation.do("ash", "join", federation.bundle))
    good(federation.consent("ash"))
    assert not pending.exists()
    (federation.at("ash") / "bundle.json").write_text("{")
    good(federation.do("ash", "join", federation.bundle))


def test_a_bundle_is_joined_from_where_the_approved_one_lies(federation: Federation) -> None:
    """As it is copied into a container, under the name that it has at the server."""
    home = federation.at("ash")
    approved = (home / "bundle.json").read_bytes()
    federation.publish(2, training={"rounds": 7})
    (home / "bundle.json").write_bytes(federation.bundle.read_bytes())
    # Nothing of it holds by lying there.
    opened(federation, "ash").require_consent()
    releases, pin = Releases(home), read_pin(home)
    assert pin is not None
    assert approved_bundle(home, pin).to_bytes() == approved
    unknown = Manifest.model_construct(charter="0" * 64)
    assert releases.charter_for(unknown).to_bytes() == approved
    shown = good(federation.do("ash", "join", home / "bundle.json")).out
    assert "Changed since the last approval" in shown
    assert "rounds" in shown.partition("Changed")[2]
    good(federation.consent("ash"))
    assert (home / "bundle.json").read_bytes() == federation.bundle.read_bytes()
    assert opened(federation, "ash").plan.training.rounds == 7
    # An older one in its place is no newer for that.
    (home / "bundle.json").write_bytes(approved)
    refused(federation.do("ash", "join", home / "bundle.json"), "bundle 1 is no newer than 2")


def test_a_bundle_that_nobody_approved_lends_no_key_to_a_log(federation: Federation) -> None:
    home = federation.at("ash")
    stranger = found(federation.path / "strangers")
    (home / "bundle.json").write_bytes(stranger.bundle.read_bytes())
    logs = [one.server / "audit" for one in (stranger, federation)]
    told = federation.do("ash", "audit", "compare", logs[0], stranger.at("birch") / "audit")
    assert "no key of 'small' has signed for the log's key" in told.complaint
    good(federation.do("ash", "audit", "compare", logs[1], federation.at("birch") / "audit"))


@pytest.mark.parametrize("left", [("node.key",), ("node.key", "keys.json")])
def test_a_crash_while_keys_are_made_is_gone_on_from(
    fresh: Federation, left: tuple[str, ...]
) -> None:
    home = fresh.at("oak")
    good(fresh.do("oak", "init", "--name", "oak"))
    kept = {name: (home / name).read_bytes() for name in left}
    for file in {"node.key", "keys.json", "node.key.pub", "request.json"} - {*left}:
        (home / file).unlink()
    good(fresh.do("oak", "init", "--name", "oak"))
    assert {name: (home / name).read_bytes() for name in left} == kept
    fresh.act("admit-oak", "admit", home / "request.json")
    good(fresh.do("oak", "rotate"))
    kept = {name: (home / f"next.{name}").read_bytes() for name in left}
    for file in {"node.key", "keys.json", "node.key.pub", "request.json"} - {*left}:
        (home / f"next.{file}").unlink()
    good(fresh.do("oak", "rotate"))
    assert {name: (home / f"next.{name}").read_bytes() for name in left} == kept
    assert Enrolment.from_bytes((home / "next.request.json").read_bytes()).succession is not None


def test_new_keys_can_be_given_up_until_they_are_taken_in(federation: Federation) -> None:
    home = federation.at("ash")
    before = read_identity(home / "keys.json")
    good(federation.do("ash", "rotate"))
    told = good(federation.do("ash", "rotate", "--discard")).out
    assert told == "Erased: next.keys.json, next.node.key.\n"
    assert not list(home.glob("next.*"))
    assert "no new keys wait" in good(federation.do("ash", "rotate", "--discard")).out
    good(federation.do("ash", "rotate"))
    federation.act("admit-ash", "admit", home / "next.request.json")
    federation.act("publish-2", "publish")
    good(federation.do("ash", "join", federation.bundle))
    refused(federation.do("ash", "rotate", "--discard"), "have taken these keys in")
    assert read_identity(home / "keys.json") == before
    good(federation.consent("ash"))
    assert read_identity(home / "keys.json") != before


def test_an_altered_roster_or_authority_is_refused(fresh: Federation, tmp_path: Path) -> None:
    other = found(tmp_path / "other")
    roster = read(other.bundle).act.model_dump(mode="json")["roster"]
    for key, value in (("roster", roster), ("authority", (other.server / "ca.pem").read_text())):
        told = fresh.do("ash", "join", altered(fresh.bundle, key, by=value))
        refused(told, "is not one of this text")
    assert fresh.home.charter.federation == other.home.charter.federation
    refused(fresh.do("ash", "join", other.bundle), "other keys for 'ash'")
    # Once it approved, it knows its operators too.
    fresh.approve("ash")
    line = refused(fresh.do("ash", "join", other.bundle), "0 of the 2 operators that were approved")
    assert "alice, bob" in line


def test_nobody_else_can_join_by_a_bundle(fresh: Federation) -> None:
    good(fresh.do("oak", "init", "--name", "oak"))
    refused(fresh.do("oak", "join", fresh.bundle), "'oak' is not in the roster")
    refused(fresh.do("elsewhere", "join", fresh.bundle), "no keys were made here")
    refused(fresh.do("ash", "join", fresh.proposal("admit-ash")), "it is no bundle to join by")
    refused(fresh.do("ash", "join", fresh.at("ash") / "request.json"), "not a proposal or bundle")


def test_a_handover_of_operators_takes_the_old_ones_too(federation: Federation) -> None:
    made = good(federation.operate("operator", "--name", "carol", home="carol")).out
    carol = made.splitlines()[0].split("=")[-1]
    taken = {"quorum": 1, "keys": {"carol": carol}}
    write_plan(federation, operators=taken)
    good(federation.operate("publish"))
    proposal = federation.proposal("publish-2")
    good(federation.sign("publish-2", home="carol"))
    refused(federation.operate("apply", proposal), "1 of 2 operators needed have signed (alice)")
    good(federation.sign("publish-2", home="bob"))
    good(federation.operate("apply", proposal))
    shown = good(federation.do("ash", "join", federation.bundle)).out.partition("Changed")[2]
    told = {line.split("  ")[0]: line for line in shown.splitlines()}
    assert told["plan operators.keys.bob"].endswith("-> absent")
    assert told["plan operators.quorum"].endswith("2 -> 1")
    good(federation.consent("ash"))
    # From here on carol alone is enough, and alice is not.
    write_plan(federation, operators=taken, training={"rounds": 9})
    good(federation.operate("publish"))
    refused(federation.operate("apply", federation.proposal("publish-3")), "are of no operator")


def test_keys_are_erased_only_when_that_is_said(federation: Federation) -> None:
    home = federation.at("ash")
    told = federation.do("ash", "leave")
    assert told.code == 1
    assert "Erase this institution's keys for good?" in told.out + told.err
    assert (home / "keys.json").exists()
    # A client file that cannot be read does not keep them.
    (home / "client.toml").write_text("data =")
    assert "Erased: keys.json, node.key." in federation.do("ash", "leave", "--yes").out
    assert not list(home.glob("*key*"))
    assert not (home / "consent.json").exists()


def test_a_crash_while_approving_leaves_something_to_approve(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = federation.at("ash")
    good(federation.do("ash", "rotate"))
    federation.act("admit-ash", "admit", home / "next.request.json")
    federation.act("publish-2", "publish")
    good(federation.do("ash", "join", federation.bundle))
    write, files = consent._write, list[str]()

    def crash(path: Path, data: bytes) -> None:
        if path.name == files[-1]:
            raise KeyboardInterrupt
        write(path, data)

    for name in ("plan.toml", "ca.pem", "consent.json"):
        files.append(name)
        monkeypatch.setattr(consent, "_write", crash)
        assert federation.consent("ash").code == 130
        monkeypatch.setattr(consent, "_write", write)
        assert (home / "pending.json").exists()
    good(federation.consent("ash"))
    # Between the pin and the last rename: what is approved is found where it waited.
    (home / "bundle.json").rename(home / "pending.json")
    good(federation.consent("ash"))
    opened(federation, "ash").require_consent()
    assert not list(home.glob("next.*"))


@pytest.mark.parametrize(
    ("file", "data", "problem"),
    [
        ("consent.json", b"{}", "what was approved cannot be read"),
        ("charters", None, "is not the bundle that was approved"),
        ("request.json", b"{}", "not an enrolment request"),
        ("client.toml", b'name = "ash"\ndata = "records.csv"\nplan = "mine.toml"', "take them out"),
    ],
)
def test_what_was_altered_at_home_is_named(
    federation: Federation, file: str, data: bytes | None, problem: str
) -> None:
    path = federation.at("ash") / file
    if data is None:
        shutil.rmtree(path)
        (federation.at("ash") / "bundle.json").unlink()
    else:
        path.write_bytes(data)
    refused(federation.do("ash", "join", federation.bundle), problem)


@pytest.mark.parametrize("file", ["plan.toml", "roster.json"])
def test_what_runs_is_what_was_approved(federation: Federation, file: str) -> None:
    path, other = federation.at("ash") / file, federation.at("birch") / file
    changed = other.read_text().replace("rounds = 6", "rounds = 7")
    if file == "roster.json":
        changed = federation.home.charter.roster.without("elm").to_bytes().decode()
    path.write_text(changed)
    with pytest.raises(NotApprovedError, match="approved"):
        opened(federation, "ash")


def test_keys_open_to_others_are_not_used(federation: Federation) -> None:
    (federation.at("ash") / "keys.json").chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0640 lets others"):
        opened(federation, "ash")
    refused(federation.do("ash", "rotate"), "keys.json: mode 0640 lets others")


def test_what_a_person_mistypes_leaves_no_trace(fresh: Federation) -> None:
    told = fresh.do("oak", "init", "--name", "oak & sons")
    refused(told, "'oak & sons' is no name: take up to 63 of a-z")
    good(fresh.do("oak", "init", "--name", "oak"))
    told = fresh.do("ash", "join", fresh.path / "gone.json")
    refused(told, "gone.json: no such file: check the path")
    assert not (fresh.at("ash") / "pending.json").exists()
    told = fresh.do("ash", "up")
    refused(told, "no server is known: fedprune-client join a bundle, then approve")


def test_nothing_approved_opens_nothing(fresh: Federation) -> None:
    with pytest.raises(NotApprovedError, match="no plan was approved: fedprune-client join"):
        opened(fresh, "ash")
    again = fresh.do("ash", "init", "--name", "ash")
    refused(again, "keys are made once, then rotated")
