"""`fedprune-server doctor`: what would keep a server from running, before it does."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from common import checkup
from common.address import join_address
from common.checkup import BAD, GOOD, NOTE, Finding
from common.consent.acts import charter_of
from common.crypto.locking import is_locked
from common.errors import ConfigError, FedpruneError
from common.handover import AskedOnce
from common.secret_files import read_secret
from server.certificates import identity_pem
from server.desk import Public, read_public, require_port
from server.home import AUTHORITY, BUNDLE, CERTIFICATE, SERVER_KEY, ServerHome

RENEWAL = "have a new one issued: fedprune-server rotate"
SUCCESSION = "have another follow: fedprune-server rotate --authority, then publish"


def examine(home: Path, now: datetime) -> Iterator[Finding]:
    """Yield a finding for each thing looked at."""
    yield from checkup.versions()
    yield from checkup.disk(home)
    yield from checkup.clock()
    yield from checkup.certificate(home / AUTHORITY, now, SUCCESSION)
    yield from checkup.certificate(home / CERTIFICATE, now, RENEWAL)
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
    yield from _consent(home, now)


def _pair(home: Path) -> Iterator[Finding]:
    key, certificate, asked = home / SERVER_KEY, home / CERTIFICATE, AskedOnce()
    if any(found.state == BAD for found in checkup.private(key)):
        return
    try:
        identity_pem(read_secret(key, asked), certificate.read_bytes())
    except (ConfigError, OSError) as error:
        if key.is_file() and is_locked(key.read_bytes()) and not asked.said:
            # Nobody was there to ask, as before a service starts: `up` says the rest.
            yield Finding("key pair", NOTE, f"{key.name} is under a passphrase: not looked into")
        else:
            yield Finding("key pair", BAD, str(error), RENEWAL)
    else:
        yield Finding("key pair", GOOD, f"{key.name} belongs to {certificate.name}")


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
    where = join_address(public.listen, public.port)
    if checkup.runs(home):
        yield Finding("port", GOOD, f"`up` runs and holds {where}")
        return
    try:
        require_port(public)
    except ConfigError as error:
        yield Finding("port", BAD, str(error))
    else:
        yield Finding("port", GOOD, f"{where} is free")


def _consent(home: Path, now: datetime) -> Iterator[Finding]:
    try:
        bundle = ServerHome(home).bundle
    except FedpruneError as error:
        yield Finding("consent", BAD, f"{BUNDLE}: {error}", "restore it from the backup")
        return
    if bundle is None:
        yield Finding("consent", NOTE, "nothing was published", "fedprune-server publish")
    else:
        remedy = "fedprune-server publish, and have every member join and approve that"
        yield from checkup.consent(charter_of(bundle).expires, now, remedy)


def _members(home: Path) -> Iterator[Finding]:
    names = sorted(path.stem for path in (home / "members").glob("*.pub"))
    if names:
        yield Finding("members", GOOD, ", ".join(names))
    else:
        yield Finding("members", NOTE, "nobody may connect yet", "admit the institutions")
