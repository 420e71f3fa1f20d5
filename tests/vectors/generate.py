"""Writes the test vectors of secure aggregation: `python tests/vectors/generate.py`.

A vector holds every byte that enters a step, drawn bytes included, and every byte that leaves
it, so that another implementation can replay it. They change only with the protocol's version.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.crypto import merkle, opening, ring, secagg, shamir
from common.crypto.keys import PAIR_MASK, derive, verifying_key
from common.crypto.keys import sign as sign_bytes
from common.crypto.session import Parcel, Reveal
from common.descriptor import RoundDescriptor
from common.entropy import SeededEntropy
from simulations.rehearsal import Performance, Rehearsal, seeded_identity

HERE = Path(__file__).parent
Json = dict[str, Any]


class Recorder:
    """A seeded stream that remembers what it gave."""

    def __init__(self, name: str) -> None:
        self._stream, self.drawn = SeededEntropy(0, name).stream("vector"), b""

    def __call__(self, size: int) -> bytes:
        self.drawn += (fresh := self._stream(size))
        return fresh


def primitives() -> Json:
    recorder = Recorder("shamir")
    secret, points = bytes(range(32)), [1, 2, 3, 5, 8]
    shares = shamir.split(secret, 3, points, recorder)
    leaves = [bytes([place]) * 3 for place in range(5)]
    values = [0, 1, 2**21 - 1, 12345, 7]
    return {
        "shamir": {
            "secret": secret.hex(),
            "threshold": 3,
            "points": points,
            "drawn": recorder.drawn.hex(),
            "shares": [share.hex() for share in shares],
        },
        "derive": {
            "secret": secret.hex(),
            "label": PAIR_MASK.decode(),
            "binding": "00ff",
            "key": derive(secret, PAIR_MASK, b"\x00\xff").hex(),
        },
        "signature": {
            "private": secret.hex(),
            "public": verifying_key(secret).hex(),
            "label": PAIR_MASK.decode(),
            "statement": "00ff",
            "signature": sign_bytes(secret, PAIR_MASK, b"\x00\xff").hex(),
        },
        "merkle": {
            "leaves": [leaf.hex() for leaf in leaves],
            "root": merkle.root(leaves).hex(),
            "paths": [path.hex() for path in merkle.paths(leaves)],
        },
        "pack": {
            "bits": 21,
            "values": values,
            "packed": ring.pack(np.array(values, np.uint32), 21).hex(),
        },
        "check_slots": {
            "digest": secret.hex(),
            "bits": 24,
            "slots": ring.check_slots(secret, 24).tolist(),
        },
    }


def rehearsed() -> tuple[Performance, Json]:
    """Return four institutions' epoch and its vector: all mask, the last one leaves."""
    rehearsal = replace(Rehearsal.of(4), length=6)
    recorders = {name: Recorder(name) for name in rehearsal.names}
    rehearsal.__dict__["advertised"] = {
        name: secagg.advertise(party, rehearsal.session, rehearsal.sequence, recorders[name])
        for name, party in rehearsal.parties.items()
    }
    draw = np.random.default_rng(0)
    vectors = {name: draw.integers(0, 2**24, 6, np.uint32) for name in rehearsal.names}
    performance = rehearsal.mask(vectors)
    survivors = rehearsal.names[:3]
    signatures = performance.sign(survivors)
    reveals = {name: performance.reveal(name, survivors, signatures)[1] for name in survivors}
    total = performance.open(survivors, reveals).total
    members = {
        name: {
            "signing_private": seeded_identity(name, 0).signing_private.hex(),
            "agreement_private": seeded_identity(name, 0).agreement_private.hex(),
            "drawn": recorders[name].drawn.hex(),
            "advert": rehearsal.offers[name].to_bytes()[0].hex(),
            "sealed": rehearsal.offers[name].to_bytes()[1].hex(),
            "vector": vectors[name].tolist(),
            "masked": ring.pack(performance.masked[name], 24).hex(),
        }
        for name in rehearsal.names
    }
    return performance, {
        "terms": {"threshold": rehearsal.terms.threshold, "colluders": rehearsal.terms.colluders},
        "sequence": rehearsal.sequence,
        "roster": rehearsal.roster.to_bytes().decode(),
        "roster_hash": rehearsal.roster.digest,
        "descriptor": performance.descriptor.to_json(),
        "descriptor_digest": performance.descriptor.digest().hex(),
        "institutions": members,
        "survivors": list(survivors),
        "signatures": {name: signature.hex() for name, signature in signatures.items()},
        "reveals": {name: reveal.to_bytes().hex() for name, reveal in reveals.items()},
        "total": total.tolist(),
    }


