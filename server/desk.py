"""The operators' way to SuperLink: a port on loopback, its certificate, the executor's secret.

Flower's Control API asks nobody who they are, so SuperLink listens on loopback alone, and what
is public goes through `server.gateway`. `up` makes all of this anew whenever it starts: nothing
here outlives it or leaves the machine, and the federation's own certificate needs no name for
loopback.
"""

import json
import re
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from pydantic import BaseModel, ConfigDict

from common.address import Address, join_address, split_address
from common.entropy import Stream
from common.errors import ConfigError
from common.parsing import read_toml
from common.processes import is_up, write_secret
from common.status import Monitoring

LOOPBACK = "127.0.0.1"
VALID = timedelta(days=3650)
SECRET_BYTES = 32

RUN_KEY = "run"
"""Run configuration key: the name of the run's directory below ``runs/``."""

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

OFFER = "release:"
"""Begins what SuperLink calls a run that trains nothing and hands a run's release round."""


class NoServerError(ConfigError):
    """No `up` runs in this folder, or it has died."""


class Public(BaseModel):
    """Where the institutions find the server, from ``server.toml``, which holds more.

    ``address`` is what they dial and what the certificate is made out to; ``listen`` is the host
    whose port is bound, where a router or balancer stands in between.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    address: Address
    listen: str = "0.0.0.0"  # noqa: S104 - the fleet API is there to be reached
    monitoring: Monitoring = Monitoring()

    @property
    def host(self) -> str:
        """The name or number that institutions dial."""
        return split_address(self.address)[0]

    @property
    def port(self) -> int:
        """The public port."""
        return split_address(self.address)[1]


@dataclass(frozen=True)
class Desk:
    """Where SuperLink listens, and the files that reach it."""

    port: int
    certificate: Path
    key: Path
    secret: Path

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{LOOPBACK}:{self.port}"

    def control(self, timeout: float = 30.0) -> ControlHttpClient:
        """Return a client of the Control API, ``timeout`` in seconds; errors are httpx's."""
        return ControlHttpClient(
            f"https://{self.address}",
            interceptors=[RuntimeVersionHttpInterceptor(component_name="fedprune-server")],
            verify=ssl.create_default_context(cafile=self.certificate),
            timeout=timeout,
        )


read_public = partial(read_toml, Public.model_validate, kind=ConfigError)
"""Read ``server.toml``; raise `ConfigError` naming what is wrong."""


def require_port(public: Public) -> None:
    """Raise `ConfigError` unless the public port can be listened on."""
    where = join_address(public.listen, public.port)
    family = socket.AF_INET6 if ":" in public.listen else socket.AF_INET
    try:
        socket.create_server((public.listen, public.port), family=family).close()
    except OSError as error:
        said = str(error.strerror).partition(" (")[0]  # Python adds the address once more.
        raise ConfigError(
            f"{where}: {said}: stop what listens there, or give server.toml another address"
        ) from error


def await_port(public: Public, seconds: float) -> None:
    """Wait for the public port, which an `up` that was killed may hold while its gateway ends."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ConfigError):
            return require_port(public)
        time.sleep(0.2)
    require_port(public)


def offered_run(name: str) -> str | None:
    """Return the run whose release a run of this name hands round; None if it trains."""
    return name.removeprefix(OFFER) if name.startswith(OFFER) else None


def open_desk(home: Path, now: datetime, stream: Stream) -> Desk:
    """Choose a port, make its certificate and the executor's secret, and note where they are."""
    desk = _desk(home, free_port())
    desk.certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    write_secret(desk.certificate, _certificate(key, now))
    write_secret(
        desk.key,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    write_secret(desk.secret, stream(SECRET_BYTES))
    write_secret(_note(home), json.dumps({"port": desk.port}).encode())
    return desk


def find_desk(home: Path) -> Desk:
    """Return the desk of the `up` that runs in ``home``; raise `NoServerError` if none does."""
    if not _note(home).is_file() or not is_up(home):
        raise NoServerError(f"{home}: no server runs here: start it by `fedprune-server up`")
    return _desk(home, int(json.loads(_note(home).read_bytes())["port"]))


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _note(home: Path) -> Path:
    return home / "state" / "desk.json"


def _desk(home: Path, port: int) -> Desk:
    state = home / "state"
    return Desk(port, state / "desk.pem", state / "desk.key", state / "executor.secret")


def _certificate(key: ec.EllipticCurvePrivateKey, now: datetime) -> bytes:
    """Return a certificate for loopback, its own authority, valid from an hour ago."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedprune loopback")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - timedelta(hours=1))
        .not_valid_after(now.astimezone(UTC) + VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(LOOPBACK))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
