"""X25519 agreement, Ed25519 signatures and labelled key derivation; keys are 32 raw bytes."""

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.crypto.refusals import BadKeyError, BadSignatureError

KEY_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64
# Every label ends in a slash and none is the beginning of another, so label + binding is
# read in one way only.
PAIR_MASK: Final = b"fedprune/1/pair-mask/"
SELF_MASK: Final = b"fedprune/1/self-mask/"
SHARE_SEAL: Final = b"fedprune/1/share-seal/"
CHECK_SLOTS: Final = b"fedprune/1/check-slots/"
SIGNED_MEMBER: Final = b"fedprune/1/sign-member/"
SIGNED_ADVERT: Final = b"fedprune/1/sign-advert/"
SIGNED_VECTOR: Final = b"fedprune/1/sign-vector/"
SIGNED_SURVIVORS: Final = b"fedprune/1/sign-survivors/"
SIGNED_REVEAL: Final = b"fedprune/1/sign-reveal/"
SIGNED_ENROLMENT: Final = b"fedprune/1/sign-enrolment/"
SIGNED_SUCCESSION: Final = b"fedprune/1/sign-succession/"
SIGNED_ADMISSION: Final = b"fedprune/1/sign-admission/"
SIGNED_REVOCATION: Final = b"fedprune/1/sign-revocation/"
SIGNED_CHARTER: Final = b"fedprune/1/sign-charter/"
SIGNED_RELEASE: Final = b"fedprune/1/sign-release/"
SIGNED_WITHDRAWAL: Final = b"fedprune/1/sign-withdrawal/"
SIGNED_VERDICT: Final = b"fedprune/1/sign-verdict/"
SIGNED_LOG: Final = b"fedprune/1/sign-log/"
SIGNED_LOG_AS_IT_IS: Final = b"fedprune/1/sign-log-as-it-is/"
SIGNED_LOG_LINE: Final = b"fedprune/1/sign-log-line/"
SIGNED_LOG_HEAD: Final = b"fedprune/1/sign-log-head/"


def public_key(private: bytes) -> bytes:
    """Return the X25519 public key of a private one; any 32 random bytes are a private key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes) -> bytes:
    """Return the X25519 shared secret, 32 bytes; derive from it, never use it as a key.

    Raises:
        BadKeyError: ``public`` is not 32 bytes or has low order (RFC 7748, section 6.1).
    """
    return agreement(private)(public)


def agreement(private: bytes) -> Callable[[bytes], bytes]:
    """Return `agree` for one private key: reading it costs as much as an agreement."""
    mine = X25519PrivateKey.from_private_bytes(private)

    def agreed(public: bytes) -> bytes:
        try:
            return mine.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise BadKeyError(
                "a public key is malformed or of low order: advertise anew"
            ) from error

    return agreed


def derive(secret: bytes, label: bytes, binding: bytes) -> bytes:
    """Return a 32-byte key by HKDF-SHA256 of ``secret`` for one label and binding."""
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=label + binding).derive(secret)


def verifying_key(private: bytes) -> bytes:
    """Return the Ed25519 public key of a private one; any 32 random bytes are a private key."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def sign(private: bytes, label: bytes, statement: bytes) -> bytes:
    """Return the 64-byte Ed25519 signature of a statement under one label."""
    return Ed25519PrivateKey.from_private_bytes(private).sign(label + statement)


def verify(public: bytes, label: bytes, statement: bytes, signature: bytes) -> None:
    """Return if ``signature`` is that of ``statement`` under ``label``.

    Raises:
        BadSignatureError: it is not, or the key is malformed.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, label + statement)
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError("a signature is not that of the roster's key") from error
