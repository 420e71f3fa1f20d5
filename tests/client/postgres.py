"""A PostgreSQL server of its own for the tests that need one, or the reason why there is none."""

import datetime
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pg8000.dbapi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, SECRET = "reader", "pa:ss/w@rd"
BINARIES = Path("/usr/lib/postgresql")
OWNER = "postgres"


@dataclass(frozen=True)
class Cluster:
    """A running server on loopback: its port, and the folder that holds its certificate."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        """The URL of its database, without a password."""
        return f"postgresql+pg8000://{USER}@127.0.0.1:{self.port}/postgres"

    @property
    def certificate(self) -> Path:
        """The certificate it shows, which signed itself."""
        return self.folder / "server.pem"

    def execute(self, *statements: str) -> None:
        """Run statements, as whoever may do anything."""
        connection = pg8000.dbapi.connect(
            USER, host="127.0.0.1", port=self.port, database="postgres", password=SECRET
        )
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        connection.commit()
        connection.close()


def missing() -> str:
    """Return why no server can be started here, or nothing."""
    if _binaries() is None:
        return "no PostgreSQL: install Debian's postgresql package"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and there is no runuser"
    return ""


@contextmanager
def postgres() -> Iterator[Cluster]:
    """Run a server with a data directory of its own until the block ends."""
    # Not pytest's folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="fedprune-postgres-"))
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        secret = folder / "secret"
        secret.write_text(SECRET)
        certificate, key = certify(folder / "server.pem"), folder / "server.key"
        data = folder / "data"
        if os.geteuid() == 0:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, OWNER, OWNER)
        _run(
            "initdb",
            *("--pgdata", data, "--username", USER, "--pwfile", secret, "--no-sync"),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"),
        )
        options = {"listen_addresses": "127.0.0.1", "port": str(port), "fsync": "off"}
        options |= {"unix_socket_directories": str(folder), "ssl": "on"}
        options |= {"ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in options.items())
        log = folder / "log"
        _run("pg_ctl", "start", "--pgdata", data, "--log", log, "--wait", "--silent")
        try:
            yield Cluster(port, folder)
        finally:
            _run("pg_ctl", "stop", "--pgdata", data, "--mode", "immediate", "--silent")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def certify(path: Path) -> Path:
    """Write a certificate for 127.0.0.1 that signs itself, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        builder.not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.with_suffix(".key").chmod(0o600)
    return path


def _binaries() -> Path | None:
    found = sorted(BINARIES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).parent if named else None


def _run(command: str, *arguments: object) -> None:
    folder = _binaries()
    assert folder is not None
    words = [str(folder / command), *map(str, arguments)]
    if os.geteuid() == 0:
        words = ["runuser", "-u", OWNER, "--", *words]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd="/", timeout=60)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise AssertionError(f"{command} ended with {done.returncode}")
