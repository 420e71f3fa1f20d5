"""Shares travel through the server under AES-256-GCM.

The key comes from both parties' sealing keys and the context (who deals what to whom, in
which session), and the context is authenticated besides: a share moved to another receiver,
dealer, epoch or run does not open.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.crypto.keys import SHARE_SEAL, agree, derive
from common.crypto.refusals import ShareAlteredError
from common.entropy import Stream

# Random although each key is meant to seal once: a step that is replayed after a crash seals
# other shares under the same key.
_NONCE_SIZE = 12


def seal(private: bytes, public: bytes, context: bytes, plaintext: bytes, stream: Stream) -> bytes:
    """Seal ``plaintext`` from the owner of ``private`` to that of ``public``: 28 bytes more.

    Raises:
        BadKeyError: the receiver's key is malformed or of low order.
    """
    nonce = stream(_NONCE_SIZE)
    return nonce + _cipher(private, public, context).encrypt(nonce, plaintext, context)


def unseal(private: bytes, public: bytes, context: bytes, sealed: bytes) -> bytes:
    """Open what `seal` made for the owner of ``private`` in the same context.

    Raises:
        ShareAlteredError: anything differs from what was sealed.
        BadKeyError: the sender's key is malformed or of low order.
    """
    nonce, body = sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:]
    try:
        return _cipher(private, public, context).decrypt(nonce, body, context)
    except (InvalidTag, ValueError) as error:
        raise ShareAlteredError(
            "a sealed share does not open: it was altered, or dealt under other facts"
        ) from error


def _cipher(private: bytes, public: bytes, context: bytes) -> AESGCM:
    return AESGCM(derive(agree(private, public), SHARE_SEAL, context))
