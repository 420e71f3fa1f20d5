"""A server's and its members' directories, founded by the commands they type, and their `up`."""

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import tomli_w
from cryptography import x509

from client.cli import main as client_main
from client.consent import PIN, read_pin
from common.consent.acts import Proposal
from common.consent.agreement import mark_of
from common.crypto import node_keys
from common.plan import Plan, load_plan, plan_from_dict
from common.processes import write_secret
from server import certificates
from server.cli import main as server_main
from server.desk import LOOPBACK, free_port
from server.home import ServerHome
from simulations.consortium import consortium
from tests.commands import ROOT, invoke

STOP_SECONDS = 60.0
COMMAND_SECONDS = 150.0
DAY = timedelta(days=1)

SERVER, CLIENT = "server.cli", "client.cli"
"""The modules of the two commands."""

ROUNDS = 3
NAMES = ("bank-00", "bank-01", "bank-02")


def make_plan(epsilon: float = 1.5, hidden: tuple[int, ...] = (16,), rounds: int = ROUNDS) -> Plan:
    return plan_from_dict(
        {
            "name": "loopback",
            "schema": "credit_consortium",
            "institutions": [{"name": name, "size": 400} for name in NAMES],
            "model": {"hidden": list(hidden)},
            "training": {"rounds": rounds, "steps": 2, "sample_rate": 0.1},
            "privacy": {"epsilon": epsilon, "delta": 1e-4, "accountant": "rdp"},
            "aggregation": {"kind": "secure", "timeout": 90.0},
            "pruning": {"sparsity": 0.5, "start": 0.0, "end": 0.7},
            # So few rows under so much noise would now and then show no positives at all.
            "evaluation": {"rounds": 1, "epsilon": 8.0},
        }
    )


