"""What two operators' federation refuses on its real engine, and where people read why.

All keys that `up` needs are under a passphrase. The tests follow each other: a member that was
revoked stays so.
"""

import csv
import hashlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli_w

from client.config import load_config, open_ledger
from client.consent import Home
from client.supernode import WHY
from common.consent.acts import charter_of
from common.secret_files import PASSPHRASE, read_secret
from server import control
from server.desk import find_desk, free_port
from tests import founding
from tests.deployment.federation import (
    Federation,
    await_health,
    make_node_key,
    processes_of,
    tails,
    up,
)
from tests.deployment.loopback import operate
from tests.founding import NAMES, good, put_under_passphrase, read, refused

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

REVOKED, LOYAL = "elm", ("ash", "birch", "cedar")
WORDS = "correct horse battery staple"
FORMER = "oak"
"""Revoked before there was a plan, so that the server sends the roster that says so."""


@dataclass(frozen=True)
class Deployed:
    """A federation that is up, what its people type, and its first bundle."""

    people: founding.Federation
    bundle: bytes

    @property
    def server(self) -> Path:
        return self.people.server

    def at(self, name: str) -> Path:
        return self.people.at(name)

    def start(self, run: str, *arguments: str) -> str:
        """Start a run; return what the command complains of, if anything."""
        return operate(self.server, "start", "--run", run, *arguments).stderr

    def stop(self) -> None:
        assert operate(self.server, "stop").returncode == 0

    def survivors(self, run: str) -> list[str]:
        """Return the number of survivors of each finished round."""
        file = self.server / "runs" / run / "rounds.csv"
        text = file.read_text() if file.is_file() else ""
        return [row["survivors"] for row in csv.DictReader(text.splitlines())]

    def status(self) -> str:
        return operate(self.server, "status").stdout

    def log(self, name: str, process: str = "executor") -> str:
        return (self.at(name) / "logs" / f"{process}.log").read_text()

    def charged(self, name: str) -> set[tuple[str, int]]:
        """Return the run and number of each round that an institution's ledger has charged."""
        home = self.at(name)
        book, _ = open_ledger(load_config(home / "client.toml").ledger, home).read()
        return {
            (run, entry.round)
            for run, account in book.accounts.items()
            for entry in account.charged
        }

    def spent(self) -> dict[str, set[tuple[str, int]]]:
        return {name: self.charged(name) for name in NAMES}

    def online(self) -> set[str]:
        with control.at(find_desk(self.server)) as superlink:
            return {node.name for node in control.nodes(superlink) if node.status == control.ONLINE}

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "\n".join(
                tails(home) for home in (self.server, *map(self.at, NAMES))
            )
            time.sleep(0.1)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("refusals")
    people, address = founding.Federation(folder), f"127.0.0.1:{free_port()}"
    founding.open_server(people, address)
    with (people.server / "server.toml").open("a") as settings:
        settings.write('listen = "127.0.0.1"\n')
    limits = {"plan": 9.5, "year": "none", "ever": "none", "accountant": "rdp"}
    for index, name in enumerate((*NAMES, FORMER)):
        people.enrol(name)
        founding.write_table(people.at(name) / "records.csv", index)
        settled = {"name": name, "data": "records.csv", "ledger": {"limits": limits}}
        (people.at(name) / "client.toml").write_text(tomli_w.dumps(settled))
    people.act(f"revoke-{FORMER}", "revoke", FORMER)
    people.publish(
        1,
        training={"rounds": 60},
        aggregation={"threshold": 3, "colluders": 0, "attempts": 2, "timeout": 15.0},
    )
    people.approve(*NAMES)
    made = Deployed(people, people.bundle.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSPHRASE, WORDS)
        for file in private_keys(made):
            put_under_passphrase(file, WORDS)
        yield from running(made, address)


def private_keys(federation: Deployed) -> list[Path]:
    """Return the files of the keys that processes of `up` need."""
    members = [federation.at(name) / key for name in NAMES for key in ("keys.json", "node.key")]
    return [federation.server / "server.key", *members]


