"""Every decoder refuses what it cannot read by type, and reads nothing as something else."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import messages as wire
from common.errors import ProtocolError
from simulations.mutations import (
    Decoder,
    decoders,
    mutated_record,
    mutations,
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


SAMPLES: dict[object, object] = {
    str: "a",
    int: 1,
    bytes: b"b",
    list[str]: ["c"],
    list[bytes]: [b"d"],
}


@pytest.mark.parametrize("kind", wire.WireMessage.__subclasses__(), ids=lambda kind: kind.kind)
def test_a_mutated_message_is_refused(kind: type[wire.WireMessage]) -> None:
    message = kind(**{field.name: SAMPLES[field.type] for field in fields(kind)})
    assert kind.from_record(message.to_record()) == message
    draw = np.random.default_rng(0)
    for _ in range(200):
        record = mutated_record(message, draw)
        if record != message.to_record():
            with pytest.raises(ProtocolError):
                kind.from_record(record)


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
