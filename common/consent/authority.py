"""The certificates that a federation's server is known by, pinned by its members.

One authority, or two while one follows another: first the new one, then the one that goes.
"""

import hashlib
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from common.consent.refusals import AuthorityError

MOST = 2
"""Authorities at a time: whoever is pinned may speak for the server."""

_FAULTS = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
)
"""All that cryptography raises on a certificate that is damaged, or none."""


def read_authorities(pem: str) -> tuple[x509.Certificate, ...]:
    """Parse a PEM text; each certificate must sign itself, and certificates alone.

    Raises:
        AuthorityError: there is none or too many, one is no authority's, or has another form.
    """
    try:
        found = tuple(map(_checked, x509.load_pem_x509_certificates(pem.encode())))
        canonical = [one.public_bytes(Encoding.PEM).decode() for one in found]
    except _FAULTS as error:
        raise AuthorityError("not the certificate of a federation's authority") from error
    if not len(set(canonical)) == len(canonical) <= MOST:
        raise AuthorityError(f"more than {MOST} authorities, or one of them twice")
    # Text around the certificates would give one authority several pins.
    if "".join(canonical) != pem:
        raise AuthorityError("the authority's certificate is not in canonical form")
    return found


def require_authority(pem: str, now: int) -> None:
    """Raise `AuthorityError` unless `read_authorities` takes it and the first is valid at ``now``.

    ``now`` is in Unix seconds. A second one may end meanwhile: it is about to go.
    """
    certificate, at = read_authorities(pem)[0], datetime.fromtimestamp(now, UTC)
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise AuthorityError(
            f"the authority's certificate holds from {certificate.not_valid_before_utc:%Y-%m-%d} to"
            f" {certificate.not_valid_after_utc:%Y-%m-%d}, not on {at:%Y-%m-%d}: check the clock,"
            " or have the operators publish another"
        )


def authority_fingerprints(pem: str) -> list[str]:
    """Return the SHA-256 of each certificate, in hexadecimal, as browsers and openssl show it."""
    return [_digest(one) for one in read_authorities(pem)]


def authority_hash(pem: str) -> str:
    """Return what pins a text of authorities: of a single one, its fingerprint."""
    return _digest(*read_authorities(pem))


def _digest(*certificates: x509.Certificate) -> str:
    data = b"".join(one.public_bytes(Encoding.DER) for one in certificates)
    return hashlib.sha256(data).hexdigest()


def _checked(certificate: x509.Certificate) -> x509.Certificate:
    extensions = certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    certificate.verify_directly_issued_by(certificate)
    if not (constraints.value.ca and constraints.critical and usage.value.key_cert_sign):
        raise AuthorityError("the certificate may not sign others: it is no authority's")
    return certificate