def running(made: Deployed, address: str) -> Iterator[Deployed]:
    people, folder = made.people, made.people.path
    with up(("server.cli", people.server)):
        await_health(Federation(folder, people.home.charter.agreed, address))
        with up(*(("client.cli", people.at(name)) for name in NAMES)):
            made.until(lambda: made.online() == {*NAMES})
            yield made
    assert processes_of(folder) == []


def test_no_key_lies_open_and_no_outward_process_knows_the_passphrase(
    federation: Deployed,
) -> None:
    for file in private_keys(federation):
        clear = read_secret(file, lambda: WORDS)
        # Of PEM a line within: the first is the same for all keys, the last may be padding.
        lines = clear.splitlines()
        secret = lines[-3] if len(lines) > 3 else clear
        for other in federation.people.path.rglob("*"):
            assert not other.is_file() or secret not in other.read_bytes(), other
    told = {}
    for number in processes_of(federation.people.path):
        process = Path("/proc") / number
        command = process.joinpath("cmdline").read_bytes()
        told[command] = f"{PASSPHRASE}={WORDS}".encode() in process.joinpath("environ").read_bytes()
    knowing = [command for command, knows in told.items() if knows]
    assert len(told) > len(knowing) == len(NAMES)
    assert all(b"client.executor" in command for command in knowing)


def test_a_plan_altered_after_its_approval_is_not_worked_on(federation: Deployed) -> None:
    plan, spent = federation.at("ash") / "plan.toml", federation.spent()
    approved = plan.read_text()
    plan.write_text(approved.replace("rounds = 60", "rounds = 61"))
    try:
        told = federation.start("altered", "--wait")
    finally:
        plan.write_text(approved)
    named = "ash did not join within 15 s (1 refused: not approved; their own logs say more)"
    assert named in told
    assert named in federation.status()
    assert "refused join: " in federation.log("ash")
    assert "plan has hash" in federation.log("ash")
    assert federation.survivors("altered") == []
    assert federation.spent() == spent, "a refused run was charged"


def test_a_revoked_member_is_cut_off_at_the_next_round(federation: Deployed) -> None:
    federation.start("first")
    federation.until(lambda: len(federation.survivors("first")) >= 2)
    federation.people.act(f"revoke-{REVOKED}", "revoke", REVOKED)
    federation.people.act("publish-2", "publish")
    for name in LOYAL:
        told = good(federation.people.do(name, "join", federation.people.bundle)).out
        assert "Nothing here needs approval" in told
    federation.until(lambda: federation.survivors("first").count("3") >= 2)
    federation.stop()
    survivors = federation.survivors("first")
    full, without = survivors.count("4"), survivors.count("3")
    # Who joined in the middle of a round is in it under another roster: it may be lost.
    lost = ["0"] * (len(survivors) - full - without)
    assert survivors == ["4"] * full + lost + ["3"] * without
    assert len(lost) <= 1
    # It may have been charged for one round more, which the others did without it.
    assert {number for _, number in federation.charged(REVOKED)} <= set(range(full + 1))
    assert len(federation.charged("ash")) >= full + without
    assert federation.online() == {*LOYAL}
    assert REVOKED not in federation.status()
    federation.until(lambda: WHY in federation.log(REVOKED, "supernode"))
    latest = federation.people.do(REVOKED, "join", federation.people.bundle)
    refused(latest, "'elm' was revoked from the roster: ask an operator to admit it")


def test_a_replayed_bundle_is_refused(federation: Deployed) -> None:
    home, older = federation.at("ash"), federation.server / "older.json"
    pin = Home(home).pin
    older.write_bytes(federation.bundle)
    refused(federation.people.do("ash", "join", older), "bundle 1 is no newer than 2, which was")
    (home / "pending.json").write_bytes(federation.bundle)
    refused(federation.people.consent("ash"), "bundle 1 is no newer than 2, which was seen")
    (home / "pending.json").unlink()
    assert Home(home).pin == pin


