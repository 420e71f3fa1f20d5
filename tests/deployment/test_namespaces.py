"""The containers of docker/ without an engine: a federation over wires that a sniffer watches.

Each host is a network namespace with a wire to the server alone; the images' own entry points run
in it as the compose file says, from roots into which the Dockerfile was walked.
"""

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest
import tomli_w

from common.consent.acts import Proposal
from common.consent.agreement import mark_of
from common.crypto.locking import is_locked, unlock
from common.errors import ConfigError
from simulations.consortium import consortium
from tests.deployment.capture import (
    CLIENT_HELLO,
    SERVER_HELLO,
    Sniffer,
    Wire,
    not_tls,
    strays,
    streams,
)
from tests.deployment.federation import STOP_SECONDS, make_plan
from tests.deployment.hosts import PORT, Hosts, inside, laid_out
from tests.docker.chamber import Image, Mount, build, container_mounts, enter, missing
from tests.docker.recipe import Compose, read_compose, read_recipe

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(290),
    pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing"),
]

SERVER, MEMBERS = "server", ("bank-a", "bank-b", "bank-c")
FLEET = 9092
MONITOR = "127.0.0.1:9464"
ROUNDS = 2
WAIT_SECONDS = 120.0
LISTENING = "0A"
COMPILERS = re.compile(r"(gcc|g\+\+|cc|c\+\+|clang|cpp|ld|as|make|cmake|rustc|cargo|pip)[\d.-]*")


