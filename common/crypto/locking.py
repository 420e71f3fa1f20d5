"""Secrets at rest under a passphrase: scrypt (RFC 7914), then AES-256-GCM."""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from common.crypto.keys import KEY_SIZE
from common.entropy import Stream
from common.errors import ConfigError

LOCKED: Final = b"fedprune/1/locked/"
"""How a locked file begins: it names this module's parameters and is authenticated with the rest.

The parameters are constants, so that no file can ask for a cheap or an endless derivation.
"""

_COST, _BLOCK, _PARALLEL = 2**16, 8, 1
"""64 MiB and a sixth of a second a guess."""

_SALT, _NONCE = 16, 12


def lock(secret: bytes, passphrase: str, stream: Stream) -> bytes:
    """Return ``secret`` under a passphrase."""
    head = LOCKED + stream(_SALT)
    nonce = stream(_NONCE)
    return head + nonce + AESGCM(_key(passphrase, head)).encrypt(nonce, secret, head)


def is_locked(data: bytes) -> bool:
    """Whether `lock` made this."""
    return data.startswith(LOCKED)


def unlock(data: bytes, passphrase: str) -> bytes:
    """Return what `lock` was given.

    Raises:
        ConfigError: the passphrase is another, or the data was altered: no one can tell which.
    """
    size = len(LOCKED) + _SALT
    head, nonce, sealed = data[:size], data[size : size + _NONCE], data[size + _NONCE :]
    try:
        return AESGCM(_key(passphrase, head)).decrypt(nonce, sealed, head)
    except (InvalidTag, ValueError):
        # Without the cause: it says no more.
        raise ConfigError("the passphrase is wrong, or the file was altered") from None


def _key(passphrase: str, head: bytes) -> bytes:
    kdf = Scrypt(salt=head, length=KEY_SIZE, n=_COST, r=_BLOCK, p=_PARALLEL)
    return kdf.derive(passphrase.encode())
