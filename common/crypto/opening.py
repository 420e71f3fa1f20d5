"""The server's half of secure aggregation: open the sum over the survivors, and only that.

Source: Bonawitz et al. 2017, figure 4, round 4.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from common.crypto import prg
from common.crypto.keys import public_key
from common.crypto.masking import pair_keys, self_key
from common.crypto.ring import RingVector, require_vector
from common.crypto.session import Advert, Reveal, Session, seed_hash, share_points
from common.crypto.shamir import combine, weights
from common.descriptor import RoundDescriptor
from common.errors import AggregationError, ProtocolError, TooFewSurvivorsError


def unmask(
    descriptor: RoundDescriptor,
    adverts: Mapping[str, Advert],
    masked: Mapping[str, RingVector],
    reveals: Mapping[str, Reveal],
) -> RingVector:
    """Return the ring sum ``(descriptor.length,)`` over the survivors, the keys of ``masked``.

    ``adverts`` are all that shares were dealt to, cohort or not. Of the reveals, as many as the
    threshold are used. Every rebuilt secret is checked against its owner's advert; the sum is
    not, before its check slots and `decode`'s range check have passed.

    Raises:
        TooFewSurvivorsError: survivors or reveals are below the threshold.
        ProtocolError: a masked vector is not of the descriptor's ring and length.
        AggregationError: names do not fit together, a reveal is for other survivors, or the
            shares rebuild a secret that was not advertised.
    """
    cohort = descriptor.cohort
    _require_within("adverts", cohort, adverts)
    _require_within("cohort", masked, cohort)
    _require_within("survivors", reveals, masked)
    for kind, count in (("survivors", len(masked)), ("reveals", len(reveals))):
        if count < descriptor.threshold:
            raise TooFewSurvivorsError(
                f"{count} {kind} are below the threshold of {descriptor.threshold}:"
                " repeat the round"
            )
    for name, reveal in reveals.items():
        if reveal.survived != tuple(member in masked for member in cohort):
            raise AggregationError(f"the reveal of {name!r} is for other survivors")

    total = np.zeros(descriptor.length, np.uint32)
    for vector in masked.values():
        require_vector(descriptor, vector)
        total += vector

    secrets = _rebuild(descriptor, adverts, reveals)
    session, digest = Session.of(descriptor), descriptor.digest()
    for name, secret in secrets.items():
        advert = adverts[name]
        good = (
            seed_hash(secret, session, name) == advert.seed_hash
            if name in masked
            else public_key(secret) == advert.mask_public
        )
        if not good:
            raise AggregationError(f"the shares rebuild a secret {name!r} did not advertise")
    seeds = [self_key(secrets[name], digest) for name in masked]
    prg.apply(total, descriptor.ring_bits, (), seeds)
    for name in sorted(set(cohort) - masked.keys()):
        # The dropped institution's own half of its pair masks cancels the survivors' halves.
        pairs = pair_keys(name, secrets[name], masked, adverts, digest)
        prg.apply(total, descriptor.ring_bits, pairs.added, pairs.subtracted)
    return total


def _rebuild(
    descriptor: RoundDescriptor, adverts: Mapping[str, Advert], reveals: Mapping[str, Reveal]
) -> dict[str, bytes]:
    """Rebuild each cohort member's opened secret: its seed, or its mask key if it dropped."""
    bearers: Sequence[str] = sorted(reveals)[: descriptor.threshold]
    points = share_points(adverts)
    lagrange = weights([points[name] for name in bearers], descriptor.threshold)
    secrets = {}
    for index, name in enumerate(descriptor.cohort):
        try:
            secrets[name] = combine(lagrange, [reveals[b].shares[index] for b in bearers])
        except ProtocolError as error:
            raise AggregationError(f"the shares of {name!r} rebuild no secret") from error
    return secrets


def _require_within(kind: str, names: Collection[str], known: Collection[str]) -> None:
    if unknown := set(names) - set(known):
        raise AggregationError(f"{sorted(unknown)} are not among the {kind} of this round")
