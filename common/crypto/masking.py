"""The keys of the masks, derived alike by who masks and by who opens.

Both kinds are bound to the digest of the whole descriptor: a party that was shown another
model, mask, cohort or ring makes masks that do not cancel, and two descriptors never share a
keystream.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from common.crypto.keys import PAIR_MASK, SELF_MASK, agreement, derive
from common.crypto.session import Advert


class PairKeys(NamedTuple):
    """The pair masks of one institution: those it adds and those it subtracts."""

    added: list[bytes]
    subtracted: list[bytes]

    def __repr__(self) -> str:
        """Show how many keys there are and none of them."""
        return f"PairKeys({len(self.added)} added, {len(self.subtracted)} subtracted)"


def self_key(seed: bytes, descriptor_digest: bytes) -> bytes:
    """Return the key of an institution's self mask."""
    return derive(seed, SELF_MASK, descriptor_digest)


def pair_keys(
    name: str,
    mask_private: bytes,
    peers: Iterable[str],
    adverts: Mapping[str, Advert],
    descriptor_digest: bytes,
) -> PairKeys:
    """Return the keys of ``name``'s pair masks with ``peers``; of a pair, the lower name adds.

    Raises:
        BadKeyError: a peer's mask key is malformed or of low order.
    """
    keys, agreed = PairKeys([], []), agreement(mask_private)
    for peer in sorted(set(peers) - {name}):
        low, high = sorted((name, peer))
        # The public keys too: X25519 alone accepts several encodings of one key.
        binding = descriptor_digest + adverts[low].mask_public + adverts[high].mask_public
        side = keys.added if name == low else keys.subtracted
        side.append(derive(agreed(adverts[peer].mask_public), PAIR_MASK, binding))
    return keys