def processes_of(folder: Path) -> list[str]:
    """Return the processes whose environment names ``folder``; no zombie's does."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if bytes(folder) in environment.read_bytes():
                found.append(environment.parent.name)
    return found


@dataclass(frozen=True)
class Authority:
    """A certificate authority that no member pinned."""

    key: certificates.Key
    certificate: x509.Certificate

    @classmethod
    def make(cls) -> "Authority":
        return cls(*certificates.new_authority("other", int(time.time()), os.urandom))

    @property
    def pem(self) -> bytes:
        return certificates.certificate_pem(self.certificate)

    def issue(self, home: Path, valid: timedelta = certificates.SERVER_DAYS * DAY) -> None:
        """Write ``server.pem`` and ``server.key`` for loopback; a negative ``valid`` is past."""
        since = valid - certificates.SERVER_DAYS * DAY
        at, own = int(time.time() + since.total_seconds()), (self.key, self.certificate)
        key, made = certificates.new_server(LOOPBACK, own, at, os.urandom)
        (home / "server.pem").write_bytes(certificates.certificate_pem(made))
        write_secret(home / "server.key", certificates.key_pem(key))


def make_node_key(home: Path) -> None:
    """Write ``node.key`` and ``node.key.pub`` of nobody who was admitted."""
    key = node_keys.generate_key(os.urandom)
    write_secret(home / "node.key", node_keys.private_file(key))
    (home / "node.key.pub").write_text(node_keys.public_line(key))


@dataclass(frozen=True)
class Federation:
    """The directories of a server and its institutions below one folder.

    ``plan`` is the one that was published: it names the operators, whose keys `init` made.
    """

    folder: Path
    plan: Plan
    address: str

    @property
    def server(self) -> Path:
        return self.folder / "server"

    def institution(self, name: str) -> Path:
        return self.folder / name


@dataclass(frozen=True)
class Step:
    """A command that somebody types, and what that does in plain words."""

    words: str
    module: str
    home: Path
    arguments: tuple[object, ...]

    @property
    def line(self) -> str:
        """The command as it is typed."""
        program = {SERVER: "fedprune-server", CLIENT: "fedprune-client"}[self.module]
        return " ".join(map(str, (program, *self.arguments, "--home", self.home)))


Perform = Callable[[Step], object]


def in_process(step: Step) -> None:
    """Perform a step at the price of its work, without a start of Python."""
    main = {SERVER: server_main, CLIENT: client_main}[step.module]
    done = invoke(main, *step.arguments, "--home", step.home)
    assert done.code == 0, f"{step.line}: {done.err}"


def by_command(step: Step) -> None:
    """Perform a step in a process of its own."""
    done = command(step.module, step.home, *step.arguments)
    if done.returncode:
        raise SystemExit(f"{step.line}: {done.stderr}")


def command(module: str, home: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run one of the commands on the directory ``home``."""
    return subprocess.run(
        (sys.executable, "-m", module, *map(str, arguments), "--home", str(home)),
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


def found(folder: Path, plan: Plan, perform: Perform = in_process) -> Federation:
    """Found a federation of the plan's institutions, all of whom approve it."""
    federation = Federation(folder, plan, f"{LOOPBACK}:{free_port()}")
    for step in founding(federation):
        perform(step)
    return publish(federation, plan, perform)


def founding(federation: Federation) -> Iterator[Step]:
    """Yield what the people type until all are admitted; what they write by hand is written."""
    server, names = federation.server, federation.plan.names
    yield Step(
        "The central bank makes an authority, a certificate, an operator's key and a plan to fill.",
        SERVER,
        server,
        ("init", "--name", federation.plan.name, "--address", federation.address),
    )
    with (server / "server.toml").open("a") as settings:
        settings.write(f'listen = "{LOOPBACK}"\n')
    tables = consortium(institutions=len(names), loans=400, sizes="equal").values()
    for name, table in zip(names, tables, strict=True):
        home = federation.institution(name)
        made = f"{name} makes its keys, which stay on its machine, and a request without secrets."
        yield Step(made, CLIENT, home, ("init", "--name", name))
        table.to_csv(home / "loans.csv", index=False)
        limits = {"plan": 9.5, "year": 9.5, "accountant": "rdp"}
        settled = {
            "name": name,
            "data": "loans.csv",
            "ledger": {"table": "loans", "limits": limits},
        }
        (home / "client.toml").write_text(tomli_w.dumps(settled))
        admitted = f"The central bank admits {name} and registers its node's key."
        yield Step(admitted, SERVER, server, ("admit", home / "request.json"))


def publish(federation: Federation, plan: Plan, perform: Perform = in_process) -> Federation:
    """Fill in the plan under the operators that there are, publish it and have it approved."""
    file, board = federation.server / "plan.toml", ServerHome(federation.server).operators
    file.write_text(plan.model_copy(update={"operators": board}).to_toml())
    for step in agreeing(federation, plan.names):
        perform(step)
    return Federation(federation.folder, load_plan(file), federation.address)


def agreeing(federation: Federation, names: tuple[str, ...]) -> Iterator[Step]:
    """Yield what the people type until a plan is published and approved."""
    published = "The central bank signs the members' keys and the plan: the bundle to join by."
    yield Step(published, SERVER, federation.server, ("publish",))
    for name in names:
        home = federation.institution(name)
        shown = f"{name} checks the bundle and is shown what it asks for."
        yield Step(shown, CLIENT, home, ("join", federation.server / "bundle.json"))
        mark = mark_of(Proposal.from_bytes((federation.server / "bundle.json").read_bytes()).digest)
        approved = f"{name} approves what it has read: plan, members, authority."
        yield Step(approved, CLIENT, home, ("approve", mark))


def dial(home: Path, address: str) -> None:
    """Have an institution dial a relay in place of the address that it approved."""
    pin = read_pin(home)
    assert pin is not None
    (home / PIN).write_bytes(pin.model_copy(update={"address": address}).to_bytes())


@contextmanager
def up(*commands: tuple[str, Path]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run `up` of (module, home) pairs, the server's first; expect all to end well when stopped."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for module, home in commands:
            started.append(start_up(module, home))
        yield started
    except BaseException as error:
        error.add_note("\n".join(tails(home) for _, home in commands))
        raise
    finally:
        # The institutions first: they sign off.
        codes = [*stop(started[1:]), *stop(started[:1])]
        assert not any(codes), "\n".join(tails(home) for _, home in commands)


def start_up(module: str, home: Path) -> subprocess.Popen[bytes]:
    command = (sys.executable, "-m", module, "up", "--home", str(home))
    with (home / "up.log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def stop(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    return [process.wait(STOP_SECONDS) for process in processes]


def await_health(federation: Federation, seconds: float = 60.0) -> None:
    """Wait until the public port passes on that SuperLink is well."""
    trusted = ssl.create_default_context(cafile=federation.server / "ca.pem")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            url = f"https://{federation.address}/health"
            if httpx.get(url, verify=trusted, trust_env=False).is_success:
                return
        time.sleep(0.2)
    raise AssertionError(tails(federation.server))


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def tails(home: Path, lines: int = 40) -> str:
    """Return the ends of a home's logs."""
    logs = [home / "up.log", *sorted((home / "logs").glob("*.log"))]
    return "\n".join(
        f"--- {log.relative_to(home.parent)}\n" + "\n".join(log.read_text().splitlines()[-lines:])
        for log in logs
    )
