"""Mask keys: alike for both of a pair, and tied to everything they depend on."""

from dataclasses import dataclass

from common.crypto.keys import public_key
from common.crypto.masking import PairKeys, pair_keys, self_key
from common.crypto.session import Advert

DIGEST, OTHER_DIGEST = b"d" * 32, b"e" * 32


@dataclass(frozen=True)
class Party:
    name: str
    private: bytes

    @property
    def advert(self) -> Advert:
        public = public_key(self.private)
        return Advert(
            session_tag=bytes(8),
            mask_public=public,
            seal_public=bytes(32),
            seed_hash=bytes(32),
            root=bytes(32),
            sequence=0,
            signature=bytes(64),
        )


ASH, BIRCH, CEDAR = (Party(name, bytes([i]) * 32) for i, name in enumerate("abc", 1))
ADVERTS = {party.name: party.advert for party in (ASH, BIRCH, CEDAR)}


def keys_of(party: Party, digest: bytes = DIGEST) -> PairKeys:
    return pair_keys(party.name, party.private, ADVERTS, ADVERTS, digest)


def test_one_of_a_pair_adds_what_the_other_subtracts() -> None:
    ash, birch, cedar = keys_of(ASH), keys_of(BIRCH), keys_of(CEDAR)
    assert (len(ash.added), len(birch.added), len(cedar.added)) == (2, 1, 0)
    assert ash.subtracted == []
    assert birch.subtracted == ash.added[:1]
    assert cedar.subtracted == [ash.added[1], birch.added[0]]
    assert len({*ash.added, *birch.added}) == 3


def test_another_descriptor_gives_other_keys() -> None:
    assert set(keys_of(BIRCH).added).isdisjoint(keys_of(BIRCH, OTHER_DIGEST).added)
    assert set(keys_of(BIRCH).subtracted).isdisjoint(keys_of(BIRCH, OTHER_DIGEST).subtracted)
    assert self_key(bytes(32), DIGEST) != self_key(bytes(32), OTHER_DIGEST)


def test_another_encoding_of_the_same_public_key_gives_other_keys() -> None:
    public = ADVERTS["b"].mask_public
    same_point = public[:-1] + bytes([public[-1] | 0x80])  # RFC 7748 ignores the top bit
    altered = ADVERTS | {"b": ADVERTS["b"].model_copy(update={"mask_public": same_point})}
    shown = pair_keys("a", ASH.private, ["b"], altered, DIGEST)
    assert shown.added != pair_keys("a", ASH.private, ["b"], ADVERTS, DIGEST).added
