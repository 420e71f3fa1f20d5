"""A sealed share opens for its receiver in its context, and in no other way."""

import pytest

from common.crypto.keys import public_key
from common.crypto.refusals import BadKeyError, ShareAlteredError
from common.crypto.sealing import seal, unseal
from common.entropy import SeededEntropy

DEALER, RECEIVER, OTHER = (bytes([i]) * 32 for i in (1, 2, 3))
CONTEXT = b"run, epoch, a to b"
SHARES = bytes(66)


def sealed(seed: int = 0) -> bytes:
    stream = SeededEntropy(seed).stream("seal")
    return seal(DEALER, public_key(RECEIVER), CONTEXT, SHARES, stream)


def test_the_receiver_opens_what_the_dealer_sealed() -> None:
    assert unseal(RECEIVER, public_key(DEALER), CONTEXT, sealed()) == SHARES
    assert len(sealed()) == len(SHARES) + 28


def test_sealing_again_takes_a_fresh_nonce() -> None:
    assert sealed(1)[:12] != sealed(2)[:12]
    assert sealed(1)[12:] != sealed(2)[12:]


def test_another_context_key_or_party_does_not_open() -> None:
    for private, public, context in [
        (RECEIVER, DEALER, b"run, epoch, b to a"),
        (RECEIVER, OTHER, CONTEXT),
        (OTHER, DEALER, CONTEXT),
    ]:
        with pytest.raises(ShareAlteredError) as caught:
            unseal(private, public_key(public), context, sealed())
        assert caught.value.reason == "share-altered"


def test_every_altered_byte_and_length_is_noticed() -> None:
    good = sealed()
    altered = [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(len(good))]
    for data in [*altered, good[:-1], good + b"\0", good[:12], good[:5], b""]:
        with pytest.raises(ShareAlteredError):
            unseal(RECEIVER, public_key(DEALER), CONTEXT, data)


def test_a_low_order_key_is_refused() -> None:
    with pytest.raises(BadKeyError):
        seal(DEALER, bytes(32), CONTEXT, SHARES, SeededEntropy(0).stream("seal"))
