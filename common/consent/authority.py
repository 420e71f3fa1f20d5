"""The certificate that a federation's server is known by: one authority, pinned by its members."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from common.consent.refusals import AuthorityError

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


def read_authority(pem: str) -> x509.Certificate:
    """Parse the only certificate of a PEM text; it must sign itself, and certificates alone.

    Raises:
        AuthorityError: there is none or another, it is no authority's, or has another form.
    """
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem.encode())
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        certificate.verify_directly_issued_by(certificate)
        canonical = certificate.public_bytes(Encoding.PEM).decode()
    except _FAULTS as error:
        raise AuthorityError("not the certificate of a federation's authority") from error
    if not (constraints.value.ca and constraints.critical and usage.value.key_cert_sign):
        raise AuthorityError("the certificate may not sign others: it is no authority's")
    # Text around the certificate would give one authority several pins.
    if canonical != pem:
        raise AuthorityError("the authority's certificate is not in canonical form")
    return certificate


def require_authority(pem: str, now: int) -> None:
    """Raise `AuthorityError` unless `read_authority` takes it and it is valid at ``now``, Unix."""
    certificate, at = read_authority(pem), datetime.fromtimestamp(now, UTC)
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise AuthorityError(
            f"the authority's certificate holds from {certificate.not_valid_before_utc:%Y-%m-%d} to"
            f" {certificate.not_valid_after_utc:%Y-%m-%d}, not on {at:%Y-%m-%d}: check the clock,"
            " or have the operators publish another"
        )


def authority_fingerprint(pem: str) -> str:
    """Return the SHA-256 of the certificate, in hexadecimal, as browsers and openssl show it."""
    return read_authority(pem).fingerprint(SHA256()).hex()
