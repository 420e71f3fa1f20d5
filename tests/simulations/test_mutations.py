"""Every decoder refuses what it cannot read by type, and reads nothing as something else."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import messages as wire
from common.errors import ProtocolError
from simulations.mutations import (
    Decoder,
    decoders,
    messages,
    mutated_record,
    mutated_records,
    mutations,
    require_record_refused_or_itself,
    require_refused_or_itself,
)

each = pytest.mark.parametrize("decoder", decoders(), ids=lambda decoder: decoder.name)


@each
def test_a_sample_is_itself(decoder: Decoder) -> None:
    assert decoder.again(decoder.sample) == decoder.sample
    assert not require_refused_or_itself(decoder, decoder.sample)


@each
@given(data=st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes_are_refused_or_themselves(decoder: Decoder, data: bytes) -> None:
    require_refused_or_itself(decoder, data)


@each
@given(data=st.data())
@settings(deadline=None)
def test_a_sample_cut_and_spliced_is_refused_or_itself(
    decoder: Decoder, data: st.DataObject
) -> None:
    size = len(decoder.sample)
    start, end = (data.draw(st.integers(0, size)) for _ in range(2))
    middle = data.draw(st.binary(max_size=20))
    require_refused_or_itself(decoder, decoder.sample[:start] + middle + decoder.sample[end:])


@each
@given(text=st.text(max_size=60))
@settings(deadline=None)
def test_any_text_is_refused_or_itself(decoder: Decoder, text: str) -> None:
    require_refused_or_itself(decoder, text.encode(errors="surrogatepass"))


def test_mutated_samples_are_refused_or_themselves() -> None:
    refused: Counter[str] = Counter()
    for decoder, data in mutations(20_000, seed=0):
        refused[decoder.name] += require_refused_or_itself(decoder, data)
    assert set(refused) == {decoder.name for decoder in decoders()}
    assert min(refused.values()) > 300


def test_a_decoder_that_reads_anything_is_noticed() -> None:
    lax = Decoder("lax", b"good", lambda data: b"good")
    with pytest.raises(AssertionError, match="lax took"):
        require_refused_or_itself(lax, b"bad")
    with pytest.raises(ZeroDivisionError):
        require_refused_or_itself(Decoder("broken", b"", lambda data: bytes(1 // 0)), b"bad")


def test_messages_of_every_kind_are_mutated() -> None:
    kinds = {kind.kind for kind in wire.WireMessage.__subclasses__()}
    assert sorted(message.kind for message in messages()) == sorted(kinds)
    assert all(type(message) is getattr(wire, type(message).__name__) for message in messages())


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.kind)
def test_a_mutated_message_is_refused(message: wire.WireMessage) -> None:
    assert not require_record_refused_or_itself(message, message.to_record())
    draw = np.random.default_rng(0)
    for _ in range(200):
        record = mutated_record(message, draw)
        refused = require_record_refused_or_itself(message, record)
        assert refused == (record != message.to_record())


def test_mutated_records_go_round_every_kind() -> None:
    count = 20 * len(messages())
    met = Counter(message.kind for message, _ in mutated_records(count, seed=0))
    assert met == {message.kind: 20 for message in messages()}


def test_a_message_that_reads_any_record_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    message = wire.SignReply(b"b")
    record = wire.SignReply(b"c").to_record()
    monkeypatch.setattr(wire.SignReply, "from_record", lambda record: message)
    with pytest.raises(AssertionError, match="taken for 'signed'"):
        require_record_refused_or_itself(message, record)


def test_oversized_fields_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BYTES", 4)
    monkeypatch.setattr(wire, "MAX_TEXT", 4)
    monkeypatch.setattr(wire, "MAX_ITEMS", 4)
    good = wire.UnmaskRequest(b"abcd", ["abcd"] * 4, [], [b"abcd"])
    assert wire.UnmaskRequest.from_record(good.to_record()) == good
    for bad in (
        wire.UnmaskRequest(b"abcde", [], [], []),
        wire.UnmaskRequest(b"", ["abcde"], [], []),
        wire.UnmaskRequest(b"", ["a"] * 5, [], []),
        wire.UnmaskRequest(b"", [], [], [b"abcde"]),
    ):
        with pytest.raises(ProtocolError, match="too long"):
            wire.UnmaskRequest.from_record(bad.to_record())
