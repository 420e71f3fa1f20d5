from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ProtocolError
from common.messages import (
    RECORD,
    AdvertiseReply,
    AdvertiseRequest,
    DeliverRequest,
    Foreign,
    JoinReply,
    JoinRequest,
    OfferReply,
    OfferRequest,
    Refusal,
    SignReply,
    SignRequest,
    UnmaskReply,
    UnmaskRequest,
    UpdateReply,
    UpdateRequest,
    WireMessage,
    decode_weights,
    encode_weights,
    kind_of,
    model_hash,
)

MESSAGES: tuple[type[WireMessage], ...] = (
    JoinRequest,
    JoinReply,
    AdvertiseRequest,
    AdvertiseReply,
    SignRequest,
    SignReply,
    UpdateRequest,
    UpdateReply,
    UnmaskRequest,
    UnmaskReply,
    OfferRequest,
    DeliverRequest,
    OfferReply,
    Refusal,
    Foreign,
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(-(2**63), 2**63 - 1),
    bytes: st.binary(max_size=40),
    list[str]: st.lists(TEXT, max_size=4),
    list[bytes]: st.lists(st.binary(max_size=20), max_size=4),
}
OPEN = UnmaskRequest(b"0", ["ash", "elm"], ["ash"], [b"1"])


def sent(record: RecordDict) -> RecordDict:
    """Return the record as it comes out of Flower's serialisation."""
    wire = recorddict_to_proto(record).SerializeToString()
    return recorddict_from_proto(ProtoRecordDict.FromString(wire))


def altered(change: Callable[[dict[str, Any]], object]) -> RecordDict:
    """Return an unmask request whose body was changed on the way."""
    record = OPEN.to_record()
    body: dict[str, Any] = dict(record[RECORD])
    change(body)
    return sent(RecordDict({RECORD: ConfigRecord(body)}))


def test_every_kind_is_tested_and_distinct() -> None:
    kinds = [message.kind for message in MESSAGES]
    assert sorted(kinds) == sorted({message.kind for message in WireMessage.__subclasses__()})


@given(st.data(), st.sampled_from(MESSAGES))
def test_round_trip_through_flower(data: st.DataObject, kind: type[WireMessage]) -> None:
    values = {field.name: data.draw(VALUES[field.type]) for field in fields(kind)}
    message = kind(**values)
    record = sent(message.to_record())
    assert kind.from_record(record) == message
    assert kind_of(record) == kind.kind


@pytest.mark.parametrize("kind", [kind for kind in MESSAGES if kind is not UnmaskRequest])
def test_another_kind_is_refused(kind: type[WireMessage]) -> None:
    with pytest.raises(ProtocolError, match="not of kind"):
        kind.from_record(OPEN.to_record())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda body: body.update(version=3), "the other side speaks protocol 3"),
        (lambda body: body.update(version="4"), "does not say which version"),
        (lambda body: body.update(version=True), "does not say which version"),
        (lambda body: body.pop("version"), "does not say which version"),
        (lambda body: body.update(kind="unmasking"), "not of kind 'unmask'"),
        (lambda body: body.pop("kind"), "not of kind 'unmask'"),
        (lambda body: body.pop("survivors"), "missing fields"),
        (lambda body: body.update(more=1), "unknown"),
        (lambda body: body.update(survivors="ash"), "'survivors'"),
        (lambda body: body.update(survivors=[b"ash"]), "'survivors'"),
        (lambda body: body.update(survivors=[1]), "'survivors'"),
        (lambda body: body.update(signatures=["ash"]), "'signatures'"),
        (lambda body: body.update(signatures=b"1"), "'signatures'"),
        (lambda body: body.update(signatures=True), "'signatures'"),
    ],
)
def test_altered_body_is_refused(change: Callable[[dict[str, Any]], object], problem: str) -> None:
    with pytest.raises(ProtocolError, match=problem):
        UnmaskRequest.from_record(altered(change))


def test_unaltered_body_is_accepted() -> None:
    assert UnmaskRequest.from_record(altered(dict)) == OPEN


@pytest.mark.parametrize("value", [True, 1.0, "1", b"1"])
def test_integer_field_takes_integers_only(value: object) -> None:
    body: dict[str, Any] = dict(AdvertiseRequest("run", 1, 2).to_record()[RECORD])
    body["round"] = value
    with pytest.raises(ProtocolError, match="'round'"):
        AdvertiseRequest.from_record(RecordDict({RECORD: ConfigRecord(body)}))


@pytest.mark.parametrize(
    "record",
    [
        RecordDict(),
        RecordDict({"other": OPEN.to_record()[RECORD]}),
        RecordDict({RECORD: OPEN.to_record()[RECORD], "more": ConfigRecord()}),
        RecordDict({RECORD: ArrayRecord([np.zeros(2)])}),
    ],
)
def test_a_message_is_one_named_record(record: RecordDict) -> None:
    with pytest.raises(ProtocolError, match="one record named 'fedprune'"):
        UnmaskRequest.from_record(record)


def test_kind_of_nonsense_is_empty() -> None:
    assert kind_of(RecordDict()) == ""
    assert kind_of(RecordDict({RECORD: ArrayRecord([np.zeros(2)])})) == ""
    assert kind_of(RecordDict({RECORD: ConfigRecord({"kind": 3})})) == ""


def test_weights_survive_bit_for_bit() -> None:
    weights = np.array([0.1, -0.0, 1e-42, 3.4e38], np.float32)
    data = encode_weights(weights)
    assert decode_weights(data, 4).tobytes() == weights.tobytes()
    assert data[:4] == bytes.fromhex("cdcccc3d")
    assert model_hash(data) != model_hash(encode_weights(np.abs(weights)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ProtocolError, match="not finite"):
        decode_weights(encode_weights(np.array([0.0, value], np.float32)), 2)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_model_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"8 bytes does not hold {length}"):
        decode_weights(bytes(8), length)
