"""Every stored vector replays: good ones byte for byte, bad ones to their reason."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.crypto import merkle, opening, ring, secagg, shamir
from common.crypto.keys import derive, verify, verifying_key
from common.crypto.keys import sign as sign_bytes
from common.crypto.roster import Identity, Roster
from common.crypto.secagg import Party
from common.crypto.session import Advert, Offer, Parcel, Reveal, Session
from common.crypto.stages import Masked, Prepared
from common.crypto.terms import Terms
from common.descriptor import RoundDescriptor
from common.errors import ProtocolError

HERE = Path(__file__).parent
PRIMITIVES, ROUND, REFUSED = (
    json.loads((HERE / f"{name}.json").read_text()) for name in ("primitives", "round", "refused")
)
unhex = bytes.fromhex


def replayed(drawn: str) -> Callable[[int], bytes]:
    left = bytearray(unhex(drawn))

    def stream(size: int) -> bytes:
        fresh = bytes(left[:size])
        assert len(fresh) == size
        del left[:size]
        return fresh

    return stream


def test_primitives() -> None:
    case = PRIMITIVES["shamir"]
    shares = shamir.split(
        unhex(case["secret"]), case["threshold"], case["points"], replayed(case["drawn"])
    )
    assert [share.hex() for share in shares] == case["shares"]
    case = PRIMITIVES["derive"]
    key = derive(unhex(case["secret"]), case["label"].encode(), unhex(case["binding"]))
    assert key.hex() == case["key"]
    case = PRIMITIVES["signature"]
    private, label, statement = unhex(case["private"]), case["label"].encode(), unhex("00ff")
    assert verifying_key(private).hex() == case["public"]
    assert sign_bytes(private, label, statement).hex() == case["signature"]
    verify(unhex(case["public"]), label, statement, unhex(case["signature"]))
    case = PRIMITIVES["merkle"]
    leaves = [unhex(leaf) for leaf in case["leaves"]]
    assert merkle.root(leaves).hex() == case["root"]
    assert [path.hex() for path in merkle.paths(leaves)] == case["paths"]
    case = PRIMITIVES["pack"]
    assert ring.pack(np.array(case["values"], np.uint32), case["bits"]).hex() == case["packed"]
    case = PRIMITIVES["check_slots"]
    assert ring.check_slots(unhex(case["digest"]), case["bits"]).tolist() == case["slots"]


DESCRIPTOR = RoundDescriptor.from_json(ROUND["descriptor"])
SESSION = Session.of(DESCRIPTOR)
ROSTER = Roster.from_bytes(ROUND["roster"].encode())
TERMS = Terms(**ROUND["terms"])
NAMES = DESCRIPTOR.cohort


def party(name: str) -> Party:
    fields = ROUND["institutions"][name]
    identity = Identity(
        signing_private=unhex(fields["signing_private"]),
        agreement_private=unhex(fields["agreement_private"]),
    )
    assert identity.member(name) == ROSTER.member(name)
    return Party(name, identity, ROSTER, TERMS)


def begin(name: str) -> tuple[Prepared, Offer]:
    drawn = replayed(ROUND["institutions"][name]["drawn"])
    return secagg.advertise(party(name), SESSION, ROUND["sequence"], drawn)


def masked(name: str) -> tuple[Masked, ring.RingVector]:
    offers = {peer: begin(peer)[1] for peer in NAMES}
    parcels = opening.parcels(offers, ROSTER, NAMES)[name]
    accepted = secagg.accept(party(name), begin(name)[0], DESCRIPTOR, parcels)
    return secagg.mask(accepted, np.array(ROUND["institutions"][name]["vector"], np.uint32))


def test_a_round_replays_byte_for_byte() -> None:
    assert ROSTER.digest == ROUND["roster_hash"]
    assert DESCRIPTOR.digest().hex() == ROUND["descriptor_digest"]
    stages, vectors, offers = {}, {}, {}
    for name, fields in ROUND["institutions"].items():
        offers[name] = begin(name)[1]
        advert, sealed = offers[name].to_bytes()
        assert (advert.hex(), sealed.hex()) == (fields["advert"], fields["sealed"])
        stages[name], vectors[name] = masked(name)
        assert ring.pack(vectors[name], DESCRIPTOR.ring_bits).hex() == fields["masked"]
    survivors = ROUND["survivors"]
    signatures = {}
    for name in survivors:
        stages[name], signatures[name] = secagg.sign(party(name), stages[name], survivors)
        assert signatures[name].hex() == ROUND["signatures"][name]
    reveals = {}
    for name in survivors:
        _, reveals[name] = secagg.reveal(party(name), stages[name], survivors, signatures)
        assert reveals[name].to_bytes().hex() == ROUND["reveals"][name]
    alive = {name: vectors[name] for name in survivors}
    opened = opening.unmask(DESCRIPTOR, ROSTER, offers, alive, reveals)
    assert opened.total.tolist() == ROUND["total"]
    plain = sum(np.array(ROUND["institutions"][name]["vector"], np.uint64) for name in survivors)
    assert opened.total.tolist() == (plain % 2**DESCRIPTOR.ring_bits).tolist()


DECODERS: dict[str, Callable[[bytes], object]] = {
    "advert": Advert.from_bytes,
    "sealed": lambda data: Offer.from_bytes(begin(NAMES[0])[1].to_bytes()[0], data, len(NAMES)),
    "reveal": Reveal.from_bytes,
    "roster": Roster.from_bytes,
    "descriptor": lambda data: RoundDescriptor.from_json(data.decode()),
}


def attempt(case: dict[str, Any]) -> None:
    if case["step"] == "decode":
        DECODERS[case["decoder"]](unhex(case["data"]))
    elif case["step"] == "accept":
        parcels = {
            name: Parcel(Advert.from_bytes(unhex(advert)), unhex(sealed), unhex(path))
            for name, (advert, sealed, path) in case["parcels"].items()
        }
        asked = RoundDescriptor.from_json(case["descriptor"])
        secagg.accept(party(NAMES[0]), begin(NAMES[0])[0], asked, parcels)
    else:
        signatures = {name: unhex(signature) for name, signature in case["signatures"].items()}
        secagg.reveal(party(NAMES[0]), masked(NAMES[0])[0], case["survivors"], signatures)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case['step']}-{case['reason']}")
def test_a_bad_vector_is_refused_for_its_reason(case: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        attempt(case)
    assert caught.value.reason == case["reason"]


def test_the_generator_still_makes_these_vectors() -> None:
    spec = importlib.util.spec_from_file_location("generate", HERE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.build() == {
        "primitives.json": PRIMITIVES,
        "round.json": ROUND,
        "refused.json": REFUSED,
    }
