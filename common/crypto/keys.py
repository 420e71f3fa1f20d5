"""X25519 agreement and labelled key derivation; keys travel and rest as 32 raw bytes."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.crypto.refusals import BadKeyError

KEY_SIZE: Final = 32
# Every label ends in a slash and none is the beginning of another, so label + binding is
# read in one way only.
PAIR_MASK: Final = b"fedprune/1/pair-mask/"
SELF_MASK: Final = b"fedprune/1/self-mask/"
SHARE_SEAL: Final = b"fedprune/1/share-seal/"


def public_key(private: bytes) -> bytes:
    """Return the X25519 public key of a private one; any 32 random bytes are a private key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes) -> bytes:
    """Return the X25519 shared secret, 32 bytes; derive from it, never use it as a key.

    Raises:
        BadKeyError: ``public`` is not 32 bytes or has low order (RFC 7748, section 6.1).
    """
    try:
        peer = X25519PublicKey.from_public_bytes(public)
        return X25519PrivateKey.from_private_bytes(private).exchange(peer)
    except ValueError as error:
        raise BadKeyError("a public key is malformed or of low order: advertise anew") from error


def derive(secret: bytes, label: bytes, binding: bytes) -> bytes:
    """Return a 32-byte key by HKDF-SHA256 of ``secret`` for one label and binding."""
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=label + binding).derive(secret)
