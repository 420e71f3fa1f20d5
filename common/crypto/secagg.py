"""An institution's half of secure aggregation: four steps, each a pure state transition.

Source: Bonawitz et al. 2017, figure 4 (complete graph), with sealing keys apart from mask keys.
The server's half is `common.crypto.opening`.

    advertise -> share -> mask -> reveal

Every step raises a subclass of `ProtocolError` whose ``reason`` names the refusal (see
`common.crypto.refusals`) and then leaves nothing to send. Adverts are not signed yet, so a
server that invents institutions is not noticed here.
"""

from collections.abc import Collection, Mapping, Sequence

from common.crypto import prg
from common.crypto.keys import KEY_SIZE
from common.crypto.masking import pair_keys, self_key
from common.crypto.refusals import (
    CohortWithoutMeError,
    DuplicatePeerError,
    MissingShareError,
    NotASurvivorError,
    OtherSessionError,
    OwnKeyAlteredError,
    ShareAlteredError,
    SurvivorSetTooSmallError,
    ThresholdError,
    TooFewParticipantsError,
    UnknownPeerError,
)
from common.crypto.ring import RingVector, require_vector
from common.crypto.sealing import seal, unseal
from common.crypto.session import (
    Advert,
    Reveal,
    Session,
    deal_digest,
    share_context,
    share_points,
)
from common.crypto.shamir import split
from common.crypto.stages import Advertised, Bundle, Masked, Revealed, Shared
from common.descriptor import RoundDescriptor
from common.entropy import Stream
from common.errors import ProtocolError


def advertise(me: str, session: Session, stream: Stream) -> tuple[Advertised, Advert]:
    """Draw the secrets of one epoch and return the advert of their public parts."""
    state = Advertised(
        me=me,
        session=session,
        mask_private=stream(KEY_SIZE),
        seal_private=stream(KEY_SIZE),
        seed=stream(KEY_SIZE),
    )
    return state, state.advert


def share(
    state: Advertised, adverts: Mapping[str, Advert], threshold: int, stream: Stream
) -> tuple[Shared, dict[str, bytes]]:
    """Deal shares of both secrets to all adverts' names; 94 sealed bytes for each peer.

    Raises:
        OwnKeyAlteredError: my advert is missing or not the one I sent.
        OtherSessionError: an advert belongs to another session.
        DuplicatePeerError: one key stands under two names.
        TooFewParticipantsError: the adverts are fewer than two or than the threshold.
        ThresholdError: the threshold is not above half of the adverts, so that two halves
            could be made to open a round differently.
        BadKeyError: a sealing key has low order.
    """
    advert = state.advert
    _require_adverts(state, advert, adverts)
    _require_threshold(threshold, len(adverts))
    points = share_points(adverts)
    dealt = zip(
        points,
        split(state.seed, threshold, list(points.values()), stream),
        split(state.mask_private, threshold, list(points.values()), stream),
        strict=True,
    )
    bundles = {name: Bundle(seed_share=seed, key_share=key) for name, seed, key in dealt}
    own = bundles.pop(state.me)
    deal = deal_digest(state.session, list(points), threshold)
    sealed = {
        peer: seal(
            state.seal_private,
            adverts[peer].seal_public,
            share_context(deal, state.me, advert, peer),
            bundle.to_bytes(),
            stream,
        )
        for peer, bundle in bundles.items()
    }
    shared = Shared(
        me=state.me,
        session=state.session,
        threshold=threshold,
        adverts=dict(adverts),
        mask_private=state.mask_private,
        seal_private=state.seal_private,
        seed=state.seed,
        own=own,
    )
    return shared, sealed


def mask(
    state: Shared, inbox: Mapping[str, bytes], descriptor: RoundDescriptor, vector: RingVector
) -> tuple[Masked, RingVector]:
    """Mask an encoded ``(descriptor.length,)`` vector for the descriptor's cohort.

    The cohort are those who dealt shares; ``inbox`` holds what each of them dealt to me.
    Store the new stage before the vector leaves: two vectors under one stage bare their
    difference.

    Raises:
        OtherSessionError, ThresholdError: the descriptor is not of this deal.
        CohortWithoutMeError, UnknownPeerError, TooFewParticipantsError: about the cohort.
        MissingShareError, UnknownPeerError, ShareAlteredError: about the inbox.
        BadKeyError: a peer's key has low order.
        ProtocolError: the vector is not of the descriptor's ring and length.
    """
    state.session.require(descriptor)
    _require_cohort(state, descriptor)
    require_vector(descriptor, vector)
    held = {state.me: state.own} | _open_inbox(state, inbox, descriptor.cohort)
    digest = descriptor.digest()
    pairs = pair_keys(state.me, state.mask_private, descriptor.cohort, state.adverts, digest)
    masked = vector.copy()
    added = [self_key(state.seed, digest), *pairs.added]
    prg.apply(masked, descriptor.ring_bits, added, pairs.subtracted)
    following = Masked(me=state.me, session=state.session, threshold=state.threshold, held=held)
    return following, masked