def refused(performance: Performance) -> Iterator[Json]:
    """Yield requests to the first institution that it must refuse, with the reason."""
    rehearsal, descriptor = performance.rehearsal, performance.descriptor
    names = rehearsal.names
    good = opening.parcels(performance.offers, rehearsal.roster, names)[names[0]]

    def accept(reason: str, asked: RoundDescriptor, parcels: dict[str, Parcel]) -> Json:
        return {
            "step": "accept",
            "reason": reason,
            "descriptor": asked.to_json(),
            "parcels": {
                name: [parcel.advert.to_bytes().hex(), parcel.sealed.hex(), parcel.path.hex()]
                for name, parcel in parcels.items()
            },
        }

    flip: Callable[[bytes], bytes] = lambda data: bytes([data[0] ^ 1]) + data[1:]  # noqa: E731
    one, two = good[names[1]], good[names[2]]
    forged = one.advert.model_copy(update={"mask_public": flip(one.advert.mask_public)})
    yield accept("bad-signature", descriptor, good | {names[1]: replace(one, advert=forged)})
    later = one.advert.model_copy(update={"sequence": one.advert.sequence + 1})
    yield accept("bad-signature", descriptor, good | {names[1]: replace(one, advert=later)})
    yield accept("bad-signature", descriptor, good | {names[1]: two})
    mine = good[names[0]].advert.model_copy(update={"seed_hash": bytes(32)})
    yield accept(
        "own-key-altered", descriptor, good | {names[0]: replace(good[names[0]], advert=mine)}
    )
    yield accept(
        "share-altered", descriptor, good | {names[1]: replace(one, sealed=flip(one.sealed))}
    )
    yield accept("share-altered", descriptor, good | {names[1]: replace(one, sealed=two.sealed)})
    yield accept("share-missing", descriptor, {names[0]: good[names[0]]})
    yield accept("other-session", replace(descriptor, epoch=descriptor.epoch + 1), good)
    yield accept("other-session", replace(descriptor, round=descriptor.round + 1), good)
    yield accept("other-roster", replace(descriptor, roster_hash="00"), good)
    yield accept("threshold", replace(descriptor, threshold=2), good)
    yield accept("cohort-without-me", replace(descriptor, cohort=names[1:]), good)
    yield accept("participants-too-few", replace(descriptor, cohort=names[:2]), good)
    yield accept("unknown-peer", replace(descriptor, cohort=(*names, "sybil")), good)

    signatures = performance.sign(names[:3])
    asked: list[tuple[str, tuple[str, ...], dict[str, bytes]]] = [
        ("survivors-without-me", names[1:], {}),
        ("survivors-too-few", names[:2], {}),
        ("unknown-peer", (*names[:3], "sybil"), {}),
        ("duplicate-peer", (names[0], *names[:3]), {}),
        ("survivors-unsigned", names[:3], {}),
        ("survivors-unsigned", names[:3], dict(list(signatures.items())[:2])),
        ("bad-signature", names[:3], signatures | {names[1]: signatures[names[2]]}),
        ("unknown-peer", names[:3], signatures | {names[3]: signatures[names[2]]}),
    ]
    for reason, survivors, signed in asked:
        yield {
            "step": "reveal",
            "reason": reason,
            "survivors": list(survivors),
            "signatures": {name: signature.hex() for name, signature in signed.items()},
        }
    advert, sealed = performance.offers[names[0]].to_bytes()
    opened = Reveal(survived=(True,) * 4, openings=(bytes(16),) * 3 + (None,)).to_bytes()
    for decoder, data in (
        ("advert", advert[:-1]),
        ("advert", b"\1" + advert[1:]),
        ("advert", b""),
        ("sealed", sealed + b"\0"),
        ("sealed", sealed[:-98]),
        ("reveal", opened[:-1]),
        ("reveal", opened + b"\0"),
        ("reveal", opened[:3] + b"\xff" + opened[4:]),
        ("roster", rehearsal.roster.to_bytes() + b" "),
        ("descriptor", descriptor.to_json().replace('"epoch":5', '"epoch":5.0').encode()),
        ("descriptor", descriptor.to_json().replace('"ring_bits":24', '"ring_bits":1').encode()),
    ):
        reason = "ring" if b'"ring_bits":1,' in data else "protocol"
        yield {"step": "decode", "decoder": decoder, "data": data.hex(), "reason": reason}


def build() -> dict[str, Any]:
    """Return the content of every vector file."""
    performance, whole = rehearsed()
    return {
        "primitives.json": primitives(),
        "round.json": whole,
        "refused.json": list(refused(performance)),
    }


if __name__ == "__main__":
    for file, content in build().items():
        (HERE / file).write_text(json.dumps(content, indent=1) + "\n")
