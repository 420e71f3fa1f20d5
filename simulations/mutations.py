"""Malformed input for every decoder: what is not refused must be the very thing it says it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from flwr.app import ConfigRecord, RecordDict

from common import messages as wire
from common.crypto import ring, secagg
from common.crypto.roster import Roster
from common.crypto.session import Advert, LastAdvert, Offer, Reveal, bitmap, from_bitmap
from common.crypto.stages import State
from common.descriptor import RoundDescriptor
from common.errors import ProtocolError
from common.pruning.masks import pack_mask, unpack_mask
from common.versions import PROTOCOL_VERSION
from simulations.rehearsal import Rehearsal


@dataclass(frozen=True)
class Decoder:
    """One way in for bytes from elsewhere: a sample, and decoding followed by encoding again."""

    name: str
    sample: bytes
    again: Callable[[bytes], bytes]


@lru_cache(maxsize=1)
def decoders() -> tuple[Decoder, ...]:
    """Return every decoder of bytes that another party or the disk supplies."""
    rehearsal = Rehearsal.of(3)
    prepared, offer = rehearsal.advertised["bank-0000"]
    advert, sealed = offer.to_bytes()
    descriptor = rehearsal.descriptor()
    masked, _ = secagg.mask(rehearsal.accept("bank-0000"), np.zeros(40, np.uint32))
    state = State(prepared=prepared, current=masked)
    last = LastAdvert(rehearsal.session.digest(), offer.advert)
    reveal = Reveal(survived=(True, False, True), openings=(b"a" * 16, None, b"b" * 16))
    weights = np.arange(8, dtype=np.float32)
    return (
        Decoder("advert", advert, lambda data: Advert.from_bytes(data).to_bytes()),
        Decoder("last advert", last.to_bytes(), lambda d: LastAdvert.from_bytes(d).to_bytes()),
        Decoder("offer", sealed, lambda data: Offer.from_bytes(advert, data, 3).to_bytes()[1]),
        Decoder("reveal", reveal.to_bytes(), lambda data: Reveal.from_bytes(data).to_bytes()),
        Decoder("roster", rehearsal.roster.to_bytes(), lambda d: Roster.from_bytes(d).to_bytes()),
        Decoder("state", state.to_bytes(), lambda data: State.from_bytes(data).to_bytes()),
        Decoder("descriptor", descriptor.to_json().encode(), _descriptor_again),
        Decoder("bitmap", bitmap((True,) * 11), lambda data: bitmap(from_bitmap(data, 11))),
        Decoder(
            "ring",
            ring.pack(np.arange(9, dtype=np.uint32), 21),
            lambda data: ring.pack(ring.unpack(data, 21, 9), 21),
        ),
        Decoder(
            "weights",
            wire.encode_weights(weights),
            lambda data: wire.encode_weights(wire.decode_weights(data, 8)),
        ),
        Decoder(
            "mask",
            pack_mask(np.arange(11) % 2 == 0),
            lambda data: pack_mask(unpack_mask(data, 11)),
        ),
    )


def _descriptor_again(data: bytes) -> bytes:
    # On the wire a descriptor is a string, so bytes that are no text never come this far.
    return RoundDescriptor.from_json(data.decode(errors="replace")).to_json().encode()


def mutated(sample: bytes, draw: np.random.Generator) -> bytes:
    """Return bytes near the sample: bits flipped, bytes cut, repeated, inserted or overwritten."""
    data = bytearray(sample)
    for _ in range(int(draw.integers(1, 4))):
        place = int(draw.integers(0, len(data) + 1))
        match int(draw.integers(0, 6)):
            case 0 if data:
                data[place % len(data)] ^= 1 << int(draw.integers(0, 8))
            case 1:
                del data[place : place + int(draw.integers(1, 40))]
            case 2:
                data[place:place] = data[: int(draw.integers(1, 40))]
            case 3:
                data[place:place] = draw.bytes(int(draw.integers(1, 8)))
            case 4 if data:
                data[place % len(data)] = int(draw.choice([0, 1, 0x22, 0x2C, 0x7F, 0xFF]))
            case _:
                del data[place:]
    return bytes(data)


def require_refused_or_itself(decoder: Decoder, data: bytes) -> bool:
    """Return whether input was refused; raise on an untyped error or a form that is not its own."""
    try:
        again = decoder.again(data)
    except ProtocolError:
        return True
    if again != data and not (decoder.name == "state" and not data):
        raise AssertionError(f"{decoder.name} took {data.hex()} for {again.hex()}")
    return False


def mutations(count: int, seed: int) -> Iterator[tuple[Decoder, bytes]]:
    """Yield mutated samples, every decoder in turn."""
    draw = np.random.default_rng(seed)
    known = decoders()
    for index in range(count):
        decoder = known[index % len(known)]
        yield decoder, mutated(decoder.sample, draw)


def mutated_record(message: wire.WireMessage, draw: np.random.Generator) -> RecordDict:
    """Return a message with a field missing, unknown, of another type, or from another kind."""
    record = message.to_record()
    body = record[wire.RECORD]
    if not isinstance(body, ConfigRecord):
        raise TypeError("a message is one configuration record")
    name = str(draw.choice(sorted(body)))
    match int(draw.integers(0, 6)):
        case 0:
            del body[name]
        case 1:
            body[f"{name}_"] = 1
        case 2:
            body[name] = float(draw.random())
        case 3:
            body[name] = [True]
        case 4:
            body["kind"] = str(draw.choice(["", "update", "joined", "UPDATE", message.kind + " "]))
        case _:
            body["version"] = int(draw.choice([0, 1, PROTOCOL_VERSION + 1, 2**62]))
    return record


@lru_cache(maxsize=1)
def messages() -> tuple[wire.WireMessage, ...]:
    """Return a message of every kind, whose contents matter to nobody."""
    content: dict[object, object] = {
        str: "a",
        int: 1,
        bytes: b"b",
        list[str]: ["c"],
        list[bytes]: [b"d"],
    }
    # A class with slots replaces the one it was declared as, which may linger: the last counts.
    kinds = {kind.kind: kind for kind in wire.WireMessage.__subclasses__()}
    return tuple(
        kind(**{field.name: content[field.type] for field in fields(kind)})
        for kind in kinds.values()
    )


def mutated_records(count: int, seed: int) -> Iterator[tuple[wire.WireMessage, RecordDict]]:
    """Yield mutated messages, every kind in turn."""
    draw = np.random.default_rng(seed)
    known = messages()
    for index in range(count):
        message = known[index % len(known)]
        yield message, mutated_record(message, draw)


def require_record_refused_or_itself(message: wire.WireMessage, record: RecordDict) -> bool:
    """Return whether a record was refused as a message of this kind; raise as for bytes."""
    try:
        read = type(message).from_record(record)
    except ProtocolError:
        return True
    if read.to_record() != record:
        raise AssertionError(f"a record was taken for {message.kind!r} that is none")
    return False
