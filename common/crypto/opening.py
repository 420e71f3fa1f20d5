"""The server's half of secure aggregation: open the sum over the survivors, and only that.

Source: Bonawitz et al. 2017, figure 4, round 4. Who spoils an opening is found out: a key that
does not open what a dealer signed blames the revealer, and shares that open but rebuild no
advertised secret blame their dealer. An opening that is not given blames nobody: its dealer may
have dealt what does not open, or its bearer may withhold what does.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from common.crypto import merkle, prg, sealing
from common.crypto.keys import agree, public_key
from common.crypto.masking import pair_keys, self_key
from common.crypto.refusals import DuplicatePeerError, ShareAlteredError
from common.crypto.ring import RingVector, check_slots, require_range
from common.crypto.roster import Roster
from common.crypto.session import Advert, Offer, Parcel, Reveal, Session, seed_hash
from common.crypto.shamir import combine, weights
from common.descriptor import RoundDescriptor
from common.errors import AggregationError, ProtocolError, TooFewSurvivorsError


class SpoiledOpeningError(AggregationError):
    """A sum cannot be opened because of the ``culprits``, who are known."""

    def __init__(self, culprits: Iterable[str], problem: str) -> None:
        """Name who spoiled it."""
        self.culprits = tuple(sorted(culprits))
        super().__init__(f"{', '.join(self.culprits)} {problem}: go on without them")


@dataclass(frozen=True, slots=True)
class Opened:
    """The ring sum ``(descriptor.length,)``, checks passed and cut off, and who misbehaved."""

    total: RingVector
    culprits: tuple[str, ...]


def require_offer(offer: Offer, session: Session, roster: Roster, name: str) -> None:
    """Return if an offer is signed for this session and its commitments and keys hold.

    Raises:
        ProtocolError: by the refusal of what is wrong (see `common.crypto.refusals`).
    """
    advert = offer.advert
    advert.require(session, roster, name)
    if len(offer.sealed) != len(roster.names) or merkle.root(offer.sealed) != advert.root:
        raise ShareAlteredError(f"the shares of {name!r} are not those it signed")
    for key in (advert.mask_public, advert.seal_public):
        agree(bytes(32), key)  # a key of low order would stop every institution
    if advert.mask_public == advert.seal_public:
        raise DuplicatePeerError(f"{name!r} advertises one key for masks and for sealing")


def sharing(offers: Mapping[str, Offer]) -> tuple[str, ...]:
    """Return, sorted, who offers a key that another offers too.

    Every institution would refuse both. Who copied whom cannot be told, so neither is a culprit.
    """
    holders: dict[bytes, list[str]] = {}
    for name, offer in offers.items():
        for key in {offer.advert.mask_public, offer.advert.seal_public}:
            holders.setdefault(key, []).append(name)
    return tuple(sorted({name for names in holders.values() if len(names) > 1 for name in names}))


def parcels(
    offers: Mapping[str, Offer], roster: Roster, cohort: Collection[str]
) -> dict[str, dict[str, Parcel]]:
    """Return for each receiver of the cohort what each dealer of it dealt: by receiver, dealer."""
    paths = {name: merkle.paths(offers[name].sealed) for name in cohort}
    places = {name: roster.names.index(name) for name in cohort}
    return {
        receiver: {
            dealer: Parcel(offers[dealer].advert, offers[dealer].sealed[at], paths[dealer][at])
            for dealer in cohort
        }
        for receiver, at in places.items()
    }


def unmask(
    descriptor: RoundDescriptor,
    roster: Roster,
    offers: Mapping[str, Offer],
    masked: Mapping[str, RingVector],
    reveals: Mapping[str, Reveal],
) -> Opened:
    """Return the sum over the survivors, the keys of ``masked``, with its check slots verified.

    ``offers`` are those of the cohort. Revealers whose openings are bad are left out and named;
    every rebuilt secret is checked against its owner's advert.

    Raises:
        TooFewSurvivorsError: survivors or sound reveals are below the threshold.
        SpoiledOpeningError: a dealer's shares rebuild another secret than it advertised.
        ProtocolError: a masked vector is not of the descriptor's ring and length.
        AggregationError: names do not fit together, openings of one secret are withheld, or
            the check slots do not add up.
    """
    cohort, bits = descriptor.cohort, descriptor.ring_bits
    _require_within("offers", cohort, offers)
    _require_within("cohort", masked, cohort)
    _require_within("survivors", reveals, masked)
    _require_enough("survivors", len(masked), descriptor)
    total = _sum(descriptor, masked.values())
    shares, culprits = _open_shares(descriptor, roster, offers, masked, reveals)
    _require_enough("sound reveals", len(shares), descriptor)
    secrets = _rebuild(descriptor, roster, offers, masked, shares)
    digest = descriptor.digest()
    prg.apply(total, bits, (), [self_key(secrets[name], digest) for name in sorted(masked)])
    adverts = {name: offers[name].advert for name in cohort}
    for name in sorted(set(cohort) - masked.keys()):
        # The dropped institution's own half of its pair masks cancels the survivors' halves.
        pairs = pair_keys(name, secrets[name], masked, adverts, digest)
        prg.apply(total, bits, pairs.added, pairs.subtracted)
    checks = check_slots(digest, bits)
    expected = (checks * np.uint32(len(masked))) & np.uint32((1 << bits) - 1)
    if not np.array_equal(total[descriptor.length :], expected):
        raise AggregationError(
            "the check slots of the sum do not add up: an institution was shown another"
            " descriptor, or sent a malformed vector; go on to the next round"
        )
    return Opened(total[: descriptor.length], tuple(sorted(culprits)))


def _sum(descriptor: RoundDescriptor, vectors: Iterable[RingVector]) -> RingVector:
    length = descriptor.length + len(check_slots(bytes(32), descriptor.ring_bits))
    total = np.zeros(length, np.uint32)
    for vector in vectors:
        if vector.dtype != np.uint32 or vector.shape != (length,):
            raise ProtocolError(
                f"a masked vector of {vector.dtype} {vector.shape} is not uint32 ({length},)"
            )
        require_range(vector, descriptor.ring_bits)
        total += vector
    return total


def _open_shares(
    descriptor: RoundDescriptor,
    roster: Roster,
    offers: Mapping[str, Offer],
    masked: Mapping[str, RingVector],
    reveals: Mapping[str, Reveal],
) -> tuple[dict[str, dict[str, bytes]], set[str]]:
    """Return the opened shares by sound revealer and dealer, and the revealers at fault."""
    survived = tuple(member in masked for member in descriptor.cohort)
    shares: dict[str, dict[str, bytes]] = {}
    culprits = set()
    for name, reveal in sorted(reveals.items()):
        place = roster.names.index(name)
        try:
            if reveal.survived != survived:
                raise ShareAlteredError(f"the reveal of {name!r} is for other survivors")
            shares[name] = {
                dealer: (sealing.unseal_seed if alive else sealing.unseal_key)(
                    offers[dealer].sealed[place], opening
                )
                for dealer, alive, opening in zip(
                    descriptor.cohort, survived, reveal.openings, strict=True
                )
                if opening is not None
            }
        except ShareAlteredError:
            culprits.add(name)
    return shares, culprits


def _rebuild(
    descriptor: RoundDescriptor,
    roster: Roster,
    offers: Mapping[str, Offer],
    masked: Mapping[str, RingVector],
    shares: Mapping[str, Mapping[str, bytes]],
) -> dict[str, bytes]:
    """Rebuild each cohort member's opened secret: its seed, or its mask key if it dropped."""
    session, threshold = Session.of(descriptor), descriptor.threshold
    points = {name: place for place, name in enumerate(roster.names, 1)}
    lagrange: dict[tuple[str, ...], list[int]] = {}
    secrets, spoilt, short = {}, [], {}
    for name in descriptor.cohort:
        bearers = tuple(bearer for bearer, given in shares.items() if name in given)[:threshold]
        if len(bearers) < threshold:
            short[name] = len(bearers)
            continue
        if bearers not in lagrange:
            lagrange[bearers] = weights([points[bearer] for bearer in bearers], threshold)
        try:
            secret = combine(lagrange[bearers], [shares[bearer][name] for bearer in bearers])
            _require_advertised(secret, offers[name].advert, session, name, alive=name in masked)
        except ProtocolError:
            spoilt.append(name)
        else:
            secrets[name] = secret
    if spoilt:
        raise SpoiledOpeningError(spoilt, "dealt shares that rebuild no advertised secret")
    for name, given in short.items():
        raise AggregationError(
            f"{given} openings were given for {name!r}, {threshold} are needed: whether it dealt"
            " badly or others withhold cannot be told; go on to the next round"
        )
    return secrets


def _require_advertised(
    secret: bytes, advert: Advert, session: Session, name: str, *, alive: bool
) -> None:
    if alive:
        advertised = seed_hash(secret, session, name) == advert.seed_hash
    else:
        advertised = public_key(secret) == advert.mask_public
    if not advertised:
        raise ProtocolError(f"the shares rebuild a secret {name!r} did not advertise")


def _require_within(kind: str, names: Collection[str], known: Collection[str]) -> None:
    if unknown := set(names) - set(known):
        raise AggregationError(f"{sorted(unknown)} are not among the {kind} of this round")


def _require_enough(kind: str, count: int, descriptor: RoundDescriptor) -> None:
    if count < descriptor.threshold:
        raise TooFewSurvivorsError(
            f"{count} {kind} are below the threshold of {descriptor.threshold}: repeat the round"
        )
