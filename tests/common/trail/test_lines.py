import json

import pytest

from common.crypto.keys import verifying_key
from common.crypto.refusals import BadSignatureError
from common.trail.events import EVENTS, Began, Refused
from common.trail.lines import (
    GENESIS,
    MEMBERS,
    Author,
    Head,
    Line,
    parsed,
    written,
)
from common.trail.refusals import MalformedLineError

PRIVATE, OTHER = bytes(range(32)), bytes(range(1, 33))
ASH = Author("institution", "ash")


def lines_of(*told: str) -> list[Line]:
    events = [Refused(what="update", told=one, because="") for one in told]
    return list(written(events, ASH, 1_700_000_000.9, (0, GENESIS), PRIVATE))


def test_a_line_is_flat_json_that_says_what_it_is_in_the_order_of_its_chain() -> None:
    first, second = lines_of("one", "two")
    fields = json.loads(second.data)
    assert fields == {
        "version": 1,
        "sequence": 2,
        "time": "2023-11-14T22:13:20Z",
        "role": "institution",
        "name": "ash",
        "event": "refused",
        "what": "update",
        "told": "two",
        "because": "",
        "previous": first.hash,
        "signature": second.signature,
    }
    assert parsed(second.data) == second
    second.require_signed(verifying_key(PRIVATE))
    with pytest.raises(BadSignatureError):
        second.require_signed(verifying_key(OTHER))


def test_no_event_takes_the_name_of_a_member_that_all_lines_have() -> None:
    for name in EVENTS.names:
        event = EVENTS.require(name)
        assert event.kind == name
        assert not event.model_fields.keys() & {*MEMBERS}, name


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data + b" ",
        lambda data: data.replace(b'"version":1', b'"version":2'),
        lambda data: data.replace(b'"version":1', b'"version":true'),
        lambda data: data.replace(b'"sequence":1', b'"sequence":1.0'),
        lambda data: data.replace(b'"sequence":1', b'"sequence":[1]'),
        lambda data: data.replace(b'"told"', b'"tell"'),
        lambda data: data.replace(b'"told":"one"', b'"told":7'),
        lambda data: data.replace(b'"refused"', b'"unknown"'),
        lambda data: data.replace(b'"institution"', b'"person"'),
        lambda data: data.replace(b"T22:13:20Z", b"T25:13:20Z"),
        lambda data: data.upper(),
        lambda _: b"",
        lambda _: b"[" * 100_000,
        lambda _: b"\xff{}",
        lambda _: b'{"time": NaN}',
    ],
)
def test_a_line_in_any_other_form_is_refused(spoil: object) -> None:
    data = lines_of("one")[0].data
    assert callable(spoil)
    assert spoil(data) != data
    with pytest.raises(MalformedLineError, match=r"^cannot be read$"):
        parsed(spoil(data))


def test_a_signature_in_capitals_is_another_form() -> None:
    line = lines_of("one")[0]
    with pytest.raises(MalformedLineError):
        parsed(line.data.replace(line.signature.encode(), line.signature.upper().encode()))


def test_a_head_is_known_again_by_its_author_and_key() -> None:
    line = lines_of("one", "two")[-1]
    head = Head.of(line, PRIVATE)
    assert Head.from_bytes(head.to_bytes()) == head
    head.require_signed(ASH, verifying_key(PRIVATE))
    for author, private in ((Author("server", "ash"), PRIVATE), (ASH, OTHER)):
        with pytest.raises(BadSignatureError):
            head.require_signed(author, verifying_key(private))
    with pytest.raises(MalformedLineError, match="104 bytes, not 103"):
        Head.from_bytes(head.to_bytes()[1:])


def test_an_event_repeats_no_value_it_refuses() -> None:
    with pytest.raises(ValueError, match="key") as refused:
        Began(key="secret")
    assert "secret" not in str(refused.value)
