"""`fedprune-server doctor`: what would keep a server from running, before it does."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from common import checkup
from common.checkup import BAD, GOOD, NOTE, Finding
from common.errors import ConfigError
from common.processes import is_up
from server.desk import Public, read_public

RENEWAL = "issue a new one for the institutions to pin, and start `up` again"


def examine(home: Path, now: datetime) -> Iterator[Finding]:
    """Yield a finding for each thing looked at."""
    yield from checkup.versions()
    yield from checkup.disk(home)
    for name in ("ca.pem", "server.pem"):
        yield from checkup.certificate(home / name, now, RENEWAL)
    for name in ("ca.key", "server.key", "operator.key"):
        yield from checkup.private(home / name)
    yield from checkup.issued(home / "server.pem", home / "ca.pem")
    yield from _pair(home)
    try:
        public = read_public(home / "server.toml")
    except ConfigError as error:
        yield Finding("server.toml", BAD, str(error), "write it by `fedprune-server init`")
        return
    yield from _named(home / "server.pem", public)
    yield from _port(home, public)
    yield from _members(home)


def _pair(home: Path) -> Iterator[Finding]:
    with suppress(ConfigError, OSError, ValueError, TypeError):
        key = load_pem_private_key((home / "server.key").read_bytes(), None).public_key()
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        held = checkup.read_certificate(home / "server.pem").public_key()
        if held.public_bytes(*form) == key.public_bytes(*form):
            yield Finding("key pair", GOOD, "server.key belongs to server.pem")
            return
    yield Finding("key pair", BAD, "server.key does not belong to server.pem", RENEWAL)


def _named(path: Path, public: Public) -> Iterator[Finding]:
    with suppress(ConfigError, x509.ExtensionNotFound):
        found = checkup.read_certificate(path).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        try:
            named = ip_address(public.host) in found.value.get_values_for_type(x509.IPAddress)
        except ValueError:
            named = public.host in found.value.get_values_for_type(x509.DNSName)
        if named:
            yield Finding("name", GOOD, f"the certificate is made out to {public.host}")
            return
    said = f"the certificate is not made out to {public.host}, which institutions dial"
    yield Finding("name", BAD, said, RENEWAL)


def _port(home: Path, public: Public) -> Iterator[Finding]:
    where = f"{public.listen}:{public.port}"
    if is_up(home):
        yield Finding("port", GOOD, f"`up` runs and holds {where}")
        return
    try:
        with socket.create_server((public.listen, public.port)):
            yield Finding("port", GOOD, f"{where} is free")
    except OSError as error:
        remedy = "stop what listens there, or give server.toml another address"
        yield Finding("port", BAD, f"{where}: {error.strerror}", remedy)


def _members(home: Path) -> Iterator[Finding]:
    names = sorted(path.stem for path in (home / "members").glob("*.pub"))
    if names:
        yield Finding("members", GOOD, ", ".join(names))
    else:
        yield Finding("members", NOTE, "nobody may connect yet", "admit the institutions")
