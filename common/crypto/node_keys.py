"""A SuperNode's key: ECDSA on P-384, in the OpenSSH forms that Flower reads."""

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from common.crypto.refusals import BadKeyError, BadSignatureError
from common.entropy import Stream

P384: Final = ec.SECP384R1()
_ORDER = 2**384 - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D
"""Of the group (SEC 2, section 2.5.1)."""

_ALGORITHM = ec.ECDSA(SHA384())


def generate_key(stream: Stream) -> ec.EllipticCurvePrivateKey:
    """Draw a private key; 16 bytes more than its size leave no bias (FIPS 186-5, A.2.1)."""
    scalar = int.from_bytes(stream(64), "big") % (_ORDER - 1) + 1
    return ec.derive_private_key(scalar, P384)


def private_file(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the form for ``--auth-supernode-private-key``; Flower takes no passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def read_private(data: bytes) -> ec.EllipticCurvePrivateKey:
    """Parse `private_file`'s form; raise `BadKeyError` on anything else, without repeating it."""
    try:
        key = load_ssh_private_key(data, password=None)
    except (ValueError, UnsupportedAlgorithm, TypeError):
        raise BadKeyError("not the private key of a node") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != P384.name:
        raise BadKeyError("not the private key of a node on P-384")
    return key


def public_line(key: ec.EllipticCurvePrivateKey) -> str:
    """Return the line that ``flwr supernode register`` takes."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def prove(key: ec.EllipticCurvePrivateKey, label: bytes, statement: bytes) -> bytes:
    """Return the signature (DER) of a statement under one label."""
    return key.sign(label + statement, _ALGORITHM)


def require_proof(line: str, label: bytes, statement: bytes, signature: bytes) -> None:
    """Return if the owner of a public line signed ``statement`` under ``label``.

    Raises:
        BadKeyError: the line is not a P-384 key in `public_line`'s only form.
        BadSignatureError: the signature is not its owner's.
    """
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKeyError("a node's public key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != P384.name:
        raise BadKeyError("a node's public key is not one on P-384")
    # A comment after the key would make one key look like two.
    if key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() != line:
        raise BadKeyError("a node's public key is not in canonical form")
    try:
        key.verify(signature, label + statement, _ALGORITHM)
    except InvalidSignature as error:
        raise BadSignatureError("a node's key was not proved by its owner") from error
