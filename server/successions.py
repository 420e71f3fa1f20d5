"""New keys for old: the server's certificate, and the authority that it is known by.

An authority is followed by another in three steps, so that no member is ever shown a certificate
that it does not trust: both are published and approved, the server's certificate is issued by the
new one, the old one is dropped.
"""

import os
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from common.consent.authority import read_authorities
from common.durable import write_atomically
from common.entropy import Stream
from common.errors import ConfigError
from common.secret_files import Ask, ask_passphrase, create_secret, erase, read_secret
from server.certificates import (
    Key,
    certificate_pem,
    key_pem,
    new_authority,
    new_server,
    read_key,
)
from server.home import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, SERVER_KEY, ServerHome

COMING, BEFORE = ".next", ".before"
"""Ends of the names of a key that takes the place of another, and of that other meanwhile."""


def certify(  # noqa: PLR0913, PLR0917
    home: Path,
    host: str,
    authority: tuple[Key, x509.Certificate],
    now: int,
    stream: Stream,
    passphrase: str,
) -> None:
    """Put a fresh key and certificate in place, the certificate last: `up` looks for that."""
    key, certificate = new_server(host, authority, now, stream)
    fresh = _prepared(home / SERVER_KEY, key, stream, passphrase)
    _take_over(fresh, home / SERVER_KEY)
    write_atomically(home / CERTIFICATE, certificate_pem(certificate))


def renew(place: ServerHome, now: int, stream: Stream, choose: Ask) -> None:
    """Issue the server's certificate anew; ``choose`` the passphrase of its key.

    Raises:
        ConfigError: the authority's key cannot be read, or no member was shown the authority.
    """
    signer, authorities = _authorities(place, ask_passphrase)
    issuer = _owned(signer, authorities, place.path)
    if len(authorities) > 1 and (
        place.bundle is None or issuer not in read_authorities(place.charter.authority)
    ):
        raise ConfigError(
            "members do not know the new authority yet: publish it, and have them all approve"
        )
    certify(place.path, place.settings.host, (signer, issuer), now, stream, choose())


def begin(place: ServerHome, now: int, stream: Stream, choose: Ask) -> None:
    """Make an authority to follow the one there is; ``choose`` the passphrase of its key.

    Raises:
        ConfigError: one follows already, or the authority's key cannot be read.
    """
    home, (signer, authorities) = place.path, _authorities(place, ask_passphrase)
    old = _owned(signer, authorities, home)
    if old != authorities[-1]:
        raise ConfigError(
            "an authority follows another already: have members approve it, fedprune-server"
            " rotate, then rotate --retire"
        )
    key, new = new_authority(place.settings.name, now, stream)
    fresh = _prepared(home / AUTHORITY_KEY, key, stream, choose())
    # Until the key is in place the old one issues, and this may be done again.
    write_atomically(home / AUTHORITY, certificate_pem(new) + certificate_pem(old))
    _take_over(fresh, home / AUTHORITY_KEY)


def retire(place: ServerHome) -> None:
    """Drop the authority that another follows.

    Raises:
        ConfigError: there is but one, or the server's certificate is not by the new one yet.
    """
    authorities = read_authorities((place.path / AUTHORITY).read_text())
    if len(authorities) == 1:
        raise ConfigError("there is but one authority: rotate --authority makes another")
    served = x509.load_pem_x509_certificate((place.path / CERTIFICATE).read_bytes())
    try:
        served.verify_directly_issued_by(authorities[0])
    except (ValueError, InvalidSignature):
        raise ConfigError(
            "the server is still known by the old authority: fedprune-server rotate first"
        ) from None
    write_atomically(place.path / AUTHORITY, certificate_pem(authorities[0]))


def _authorities(place: ServerHome, ask: Ask) -> tuple[Key, tuple[x509.Certificate, ...]]:
    signer = read_key(read_secret(place.path / AUTHORITY_KEY, ask))
    return signer, read_authorities((place.path / AUTHORITY).read_text())


def _owned(signer: Key, authorities: tuple[x509.Certificate, ...], home: Path) -> x509.Certificate:
    for one in authorities:
        if one.public_key() == signer.public_key():
            return one
    raise ConfigError(
        f"{home / AUTHORITY_KEY} belongs to no certificate of {AUTHORITY}: restore both from the"
        " same backup"
    )


def _prepared(path: Path, key: Key, stream: Stream, passphrase: str) -> Path:
    fresh = path.with_name(path.name + COMING)
    erase(fresh)
    create_secret(fresh, key_pem(key), stream, passphrase)
    return fresh


def _take_over(fresh: Path, path: Path) -> None:
    """Put a key in the place of another, so that at no moment there is none."""
    before = path.with_name(path.name + BEFORE)
    erase(before)
    if path.exists():
        os.link(path, before)
    fresh.replace(path)
    erase(before)
