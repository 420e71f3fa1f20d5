"""Agreement and derivation against published and independently computed values."""

import hashlib
import hmac

import pytest

from common.crypto.keys import (
    CHECK_SLOTS,
    PAIR_MASK,
    SELF_MASK,
    SHARE_SEAL,
    SIGNED_ADMISSION,
    SIGNED_ADVERT,
    SIGNED_CHARTER,
    SIGNED_ENROLMENT,
    SIGNED_MEMBER,
    SIGNED_REVOCATION,
    SIGNED_SUCCESSION,
    SIGNED_SURVIVORS,
    SIGNED_VECTOR,
    agree,
    derive,
    public_key,
    sign,
    verify,
    verifying_key,
)
from common.crypto.refusals import BadKeyError, BadSignatureError

LABELS = (
    SIGNED_ADMISSION,
    SIGNED_CHARTER,
    SIGNED_ENROLMENT,
    SIGNED_REVOCATION,
    SIGNED_SUCCESSION,
    PAIR_MASK,
    SELF_MASK,
    SHARE_SEAL,
    CHECK_SLOTS,
    SIGNED_MEMBER,
    SIGNED_ADVERT,
    SIGNED_SURVIVORS,
    SIGNED_VECTOR,
)

# RFC 7748, section 6.1.
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
AGREED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


def test_the_published_agreement() -> None:
    assert public_key(BOB) == BOB_PUBLIC
    assert agree(BOB, ALICE_PUBLIC) == AGREED
    assert agree(BOB, BOB_PUBLIC) != AGREED


@pytest.mark.parametrize(
    "public", [bytes(32), b"\1" + bytes(31), bytes(31), b""], ids=["zero", "one", "short", "empty"]
)
def test_keys_that_agree_on_nothing_are_refused(public: bytes) -> None:
    with pytest.raises(BadKeyError):
        agree(BOB, public)


def test_derivation_is_hkdf_with_the_label_and_binding() -> None:
    extracted = hmac.digest(bytes(32), AGREED, hashlib.sha256)
    info = b"fedprune/1/pair-mask/" + b"round 7"
    assert derive(AGREED, PAIR_MASK, b"round 7") == hmac.digest(extracted, info + b"\1", "sha256")


def test_every_label_and_binding_gives_another_key() -> None:
    keys = {derive(AGREED, label, binding) for label in LABELS for binding in (b"", b"a", b"b")}
    assert len(keys) == 3 * len(LABELS)


def test_no_label_begins_another() -> None:
    assert not any(a != b and a.startswith(b) for a in LABELS for b in LABELS)
    assert all(label.endswith(b"/") for label in LABELS)


def test_a_signature_holds_for_one_key_label_and_statement() -> None:
    public = verifying_key(BOB)
    signature = sign(BOB, SIGNED_ADVERT, b"a")
    verify(public, SIGNED_ADVERT, b"a", signature)
    for key, label, statement, signed in [
        (public, SIGNED_MEMBER, b"a", signature),
        (public, SIGNED_ADVERT, b"b", signature),
        (verifying_key(AGREED), SIGNED_ADVERT, b"a", signature),
        (public, SIGNED_ADVERT, b"a", signature[:-1]),
        (b"", SIGNED_ADVERT, b"a", signature),
    ]:
        with pytest.raises(BadSignatureError):
            verify(key, label, statement, signed)
