"""The federation's X.509 (RFC 5280): an authority of its own, and the server's certificate."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.crypto.node_keys import generate_key
from common.entropy import Stream
from common.errors import ConfigError
from server.home import CERTIFICATE, SERVER_KEY

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 365

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
"""The server's own programs reach it here, under the same certificate."""

_SLACK = timedelta(hours=1)
"""By which the members' clocks may be behind."""

Key = ec.EllipticCurvePrivateKey


def new_authority(name: str, now: int, stream: Stream) -> tuple[Key, x509.Certificate]:
    """Return the key and certificate of a federation's authority; ``now`` in Unix seconds."""
    key, subject = generate_key(stream), _name(f"{name} authority")
    builder = _builder(key, datetime.fromtimestamp(now, UTC), AUTHORITY_DAYS, stream)
    builder = builder.subject_name(subject).issuer_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
    return key, builder.sign(key, SHA384())


def new_server(
    host: str, authority: tuple[Key, x509.Certificate], now: int, stream: Stream
) -> tuple[Key, x509.Certificate]:
    """Return a key and certificate for the server at ``host``, a DNS name or an IP address.

    Raises:
        ConfigError: the authority would end before the certificate.
    """
    signer, issuer = authority
    key, at = generate_key(stream), datetime.fromtimestamp(now, UTC)
    if at + timedelta(days=SERVER_DAYS) > issuer.not_valid_after_utc:
        raise ConfigError(
            f"the authority ends on {issuer.not_valid_after_utc:%Y-%m-%d}, before a server's"
            f" {SERVER_DAYS} days do: fedprune-server rotate --authority, publish, have it approved"
        )
    known = x509.SubjectAlternativeName(
        [_alternative(one) for one in dict.fromkeys((host, *LOOPBACK))]
    )
    public = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        _builder(key, at, SERVER_DAYS, stream)
        .subject_name(_name(host))
        .issuer_name(issuer.subject)
        .add_extension(known, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(public, critical=False)
    )
    return key, builder.sign(signer, SHA384())


def key_pem(key: Key) -> bytes:
    """Return a private key as PKCS #8, which nothing here encrypts: its file does."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(data: bytes) -> Key:
    """Parse `key_pem`'s form; raise `ConfigError` without repeating it."""
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise ConfigError("a private key cannot be read: restore it") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError("a private key is of another kind: restore it")
    return key


def identity_pem(key: bytes, certificate: bytes) -> bytes:
    """Return a server's key and certificate, both PEM, in one; raise `ConfigError` unless a pair.

    A renewal that was cut short between the two files leaves others.
    """
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        held = x509.load_pem_x509_certificate(certificate).public_key()
    except ValueError:
        raise ConfigError("the server's certificate cannot be read: restore it") from None
    if held.public_bytes(*form) != read_key(key).public_key().public_bytes(*form):
        raise ConfigError(
            f"{SERVER_KEY} does not belong to {CERTIFICATE}: run fedprune-server rotate"
        )
    return key + certificate


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def _builder(key: Key, at: datetime, days: int, stream: Stream) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key.public_key())
        # Positive and at most 20 octets (RFC 5280, section 4.1.2.2).
        .serial_number(int.from_bytes(stream(20), "big") >> 1 | 1)
        .not_valid_before(at - _SLACK)
        .not_valid_after(at + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*allowed: str) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{use: use in allowed for use in every})


def _name(text: str) -> x509.Name:
    # An X.509 common name holds 64 characters; the alternative names count.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
