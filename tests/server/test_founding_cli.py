"""What operators do, and what a server refuses of each other's requests and proposals."""

import json
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from common.consent.acts import Proposal, Revocation
from common.consent.enrolment import Enrolment
from common.crypto import node_keys
from common.crypto.locking import is_locked
from common.entropy import SeededEntropy, SystemEntropy
from common.plan import plan_from_dict
from common.secret_files import PASSPHRASE
from server.cli import main
from server.doctor import examine
from simulations.rehearsal import seeded_identity
from tests.commands import Outcome, invoke
from tests.founding import (
    ADDRESS,
    NAMES,
    Federation,
    found,
    good,
    put_under_passphrase,
    read,
    refused,
    write_plan,
)


@pytest.fixture(scope="module")
def _published(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return found(tmp_path_factory.mktemp("published"))


@pytest.fixture
def federation(_published: Federation, tmp_path: Path) -> Federation:
    return _published.copy_to(tmp_path)


def state(federation: Federation) -> dict[str, bytes]:
    """Return every file that says what is in effect."""
    names = ("roster.json", "bundle.json", "server.pem", "server.key", "ca.pem")
    files = [federation.server / name for name in names]
    files += [file for file in (federation.server / "members").rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in files}


def test_a_federation_is_founded_in_files_for_their_owners(federation: Federation) -> None:
    secret = {"ca.key", "server.key", "operator.key"}
    for file in federation.server.iterdir():
        if file.is_file():
            assert (file.stat().st_mode & 0o777 == 0o600) == (file.name in secret), file
    settings = tomllib.loads((federation.server / "server.toml").read_text())
    assert settings == {"name": "small", "address": ADDRESS, "operator": "alice"}
    nodes = sorted((federation.server / "members").glob("*.pub"))
    assert tuple(file.stem for file in nodes) == NAMES
    for file in nodes:
        public = (federation.at(file.stem) / "node.key.pub").read_bytes()
        assert file.read_bytes() == public
    again = federation.operate("init", "--name", "small", "--address", ADDRESS)
    refused(again, "a federation was founded here already")
    refused(federation.operate("operator", "--name", "bob", home="bob"), "exists already")


@pytest.mark.parametrize(
    "lost",
    [(), ("server.pem", "plan.toml"), ("ca.pem", "server.key", "server.pem", "operator.key")],
)
def test_a_crash_while_founding_is_gone_on_from(tmp_path: Path, lost: tuple[str, ...]) -> None:
    federation = Federation(tmp_path)
    init = ("init", "--name", "small", "--address", ADDRESS)
    told = good(federation.operate(*init)).out
    for file in ("server.toml", *lost):
        (federation.server / file).unlink()
    again = good(federation.operate(*init)).out
    # Others may have been told the operator's key, if it was there.
    assert (told.splitlines()[0] == again.splitlines()[0]) == ("operator.key" not in lost)
    assert not [one for one in examine(federation.server, datetime.now(UTC)) if one.state == "bad"]
    good(federation.do("ash", "init", "--name", "ash"))
    good(federation.operate("admit", federation.at("ash") / "request.json"))
    (federation.server / "server.toml").unlink()
    before = (federation.server / "ca.key").read_bytes()
    refused(federation.operate(*init), "server.toml is missing beside ash.json: restore it")
    assert (federation.server / "ca.key").read_bytes() == before


def test_an_operators_key_that_is_there_is_used(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    made = good(federation.operate("operator", "--name", "alice")).out
    options = ("--name", "small", "--address", ADDRESS, "--operator", "alice")
    assert good(federation.operate("init", *options)).out.startswith(made.splitlines()[0])


def test_the_plan_template_lacks_its_members_alone(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    good(federation.operate("init", "--name", "small", "--address", ADDRESS))
    text = (federation.server / "plan.toml").read_text()
    names = ("ash", "birch", "cedar")
    lines = [f'[[institutions]]\nname = "{name}"\nsize = 5000\n' for name in names]
    plan = plan_from_dict(tomllib.loads(text + "\n".join(lines)))
    assert plan.operators == federation.home.operators
    assert plan.operators is not None
    assert plan.operators.quorum == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--quorum", "2"), "a quorum of 2 among 1 operators is out of reach"),
        (("--other", "bob"), "operators: keys.bob"),
        (("--other", f"operator={'0' * 64}"), "operator 'operator' is named twice"),
        (("--address", "bank.example"), "address"),
        (("--address", "bank.example:0"), "address: no host:port"),
        (("--address", "bank.example:99999"), "address: no host:port"),
        (("--address", "[bank]:9092"), "address"),
        (("--name", "Small Federation"), "name"),
    ],
)
def test_a_federation_that_could_not_act_is_not_founded(
    tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    federation = Federation(tmp_path)
    usual = ("--name", "small", "--address", ADDRESS)
    refused(federation.operate("init", *usual, *options), problem)
    assert not federation.server.exists()


def test_nothing_takes_effect_below_the_quorum(federation: Federation) -> None:
    good(federation.do("oak", "init", "--name", "oak"))
    before = state(federation)
    write_plan(federation, training={"rounds": 7})
    acts: dict[str, tuple[str, *tuple[object, ...]]] = {
        "admit-oak": ("admit", federation.at("oak") / "request.json"),
        "revoke-elm": ("revoke", "elm"),
        "publish-2": ("publish",),
        "expire-2": ("expire",),
    }
    for name, (command, *arguments) in acts.items():
        told = good(federation.operate(command, *arguments)).out
        assert "Not in effect: 1 more" in told
        problem = "1 of 2 operators needed have signed (alice)"
        refused(federation.operate("apply", federation.proposal(name)), problem)
        # Once more by the same operator is no second signature.
        good(federation.sign(name, home="server"))
        refused(federation.operate("apply", federation.proposal(name)), problem)
        unsigned = Proposal(act=read(federation.proposal(name)).act)
        federation.proposal(name).write_bytes(unsigned.to_bytes())
        refused(federation.operate("apply", federation.proposal(name)), "0 of 2 operators")
    assert state(federation) == before


def test_a_stranger_or_an_altered_proposal_is_refused(federation: Federation) -> None:
    good(federation.operate("operator", "--name", "mallory", home="mallory"))
    good(federation.operate("revoke", "elm"))
    file = federation.proposal("revoke-elm")
    good(federation.sign("revoke-elm"))
    signed = file.read_bytes()
    good(federation.sign("revoke-elm", home="mallory"))
    before = state(federation)
    refused(federation.operate("apply", file), "1 signatures are of no operator")
    proposal = Proposal.from_bytes(signed)
    assert isinstance(proposal.act, Revocation)
    ash = federation.home.members["ash"].member.signing_public
    changes = (
        ({"name": "ash", "signing_public": ash}, "is not one of this text"),
        ({"federation": "large"}, "the proposal is for large"),
    )
    for change, problem in changes:
        act = proposal.act.model_copy(update=change)
        file.write_bytes(Proposal(act=act, signatures=proposal.signatures).to_bytes())
        refused(federation.operate("apply", file), problem)
    file.write_bytes(signed.replace(b'"elm"', b'"elf"'))
    refused(federation.operate("apply", file), "is not one of this text")
    assert state(federation) == before
    file.write_bytes(signed)
    good(federation.operate("apply", file))
    refused(federation.operate("apply", file), "'elm' is no member")


def test_quorum_of_the_published_charter_outlasts_an_edited_plan(federation: Federation) -> None:
    board = federation.home.operators.model_dump()
    write_plan(federation, operators=board | {"quorum": 1})
    assert "1 more of the operators" in good(federation.operate("revoke", "elm")).out
    assert "1 more of the operators" in good(federation.operate("publish")).out


def make_request(federation: Federation, name: str, **changes: object) -> Path:
    parts = {
        "name": name,
        "identity": seeded_identity(name, 7),
        "node": node_keys.generate_key(SystemEntropy().stream("node")),
    }
    path = federation.path / "asked.json"
    path.write_bytes(Enrolment.make(**(parts | changes)).to_bytes())  # type: ignore[arg-type]
    return path


def test_requests_that_are_not_admitted(federation: Federation) -> None:
    members = federation.at("ash")
    again = refused(federation.operate("admit", members / "request.json"), "is enrolled as 'ash'")
    assert "\n" not in again
    stranger = make_request(federation, "ash")
    refused(federation.operate("admit", stranger), "'ash' is a member, and its keys did not sign")
    forged = make_request(federation, "ash", before=seeded_identity("ash", 8))
    refused(federation.operate("admit", forged), "'ash' is a member, and its keys did not sign")
    unknown = make_request(federation, "oak", before=seeded_identity("oak", 8))
    refused(federation.operate("admit", unknown), "'oak' is no member whose keys could be replaced")
    node = node_keys.read_private((members / "node.key").read_bytes())
    borrowed = make_request(federation, "oak", node=node)
    refused(federation.operate("admit", borrowed), "a key of 'oak' is enrolled as 'ash' already")
    refused(federation.operate("admit", members / "keys.json"), "not an enrolment request")
    fields = json.loads((members / "request.json").read_bytes())
    fields |= json.loads((members / "keys.json").read_bytes())
    stranger.write_text(json.dumps(fields, sort_keys=True, separators=(",", ":")))
    told = refused(federation.operate("admit", stranger), "not an enrolment request")
    assert fields["signing_private"] not in told
    good(federation.operate("admit", make_request(federation, "oak")))
    assert set(federation.home.members) == set(NAMES)


def test_two_admitted_at_once_cannot_share_a_key(federation: Federation) -> None:
    """What held when a proposal was made is asked again when it is to take effect."""
    node = node_keys.generate_key(SeededEntropy(0).stream("node"))
    for name in ("oak", "yew"):
        good(federation.operate("admit", make_request(federation, name, node=node)))
    good(federation.agree("admit-oak"))
    refused(federation.agree("admit-yew"), "a key of 'yew' is enrolled as 'oak' already")


def test_a_charter_is_of_the_members_as_they_are(federation: Federation) -> None:
    write_plan(federation, training={"rounds": 7})
    good(federation.operate("publish"))
    federation.act("revoke-elm", "revoke", "elm")
    refused(federation.agree("publish-2"), "members have changed since the charter was proposed")
    federation.act("publish-2", "publish")
    refused(federation.operate("apply", federation.proposal("publish-2")), "number 2, 3 is due")
    federation.enrol("oak")
    refused(federation.operate("publish", federation.path / "none.toml"), "no such file")
    fields = {"institutions": [{"name": name, "size": 200} for name in NAMES]}
    write_plan(federation, **fields)
    refused(federation.operate("publish"), "oak were admitted and do not stand in the plan")
    fields["institutions"] += [{"name": name, "size": 200} for name in ("oak", "yew")]
    write_plan(federation, **fields)
    refused(federation.operate("publish"), "yew stand in the plan and were not admitted")
    refused(federation.operate("revoke", "yew"), "'yew' is no member: ash, birch")


def test_one_operator_is_enough_where_the_plan_says_so(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    good(federation.operate("init", "--name", "small", "--address", ADDRESS))
    good(federation.do("ash", "init", "--name", "ash"))
    told = good(federation.operate("admit", federation.at("ash") / "request.json")).out
    assert "In effect. Members: ash." in told
    # A damaged key was taken out, or a revocation was cut short.
    (federation.server / "members" / "ash.pub").unlink()
    assert "In effect. Members: none." in good(federation.operate("revoke", "ash")).out
    assert not list((federation.server / "members").glob("ash*"))
    refused(federation.operate("expire"), "nothing was published")


def test_the_servers_certificate_is_renewed_under_one_authority(federation: Federation) -> None:
    before = state(federation)
    good(federation.operate("rotate"))
    after = state(federation)
    changed = {Path(name).name for name in before if before[name] != after[name]}
    assert changed == {"server.pem", "server.key"}
    authority = x509.load_pem_x509_certificate((federation.server / "ca.pem").read_bytes())
    server = x509.load_pem_x509_certificate((federation.server / "server.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    assert (federation.server / "server.key").stat().st_mode & 0o777 == 0o600


def test_keys_under_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = Federation(tmp_path)
    monkeypatch.setenv(PASSPHRASE, "right")
    told = good(federation.operate("init", "--name", "small", "--address", ADDRESS))
    assert told.err == ""
    told = good(federation.do("ash", "init", "--name", "ash"))
    assert told.err == ""
    request = federation.at("ash") / "request.json"
    monkeypatch.setenv(PASSPHRASE, "wrong")
    refused(federation.operate("admit", request), "operator.key: the passphrase is wrong")
    refused(federation.operate("rotate"), "ca.key: the passphrase is wrong")
    refused(federation.do("ash", "rotate"), "keys.json: the passphrase is wrong")
    monkeypatch.delenv(PASSPHRASE)
    refused(federation.operate("admit", request), f"need their passphrase: set {PASSPHRASE}")
    assert not list(federation.at("ash").glob("next.*"))
    monkeypatch.setenv(PASSPHRASE, "right")
    good(federation.operate("admit", request))
    good(federation.operate("rotate"))
    good(federation.do("ash", "rotate"))
    private = [*federation.path.rglob("*.key"), *federation.path.rglob("*keys.json")]
    assert len(private) == 3 + 4
    assert all(is_locked(file.read_bytes()) for file in private)


def test_up_asks_for_a_passphrase_before_anything_starts(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_under_passphrase(federation.server / "server.key", "right")
    federation.approve("ash")
    put_under_passphrase(federation.at("ash") / "keys.json", "right")
    federation.approve("birch")
    put_under_passphrase(federation.at("birch") / "node.key", "right")
    ups: dict[str, Callable[[], Outcome]] = {
        "server.key": lambda: federation.operate("up"),
        "keys.json": lambda: federation.do("ash", "up"),
        "node.key": lambda: federation.do("birch", "up"),
    }
    for file, up in ups.items():
        refused(up(), f"{file}: keys need their passphrase: set {PASSPHRASE}, or type it")
    monkeypatch.setenv(PASSPHRASE, "wrong")
    for file, up in ups.items():
        refused(up(), f"{file}: the passphrase is wrong, or the file was altered")
    assert not list(federation.path.rglob("logs"))


def test_up_wants_the_key_of_its_certificate(federation: Federation) -> None:
    before = (federation.server / "server.pem").read_bytes()
    good(federation.operate("rotate"))
    (federation.server / "server.pem").write_bytes(before)
    refused(federation.operate("up"), "server.key does not belong to server.pem: run fedprune-s")


@pytest.mark.parametrize("file", ["operator.key", "ca.key"])
def test_keys_open_to_others_are_not_used(federation: Federation, file: str) -> None:
    (federation.server / file).chmod(0o644)
    command = ("rotate",) if file == "ca.key" else ("revoke", "elm")
    refused(federation.operate(*command), f"{file}: mode 0644 lets others at the private keys")


@pytest.mark.parametrize("command", ["admit", "sign", "apply", "show"])
def test_a_file_that_is_not_there_is_answered_by_a_remedy(
    federation: Federation, command: str
) -> None:
    home = () if command == "show" else ("--home", federation.server)
    gone = invoke(main, command, federation.path / "gone.json", *home)
    refused(gone, "gone.json: no such file: check the path")
    refused(invoke(main, command, federation.path, *home), "name a file that can be read")


def test_a_folder_without_keys_is_answered_by_a_remedy(tmp_path: Path) -> None:
    told = invoke(main, "rotate", "--home", tmp_path)
    refused(told, "No such file or directory: restore them from the backup, or name another folder")
    named = invoke(main, "operator", "--name", "Bob B", "--home", tmp_path / "bob")
    refused(named, "'Bob B' is no name: take up to 63 of a-z")
    assert not (tmp_path / "bob").exists()


def test_show_tells_of_every_file_that_is_sent(federation: Federation) -> None:

    good(federation.operate("revoke", "elm"))
    cases = {
        federation.at("ash") / "request.json": "name      ash",
        federation.proposal("revoke-elm"): "revoke elm of small",
        federation.proposal("admit-ash"): "admit ash to small",
        federation.bundle: "small, charter 1",
    }
    for file, said in cases.items():
        assert said in good(invoke(main, "show", file)).out
    refused(invoke(main, "show", federation.server / "ca.pem"), "not a proposal or bundle")


def test_a_federation_may_be_at_an_ipv6_address(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    good(federation.operate("init", "--name", "small", "--address", "[2001:db8::5]:9092"))
    assert tomllib.loads((federation.server / "server.toml").read_text())["listen"] == "::"
    found = {finding.what: finding for finding in examine(federation.server, datetime.now(UTC))}
    assert (found["name"].state, found["name"].said.split()[-1]) == ("good", "2001:db8::5")
