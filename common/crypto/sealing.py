"""Shares travel through the server, each under AES-GCM with a key of its own.

Dealer and receiver derive two keys from the dealer's fresh sealing key, the receiver's roster
key and the context (who deals what to whom, in which session). A key seals one share ever, so
the nonce is fixed and does not travel. To open a share to the server, a receiver gives up its
16-byte key: the server opens the ciphertext that the dealer signed, and so knows for certain
whether the dealer or the receiver lies. The key is the salt of the share's commitment: for a
ciphertext it did not make, nobody finds a second key under which the tag holds (2^128 work).
"""

from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.crypto.keys import SHARE_SEAL, derive
from common.crypto.refusals import ShareAlteredError
from common.crypto.shamir import SHARE_SIZE

OPENING_SIZE = 16
SEALED_SHARE_SIZE = SHARE_SIZE + 16
SEALED_SIZE = 2 * SEALED_SHARE_SIZE
"""Bytes of what one institution deals to another: seed share and mask-key share, sealed."""

_NONCE = bytes(12)


class Openings(NamedTuple):
    """The keys of one dealer's two shares for one receiver, 16 bytes each."""

    seed: bytes
    key: bytes

    def __repr__(self) -> str:
        """Show no key."""
        return "Openings(...)"


def openings(secret: bytes, context: bytes) -> Openings:
    """Derive both keys from the X25519 secret of the dealer's and the receiver's key."""
    both = derive(secret, SHARE_SEAL, context)
    return Openings(both[:OPENING_SIZE], both[OPENING_SIZE:])


def seal(keys: Openings, seed_share: bytes, key_share: bytes) -> bytes:
    """Return both shares sealed, 98 bytes."""
    return AESGCM(keys.seed).encrypt(_NONCE, seed_share, None) + AESGCM(keys.key).encrypt(
        _NONCE, key_share, None
    )


def unseal_seed(sealed: bytes, opening: bytes) -> bytes:
    """Open the share of the self-mask seed; raise `ShareAlteredError` if it does not open."""
    return _unseal(sealed[:SEALED_SHARE_SIZE], opening)


def unseal_key(sealed: bytes, opening: bytes) -> bytes:
    """Open the share of the mask key; raise `ShareAlteredError` if it does not open."""
    return _unseal(sealed[SEALED_SHARE_SIZE:], opening)


def _unseal(ciphertext: bytes, opening: bytes) -> bytes:
    try:
        return AESGCM(opening).decrypt(_NONCE, ciphertext, None)
    except (InvalidTag, ValueError) as error:
        raise ShareAlteredError("a sealed share does not open under the key given") from error