def reveal(state: Masked, survivors: Collection[str]) -> tuple[Revealed, Reveal]:
    """Give up one share for each cohort member: of its seed if it survived, else of its key.

    Store the new stage before the reveal leaves: a second one could bare a peer's update.

    Raises:
        DuplicatePeerError, UnknownPeerError: a survivor stands twice or outside the cohort.
        NotASurvivorError: the survivors leave me out.
        SurvivorSetTooSmallError: they are fewer than the threshold.
    """
    alive = set(survivors)
    if len(alive) != len(survivors):
        raise DuplicatePeerError("a survivor is listed twice: list each once")
    if unknown := alive - state.held.keys():
        raise UnknownPeerError(f"survivors {sorted(unknown)} are not in the cohort that masked")
    if state.me not in alive:
        raise NotASurvivorError(f"{state.me!r} is asked to open a sum without its own vector")
    if len(alive) < state.threshold:
        raise SurvivorSetTooSmallError(
            f"{len(alive)} survivors are below the threshold of {state.threshold}: repeat the round"
        )
    opened = Reveal(
        survived=tuple(name in alive for name in state.cohort),
        shares=tuple(
            state.held[name].seed_share if name in alive else state.held[name].key_share
            for name in state.cohort
        ),
    )
    following = Revealed(me=state.me, session=state.session, survivors=tuple(sorted(alive)))
    return following, opened


def _require_adverts(state: Advertised, own: Advert, adverts: Mapping[str, Advert]) -> None:
    if adverts.get(state.me) != own:
        raise OwnKeyAlteredError(f"the advert of {state.me!r} came back missing or altered")
    stale = [name for name, advert in adverts.items() if advert.session_tag != own.session_tag]
    if stale:
        raise OtherSessionError(f"the adverts of {sorted(stale)} belong to another session")
    keys = [key for advert in adverts.values() for key in (advert.mask_public, advert.seal_public)]
    if len(set(keys)) != len(keys):
        raise DuplicatePeerError("one public key stands in two places among the adverts")


def _require_threshold(threshold: int, dealt_to: int) -> None:
    if dealt_to < max(threshold, 2):
        raise TooFewParticipantsError(
            f"{dealt_to} institutions are below {max(threshold, 2)}: wait for more to advertise"
        )
    if 2 * threshold <= dealt_to:
        raise ThresholdError(
            f"threshold {threshold} is not above half of {dealt_to}: raise aggregation.threshold"
        )


def _require_cohort(state: Shared, descriptor: RoundDescriptor) -> None:
    if descriptor.threshold != state.threshold:
        raise ThresholdError(
            f"the descriptor's threshold is {descriptor.threshold},"
            f" shares were dealt with {state.threshold}"
        )
    if state.me not in descriptor.cohort:
        raise CohortWithoutMeError(f"the cohort leaves out {state.me!r}, which is asked to mask")
    if unknown := set(descriptor.cohort) - state.adverts.keys():
        raise UnknownPeerError(f"{sorted(unknown)} are in the cohort but never advertised")
    if len(descriptor.cohort) < state.threshold:
        raise TooFewParticipantsError(
            f"a cohort of {len(descriptor.cohort)} is below the threshold of {state.threshold}:"
            " repeat the round"
        )


def _open_inbox(
    state: Shared, inbox: Mapping[str, bytes], cohort: Sequence[str]
) -> dict[str, Bundle]:
    peers = set(cohort) - {state.me}
    if unknown := inbox.keys() - peers:
        raise UnknownPeerError(f"shares of {sorted(unknown)} arrived from outside the cohort")
    if missing := peers - inbox.keys():
        raise MissingShareError(f"no shares arrived from {sorted(missing)}: leave them out")
    deal = deal_digest(state.session, list(state.adverts), state.threshold)
    held = {}
    for peer in sorted(peers):
        advert = state.adverts[peer]
        context = share_context(deal, peer, advert, state.me)
        try:
            opened = unseal(state.seal_private, advert.seal_public, context, inbox[peer])
            held[peer] = Bundle.from_bytes(opened)
        except ProtocolError as error:
            raise ShareAlteredError(f"the share dealt by {peer!r} does not open") from error
    return held
