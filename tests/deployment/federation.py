"""A server's and three institutions' directories, as their founding leaves them, and their `up`."""

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from client.keys import create_identity
from common.crypto.roster import Roster
from common.entropy import SystemEntropy
from common.plan import Plan, plan_from_dict
from common.processes import write_secret
from server.desk import free_port
from simulations.consortium import consortium
from tests.commands import ROOT

STOP_SECONDS = 60.0
DAY = timedelta(days=1)

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


def write_institutions(folder: Path, approved: Mapping[str, Plan]) -> dict[str, Path]:
    """Write each institution's table, the plan it approved and its ``client.toml``."""
    identities = {}
    for name in approved:
        (folder / name).mkdir()
        keys = folder / name / "keys.json"
        identities[name] = create_identity(keys, SystemEntropy().stream("identity"))
    roster = Roster(members={name: own.member(name) for name, own in identities.items()})
    (folder / "roster.json").write_bytes(roster.to_bytes())
    tables = consortium(institutions=len(approved), loans=400, sizes="equal")
    files = {}
    for name, plan in approved.items():
        home = folder / name
        tables[name].to_csv(home / "loans.csv", index=False)
        (home / "plan.toml").write_text(plan.to_toml())
        settings = {
            "name": name,
            "plan": "plan.toml",
            "plan_hash": plan.digest(),
            "data": "loans.csv",
            "membership": {
                "keys": "keys.json",
                "roster": "../roster.json",
                "roster_hash": roster.digest,
            },
            "ledger": {"table": "loans", "limits": {"plan": 9.5, "year": 9.5, "accountant": "rdp"}},
        }
        files[name] = home / "client.toml"
        files[name].write_text(tomli_w.dumps(settings))
    return files


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
    """A certificate authority of a test."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls) -> "Authority":
        key = ec.generate_private_key(ec.SECP384R1())
        return cls(key, _certificate(key, key, "authority", "authority", 365 * DAY, ca=True))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(self, home: Path, valid: timedelta = 365 * DAY) -> None:
        """Write ``server.pem`` and ``server.key`` for loopback; a negative ``valid`` is past."""
        key = ec.generate_private_key(ec.SECP384R1())
        made = _certificate(key, self.key, "server", "authority", valid, ca=False)
        (home / "server.pem").write_bytes(made.public_bytes(Encoding.PEM))
        write_secret(home / "server.key", _private(key, PrivateFormat.PKCS8))


@dataclass(frozen=True)
class Federation:
    """The directories of a server and its institutions below one folder."""

    folder: Path
    plan: Plan
    address: str

    @property
    def server(self) -> Path:
        return self.folder / "server"

    def institution(self, name: str) -> Path:
        return self.folder / name


def found(folder: Path, plan: Plan) -> Federation:
    """Write everything that a server and the plan's institutions need to start."""
    federation = Federation(folder, plan, f"127.0.0.1:{free_port()}")
    home, authority = federation.server, Authority.make()
    (home / "members").mkdir(parents=True)
    authority.issue(home)
    for name in ("ca.key", "operator.key"):
        write_secret(home / name, _private(authority.key, PrivateFormat.PKCS8))
    (home / "ca.pem").write_bytes(authority.pem)
    settings = {"address": federation.address, "listen": "127.0.0.1"}
    (home / "server.toml").write_text(tomli_w.dumps(settings))
    (home / "plan.toml").write_text(plan.to_toml())
    for name, file in write_institutions(folder, dict.fromkeys(plan.names, plan)).items():
        with file.open("a") as text:
            text.write(f'\n[server]\naddress = "{federation.address}"\n')
        (file.parent / "ca.pem").write_bytes(authority.pem)
        make_node_key(file.parent)
        public = (file.parent / "node.key.pub").read_bytes()
        (home / "members" / f"{name}.pub").write_bytes(public)
    (home / "roster.json").write_bytes((folder / "roster.json").read_bytes())
    return federation


def make_node_key(home: Path) -> None:
    """Write ``node.key`` and ``node.key.pub``, as ``ssh-keygen -t ecdsa -b 384`` does."""
    key = ec.generate_private_key(ec.SECP384R1())
    write_secret(home / "node.key", _private(key, PrivateFormat.OpenSSH))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    (home / "node.key.pub").write_bytes(public)


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


def _private(key: ec.EllipticCurvePrivateKey, form: PrivateFormat) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def _certificate(
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    subject: str,
    issuer: str,
    valid: timedelta,
    *,
    ca: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (subject, issuer)]
    builder = (
        x509.CertificateBuilder(serial_number=x509.random_serial_number())
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .not_valid_before(now + min(valid, timedelta()) - DAY)
        .not_valid_after(now + valid)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    if ca:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        loopback = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
        builder = builder.add_extension(loopback, critical=False)
    return builder.sign(signer, hashes.SHA256())