def test_a_roster_with_one_member_more_than_approved_is_refused(federation: Deployed) -> None:
    """The server goes back to the roster of the first bundle, signed as it is."""
    roster, spent = federation.server / "roster.json", federation.spent()
    approved = roster.read_bytes()
    # SuperLink takes no key that it shut out; the roster does not hold it.
    make_node_key(federation.at(REVOKED))
    guest = federation.server / "members" / f"{REVOKED}.pub"
    roster.write_bytes(charter_of(read(federation.people.bundle)).roster.to_bytes())
    assert roster.read_bytes() == approved
    older = federation.server / "older.json"
    older.write_bytes(federation.bundle)
    roster.write_bytes(charter_of(read(older)).roster.to_bytes())
    guest.write_bytes((federation.at(REVOKED) / "node.key.pub").read_bytes())
    try:
        federation.until(lambda: REVOKED in federation.online())
        told = federation.start("grown", "--wait")
    finally:
        roster.write_bytes(approved)
        guest.unlink()
    named = ", ".join(f"{name} refused: roster-grew" for name in LOYAL)
    assert named in told
    assert named in federation.status()
    for name in LOYAL:
        assert "refused advertise: " in federation.log(name)
    # The round that nobody keyed is told as a lost one.
    assert set(federation.survivors("grown")) <= {"0"}
    assert federation.spent() == spent, "a refused run was charged"


def test_the_others_go_on_without_the_revoked(federation: Deployed) -> None:
    federation.until(lambda: federation.online() == {*LOYAL})
    federation.start("second")
    federation.until(lambda: federation.survivors("second")[:1] == ["3"])


def test_a_renewed_certificate_costs_no_run(federation: Deployed) -> None:
    """The run of the test before goes on over it."""
    before, done = served(federation), len(federation.survivors("second"))
    told = good(federation.people.operate("rotate")).out
    assert "`up` serves by it at once" in told
    federation.until(lambda: served(federation) not in {before, None})
    assert served(federation) == fingerprint((federation.server / "server.pem").read_text())
    federation.until(lambda: federation.survivors("second")[done + 1 :].count("3") >= 2)
    federation.stop()
    log = (federation.server / "up.log").read_text()
    assert log.count("gateway starts again: its key or a certificate was renewed") == 1


def test_an_authority_follows_another_while_all_are_up(federation: Deployed) -> None:
    people = federation.people
    good(people.operate("rotate", "--authority"))
    people.act("publish-3", "publish")
    people.approve(*LOYAL)
    before = served(federation)
    good(people.operate("rotate"))
    federation.until(lambda: served(federation) not in {before, None})
    federation.start("third")
    federation.until(lambda: federation.survivors("third")[:1] == ["3"])
    federation.stop()
    good(people.operate("rotate", "--retire"))
    people.act("publish-4", "publish")
    for name in LOYAL:
        assert "Nothing here needs approval" in good(people.do(name, "join", people.bundle)).out
        pinned = (federation.at(name) / "ca.pem").read_bytes()
        assert pinned == (federation.server / "ca.pem").read_bytes()
    assert trusted(federation.at("ash") / "ca.pem", federation)
    federation.until(lambda: federation.online() == {*LOYAL})


def trusted(authority: Path, federation: Deployed) -> bool:
    """Whether a program that knows this authority alone may talk to the public port."""
    host, port = federation.people.home.settings.address.split(":")
    context = ssl.create_default_context(cafile=authority)
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=host) as link,
    ):
        return link.version() is not None


def served(federation: Deployed) -> str | None:
    """Return the fingerprint of the certificate that the public port shows, if it is open."""
    host, port = federation.people.home.settings.address.split(":")
    try:
        return fingerprint(ssl.get_server_certificate((host, int(port)), timeout=20))
    except OSError:
        return None


def fingerprint(pem: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
