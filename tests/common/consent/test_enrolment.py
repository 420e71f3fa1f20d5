"""A request proves every key in it, holds nothing else, and no byte of it can be another."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.consent.enrolment import Enrolment
from common.consent.refusals import ConsentError, MalformedError, UnprovedError
from common.crypto import node_keys
from common.crypto.roster import Identity
from common.entropy import SeededEntropy


def keys(name: str) -> Identity:
    return Identity.generate(SeededEntropy(0, name).stream("identity"))


NODE = node_keys.generate_key(SeededEntropy(0).stream("node"))
REQUEST = Enrolment.make("ash", keys("ash"), NODE)
SUCCESSOR = Enrolment.make("ash", keys("new"), NODE, before=keys("ash"))


def test_a_request_comes_back() -> None:
    for request in (REQUEST, SUCCESSOR):
        assert Enrolment.from_bytes(request.to_bytes()) == request
    assert REQUEST.digest != SUCCESSOR.digest
    assert len(REQUEST.keys) == 3


@pytest.mark.parametrize("request_", [REQUEST, SUCCESSOR], ids=["first", "successor"])
@given(data=st.data())
def test_no_byte_can_be_another(request_: Enrolment, data: st.DataObject) -> None:
    good = request_.to_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != good[place]))
    with pytest.raises(ConsentError):
        Enrolment.from_bytes(good[:place] + bytes([byte]) + good[place + 1 :])


def test_a_request_with_secrets_in_it_is_refused_and_not_repeated() -> None:
    fields = json.loads(REQUEST.to_bytes())
    secret = keys("ash").signing_private.hex()
    for extra in ({"signing_private": secret}, {"name": secret * 2}, {"node_public": secret * 9}):
        data = json.dumps(fields | extra, sort_keys=True, separators=(",", ":")).encode()
        with pytest.raises((MalformedError, UnprovedError)) as caught:
            Enrolment.from_bytes(data)
        assert secret not in str(caught.value)
    with pytest.raises(MalformedError):
        Enrolment.from_bytes(keys("ash").model_dump_json().encode())


def test_every_key_is_proved_by_its_owner() -> None:
    other = Enrolment.make("ash", keys("mallory"), node_keys.generate_key(lambda n: b"7" * n))
    thefts: list[dict[str, object]] = [
        {"node_public": other.node_public},
        {"node_public": other.node_public, "node_proof": other.node_proof},
        {"member": other.member},
        {"member": other.member, "signature": other.signature},
        {"signature": other.signature},
        {"name": "birch"},
    ]
    for theft in thefts:
        with pytest.raises(UnprovedError, match="not all proved by their owner"):
            Enrolment.from_bytes(REQUEST.model_copy(update=theft).to_bytes())
    # Nobody takes over a name whose keys it does not hold.
    forged = Enrolment.make("ash", keys("mallory"), NODE, before=keys("mallory"))
    assert forged.succession is not None
    stolen = forged.succession.model_copy(update={"signing_public": REQUEST.member.signing_public})
    with pytest.raises(UnprovedError):
        Enrolment.from_bytes(forged.model_copy(update={"succession": stolen}).to_bytes())