@dataclass
class Containers:
    """The services of the compose file, each an image on a host."""

    folder: Path
    hosts: Hosts
    compose: Compose
    images: dict[str, Image]
    up: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def home(self, host: str) -> Path:
        return self.folder / "federation" / host / "home"

    def command(self, host: str, words: Sequence[str]) -> list[str]:
        service = self.compose.services[host]
        mounts = container_mounts(self.compose, service, self.folder)
        names = [Mount(f"/etc/{name}", self.folder / host / name) for name in ("hosts", RESOLVER)]
        return enter(
            self.images[service.target],
            words,
            network=self.hosts.namespace(host),
            mounts=[*mounts, *names],
            environment={"HOME": "/var/lib/fedprune", "OMP_NUM_THREADS": "1"} | service.environment,
            hardened=True,
        )

    def begin(self, host: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start ``docker compose run HOST ARGUMENTS``."""
        image = self.images[self.compose.services[host].target]
        command = self.command(host, [*image.entrypoint, *arguments])
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, host: str, *arguments: str, seconds: float = WAIT_SECONDS) -> str:
        """Return what a command says; it must end well."""
        return said(self.begin(host, *arguments), seconds)

    def everywhere(self, *arguments: str) -> None:
        """Run a command of all institutions at once."""
        for process in [self.begin(member, *arguments) for member in MEMBERS]:
            said(process, WAIT_SECONDS)

    def execute(self, host: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run any command in a host's container."""
        command = self.command(host, words)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def start(self, host: str) -> None:
        image = self.images[self.compose.services[host].target]
        log = (self.folder / host / "up.log").open("ab")
        with log:
            self.up[host] = subprocess.Popen(
                self.command(host, [*image.entrypoint, *image.command]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def healthy(self, host: str) -> tuple[int, str]:
        """Return the status and text of a host's ``/healthz``; 0 if nothing answers."""
        get = partial(httpx.get, f"http://{MONITOR}/healthz", trust_env=False)
        try:
            reply = inside(self.hosts.namespace(host), get)
        except httpx.TransportError as error:
            return 0, str(error)
        return reply.status_code, reply.text

    def await_health(self, host: str, status: int = 200) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while (found := self.healthy(host))[0] != status:
            assert time.monotonic() < deadline, f"{host}: {found}\n{self.tails(host)}"
            time.sleep(0.3)

    def tails(self, host: str) -> str:
        logs = [self.folder / host / "up.log", *sorted(self.home(host).glob("logs/*.log"))]
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs)

    def stop(self) -> None:
        """Stop every container as an engine does, the institutions first."""
        for host in reversed(self.up):
            self.up[host].send_signal(signal.SIGTERM)
        codes = {host: process.wait(STOP_SECONDS) for host, process in self.up.items()}
        assert not any(codes.values()), "\n".join([str(codes), *map(self.tails, codes)])


RESOLVER = "resolv.conf"


def said(process: "subprocess.Popen[str]", seconds: float) -> str:
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, out
    return out


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    folder, recipe = tmp_path_factory.mktemp("images"), read_recipe()
    return {target: build(recipe, target, folder) for target in ("server", "institution")}


@pytest.fixture(scope="module")
def containers(
    images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containers]:
    folder = tmp_path_factory.mktemp("containers")
    with laid_out(SERVER, MEMBERS) as hosts:
        made = Containers(folder, hosts, read_compose(), images)
        for host in (SERVER, *MEMBERS):
            lay_folders(made, host)
        found(made)
        yield made


def lay_folders(made: Containers, host: str) -> None:
    """Make what README.md has the operator of a host make, and what an engine makes itself."""
    image = made.images[made.compose.services[host].target]
    uid, gid = map(int, image.user.split(":"))
    place = made.home(host).parent
    (place / "home").mkdir(parents=True, mode=0o700)
    (place / "table").mkdir()
    (place / "passphrase").write_text(f"passphrase of {host}\n")
    (place / "passphrase").chmod(0o400)
    for path in (place / "home", place / "passphrase"):
        os.chown(path, uid, gid)
    (made.folder / host).mkdir()
    wire = host if host in MEMBERS else MEMBERS[0]
    names = f"127.0.0.1 localhost\n{made.hosts.address(SERVER, wire)} {SERVER}\n"
    (made.folder / host / "hosts").write_text(names)
    # Whoever asks for a name is seen doing so.
    (made.folder / host / RESOLVER).write_text(f"nameserver {made.hosts.way_out(wire)}\n")


def found(made: Containers) -> None:
    """Found the federation by the commands of README.md, in the containers."""
    made.run(SERVER, "init", "--name", "trial", "--address", f"{SERVER}:{FLEET}")
    inits = [made.begin(member, "init", "--name", member) for member in MEMBERS]
    for process in inits:
        said(process, WAIT_SECONDS)
    home = made.home(SERVER)
    for member in MEMBERS:
        hand_over(made.home(member) / "request.json", home / f"{member}.json")
        made.run(SERVER, "admit", f"{member}.json")
    fields = tomllib.loads(make_plan(rounds=ROUNDS).to_toml())
    fields["operators"] = tomllib.loads((home / "plan.toml").read_text())["operators"]
    fields["institutions"] = [{"name": member, "size": 400} for member in MEMBERS]
    (home / "plan.toml").write_text(tomli_w.dumps(fields))
    made.run(SERVER, "publish")
    tables = consortium(institutions=len(MEMBERS), loans=400, sizes="equal")
    for member, table in zip(MEMBERS, tables.values(), strict=True):
        table.to_csv(made.home(member).parent / "table" / "loans.csv", index=False)
        hand_over(home / "bundle.json", made.home(member) / "bundle.json")
        settings = {
            "name": member,
            "data": "/table/loans.csv",
            "ledger": {"limits": {"plan": 9.5, "year": 9.5, "accountant": "rdp"}},
            "monitoring": {"listen": MONITOR},
        }
        (made.home(member) / "client.toml").write_text(tomli_w.dumps(settings))
    with (home / "server.toml").open("a") as file:
        file.write(f'[monitoring]\nlisten = "{MONITOR}"\n')
    made.everywhere("join", "bundle.json")
    shown = Proposal.from_bytes((home / "bundle.json").read_bytes())
    made.everywhere("approve", mark_of(shown.digest))


def hand_over(source: Path, target: Path) -> None:
    """Take a file from one home to another, whose owner it gets."""
    shutil.copy(source, target)
    owner = target.parent.stat()
    os.chown(target, owner.st_uid, owner.st_gid)


@dataclass(frozen=True)
class Trial:
    """A federation whose run is over, and what was on its wires meanwhile."""

    containers: Containers
    frames: list[bytes]
    lost: int

    @property
    def wires(self) -> list[Wire]:
        hosts = self.containers.hosts
        return [Wire(hosts.address(m, m), hosts.address(SERVER, m), FLEET) for m in MEMBERS]


@pytest.fixture(scope="module")
def trial(containers: Containers) -> Iterator[Trial]:
    sniffer = inside(containers.hosts.between, partial(Sniffer, PORT))
    try:
        containers.start(SERVER)
        containers.await_health(SERVER)
        for member in MEMBERS:
            containers.start(member)
        for member in MEMBERS:
            containers.await_health(member)
        containers.run(SERVER, "start", "--wait", "--run", "first", seconds=200)
    finally:
        lost = sniffer.stop()
    yield Trial(containers, sniffer.frames, lost)
    containers.stop()


def test_images_hold_what_they_start_and_nothing_to_build_or_to_hide(
    images: dict[str, Image],
) -> None:
    for image in images.values():
        program = image.root / "opt/fedprune/bin" / image.entrypoint[0]
        assert program.read_text().startswith("#!/opt/fedprune/bin/python")
        assert os.access(program, os.X_OK)
        assert image.health[0] == image.entrypoint[0]
        home = (image.root / image.folder.lstrip("/")).stat()
        assert (f"{home.st_uid}:{home.st_gid}", home.st_mode & 0o777) == (image.user, 0o700)
        assert f":x:{image.user}::" in (image.root / "etc/passwd").read_text()
        laid = [path for path in image.root.rglob("*") if path.is_file()]
        assert not [path for path in laid if COMPILERS.fullmatch(path.name)]
        hidden = [path for path in laid if path.suffix in {".key", ".pem", ".csv", ".sqlite"}]
        assert not hidden
        (packages,) = (image.root / "opt/fedprune/lib").glob("python*/site-packages")
        ours = {path.name for path in packages.iterdir() if path.is_dir()}
        assert {"client", "common", "fedprune", "server", "simulations"} <= ours
        assert not {"tests", "docker", "benchmarks"} & ours
        assert (packages / "common" / "schemas" / "credit_consortium.toml").is_file()


def test_a_container_can_write_nothing_but_its_home_and_tmp(containers: Containers) -> None:
    for host in (SERVER, MEMBERS[0]):
        words = containers.execute(host, "sh", "-c", "id; grep -E 'Cap|NoNew' /proc/self/status")
        assert words.stdout.startswith("uid=10001(fedprune) gid=10001(fedprune) groups=10001")
        rights = dict(line.split(":\t") for line in words.stdout.splitlines()[1:])
        assert rights.pop("NoNewPrivs") == "1"
        assert set(rights.values()) == {"0" * 16}
        for place in ("/", "/opt/fedprune/bin", "/etc", "/usr", "/var/lib", "/run/secrets", "/dev"):
            tried = containers.execute(host, "sh", "-c", f": > {place}/probe")
            assert tried.returncode != 0, place
        for place in ("/tmp", "/var/lib/fedprune"):
            tried = containers.execute(host, "sh", "-c", f": > {place}/probe && rm {place}/probe")
            assert tried.returncode == 0, tried.stderr
        if host != SERVER:
            assert containers.execute(host, "sh", "-c", ": > /table/probe").returncode != 0
        secrets = containers.execute(host, "cat", "/run/secrets/passphrase").stdout
        assert secrets == f"passphrase of {host}\n"


def test_keys_of_a_home_are_locked_by_its_own_secret(containers: Containers) -> None:
    for member in MEMBERS:
        held = (containers.home(member) / "keys.json").read_bytes()
        assert is_locked(held)
        unlock(held, f"passphrase of {member}")
        with pytest.raises(ConfigError):
            unlock(held, f"passphrase of {SERVER}")


def test_three_institutions_train_a_model_across_namespaces(trial: Trial) -> None:
    out = trial.containers.home(SERVER) / "runs" / "first"
    rows = list(csv.DictReader((out / "rounds.csv").read_text().splitlines()))
    assert [row["survivors"] for row in rows] == ["3"] * (ROUNDS + 1)
    assert (out / "model.onnx").is_file()


def test_the_wires_carried_tls_to_the_public_port_and_nothing_else(trial: Trial) -> None:
    assert trial.lost == 0
    assert list(strays(trial.frames, trial.wires)) == []
    heard = streams(trial.frames)
    servers = {wire.server: wire.member for wire in trial.wires}
    callers = set()
    for (source, target), bytes_said in heard.items():
        hello = SERVER_HELLO if source[1] == FLEET else CLIENT_HELLO
        assert not_tls(bytes_said, hello) == "", f"{source} to {target}"
        if hello == CLIENT_HELLO:
            assert target[1] == FLEET
            callers.add(servers[target[0]])
    assert callers == {wire.member for wire in trial.wires}
    carried = sum(map(len, heard.values()))
    assert carried > 10_000, "a run leaves more than this"


def test_what_does_not_belong_on_a_wire_is_seen(containers: Containers) -> None:
    hosts, member = containers.hosts, MEMBERS[0]
    wires = [Wire(hosts.address(m, m), hosts.address(SERVER, m), FLEET) for m in MEMBERS]
    sniffer = inside(hosts.between, partial(Sniffer, PORT))
    try:
        # A name that nobody knows, asked for by a process in the container itself.
        looked = "import socket; socket.gethostbyname('elsewhere.example')"
        code = f"import signal; signal.alarm(1); {looked}"
        containers.execute(member, "python", "-c", code)
        inside(hosts.namespace(member), partial(knock, "192.0.2.1", 443))
        inside(hosts.namespace(MEMBERS[1]), partial(knock, hosts.address(member, member), 9464))
        inside(hosts.namespace(member), partial(knock, hosts.address(SERVER, member), 22))
        inside(hosts.namespace(SERVER), partial(knock, hosts.address(member, member), 22))
    finally:
        sniffer.stop()
    seen = set(strays(sniffer.frames, wires))
    own, there = hosts.address(member, member), hosts.address(SERVER, member)
    assert {
        f"{own} looks for {hosts.way_out(member)}",
        f"{own} to 192.0.2.1, protocol 6",
        f"{hosts.address(MEMBERS[1], MEMBERS[1])} to {own}, protocol 6",
        f"{own} to {there}, port 22",
        f"{there} to {own}, port 22",
    } <= seen
    assert any("protocol 17" in line for line in seen), "a question for a name went unseen"


def test_an_institution_has_no_port_and_the_server_one(trial: Trial) -> None:
    hosts = trial.containers.hosts
    for member in MEMBERS:
        own, there = hosts.address(member, member), hosts.address(SERVER, member)
        ports = inside(hosts.namespace(member), listening)
        assert ports, "not even the SuperNode listens"
        assert {address for address, _ in ports} == {"127.0.0.1"}
        for _, port in ports:
            assert not inside(hosts.namespace(SERVER), partial(knock, own, port)), port
        ports = inside(hosts.namespace(SERVER), listening)
        assert [port for address, port in ports if address != "127.0.0.1"] == [FLEET]
        open_ports = {
            port
            for _, port in ports
            if inside(hosts.namespace(member), partial(knock, there, port))
        }
        assert open_ports == {FLEET}
    for other in MEMBERS[1:]:
        away = partial(knock, hosts.address(other, other), FLEET)
        assert not inside(hosts.namespace(MEMBERS[0]), away)


def listening() -> set[tuple[str, int]]:
    """Return where this thread's network namespace listens, by any protocol; IPv6 is off."""
    found = set()
    for name, state in (("tcp", LISTENING), ("udp", "07")):
        for line in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]:
            _, local, _, now, *_ = line.split()
            address, port = local.split(":")
            if now == state:
                number = int(address, 16).to_bytes(4, "little")
                found.add((socket.inet_ntoa(number), int(port, 16)))
    return found


def knock(address: str, port: int) -> bool:
    """Say whether a port can be connected to."""
    try:
        socket.create_connection((address, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def test_health_is_told_by_the_images_own_check_and_falls_with_consent(trial: Trial) -> None:
    containers, member = trial.containers, MEMBERS[2]
    for host in (SERVER, member):
        image = containers.images[containers.compose.services[host].target]
        # The server's executor starts anew after a run.
        containers.await_health(host)
        checked = containers.execute(host, *image.health)
        assert checked.returncode == 0, checked.stderr
    pin = containers.home(member) / "consent.json"
    withdrawn = pin.rename(pin.with_name("withdrawn"))
    containers.await_health(member, 503)
    checked = containers.execute(member, *containers.images["institution"].health)
    assert checked.returncode == 1
    assert "not healthy: executor" in checked.stderr
    withdrawn.rename(pin)
    containers.await_health(member)
