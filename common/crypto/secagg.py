"""An institution's half of secure aggregation: pure state transitions.

Sources: Bonawitz et al. 2017, figure 4 with its malicious variant (complete graph); keys ride
ahead of the round they serve. The server's half is `common.crypto.opening`.

    advertise -> accept -> mask -> [sign ->] reveal

Every step raises a subclass of `ProtocolError` whose ``reason`` names the refusal (see
`common.crypto.refusals`) and then leaves nothing to send.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from common.crypto import keys, merkle, prg, sealing, shamir
from common.crypto.masking import PairKeys, pair_keys, self_key
from common.crypto.refusals import (
    BadSignatureError,
    CohortWithoutMeError,
    DuplicatePeerError,
    MissingShareError,
    NotASurvivorError,
    OtherRosterError,
    OwnKeyAlteredError,
    SecondSurvivorsError,
    ShareAlteredError,
    SurvivorSetTooSmallError,
    ThresholdError,
    TooFewParticipantsError,
    UnderSignedError,
    UnknownPeerError,
)
from common.crypto.ring import RingVector, check_slots, require_vector
from common.crypto.roster import Identity, Roster
from common.crypto.session import (
    Advert,
    Offer,
    Parcel,
    Reveal,
    Session,
    advert_statement,
    reveal_statement,
    seed_hash,
    share_context,
    survivors_statement,
    vector_statement,
)
from common.crypto.stages import Held, Masked, Prepared, Revealed
from common.crypto.terms import Terms
from common.descriptor import RoundDescriptor
from common.entropy import Stream


@dataclass(frozen=True, slots=True)
class Party:
    """Who acts: a member's name and private keys, the roster and terms it approved."""

    name: str
    identity: Identity = field(repr=False)
    roster: Roster
    terms: Terms


@dataclass(frozen=True, slots=True)
class Accepted:
    """A round that passed every check; ``spoiled`` dealt me shares that do not open."""

    descriptor: RoundDescriptor
    digest: bytes
    held: dict[str, Held] = field(repr=False)
    spoiled: tuple[str, ...]
    self_mask: bytes = field(repr=False)
    pair_masks: PairKeys = field(repr=False)


def advertise(
    party: Party, session: Session, sequence: int, stream: Stream
) -> tuple[Prepared, Offer]:
    """Draw one session's secrets, deal their shares to the roster and sign the commitments.

    ``sequence`` is the number of the line that notes the session in this institution's ledger.

    Raises:
        OtherRosterError: the session is of another roster.
        ThresholdError, ColludersError: the terms are not safe for so many members.
        RevokedPeerError, UnknownPeerError: I am not in the roster.
    """
    roster, terms = party.roster, party.terms
    if session.roster_hash != roster.digest:
        raise OtherRosterError("the session is of another roster than the one approved")
    roster.member(party.name)
    terms.require(len(roster.names))
    mask_private, seal_private, seed = (stream(keys.KEY_SIZE) for _ in range(3))
    head = (
        keys.public_key(mask_private)
        + keys.public_key(seal_private)
        + seed_hash(seed, session, party.name)
    )
    points = range(1, len(roster.names) + 1)
    agreed = keys.agreement(seal_private)
    sealed = []
    for receiver, seed_share, key_share in zip(
        roster.names,
        shamir.split(seed, terms.threshold, points, stream),
        shamir.split(mask_private, terms.threshold, points, stream),
        strict=True,
    ):
        static = roster.members[receiver].agreement_public
        context = share_context(session, terms.threshold, (party.name, receiver), head + static)
        sealed.append(
            sealing.seal(sealing.openings(agreed(static), context), seed_share, key_share)
        )
    root = merkle.root(sealed)
    statement = advert_statement(session.digest(), party.name, head, root, sequence)
    advert = Advert(
        session_tag=session.tag,
        mask_public=head[:32],
        seal_public=head[32:64],
        seed_hash=head[64:],
        root=root,
        sequence=sequence,
        signature=keys.sign(party.identity.signing_private, keys.SIGNED_ADVERT, statement),
    )
    prepared = Prepared(session=session, advert=advert, mask_private=mask_private, seed=seed)
    return prepared, Offer(advert, tuple(sealed))


def accept(
    party: Party, prepared: Prepared, descriptor: RoundDescriptor, parcels: Mapping[str, Parcel]
) -> Accepted:
    """Check everything about a round before any work on it; ``parcels`` come from its cohort.

    A share that its dealer signed but that does not open is the dealer's fault, and no reason
    to stop: it is left out of what I can reveal.

    Raises:
        OtherRosterError, OtherSessionError: the descriptor is not of the prepared session.
        ThresholdError, ColludersError: about the terms.
        CohortWithoutMeError, UnknownPeerError, RevokedPeerError, TooFewParticipantsError: about
            the cohort.
        MissingShareError, OwnKeyAlteredError, OtherSessionError, BadSignatureError,
            DuplicatePeerError, BadKeyError: about the adverts.
        ShareAlteredError: a share is not the one its dealer signed for me.
    """
    prepared.session.require(descriptor)
    _require_cohort(party, descriptor)
    _require_adverts(party, prepared, descriptor, parcels)
    held, spoiled = {}, []
    agreed = keys.agreement(party.identity.agreement_private)
    static = party.roster.members[party.name].agreement_public
    for dealer in descriptor.cohort:
        parcel = parcels[dealer]
        parcel.require_dealt(party.roster, party.name)
        context = share_context(
            prepared.session,
            party.terms.threshold,
            (dealer, party.name),
            parcel.advert.head + static,
        )
        opened = sealing.openings(agreed(parcel.advert.seal_public), context)
        try:
            sealing.unseal_seed(parcel.sealed, opened.seed)
            sealing.unseal_key(parcel.sealed, opened.key)
        except ShareAlteredError:
            spoiled.append(dealer)
        else:
            held[dealer] = Held(seed=opened.seed, key=opened.key)
    digest = descriptor.digest()
    adverts = {name: parcel.advert for name, parcel in parcels.items()}
    return Accepted(
        descriptor,
        digest,
        held,
        tuple(spoiled),
        self_key(prepared.seed, digest),
        pair_keys(party.name, prepared.mask_private, descriptor.cohort, adverts, digest),
    )


def mask(accepted: Accepted, vector: RingVector) -> tuple[Masked, RingVector]:
    """Return ``(length + check slots,)`` ring values: the encoded vector and its checks, masked.

    Store the new stage before the vector leaves: two vectors under one stage bare their
    difference.

    Raises:
        ProtocolError: the vector is not of the descriptor's ring and length.
    """
    descriptor = accepted.descriptor
    require_vector(descriptor, vector)
    slots = check_slots(accepted.digest, descriptor.ring_bits)
    masked = np.empty(len(vector) + len(slots), np.uint32)
    masked[len(vector) :] = slots
    added = [accepted.self_mask, *accepted.pair_masks.added]
    subtracted = accepted.pair_masks.subtracted
    prg.apply(masked, descriptor.ring_bits, added, subtracted, source=vector)
    following = Masked(
        session=Session.of(descriptor),
        digest=accepted.digest,
        cohort=descriptor.cohort,
        held=accepted.held,
    )
    return following, masked


def sign_vector(party: Party, state: Masked, packed: bytes) -> bytes:
    """Sign the packed masked vector: altered on its way it would spoil the sum unnoticed."""
    statement = vector_statement(state.digest, packed)
    return keys.sign(party.identity.signing_private, keys.SIGNED_VECTOR, statement)


def require_vector_signature(
    roster: Roster, digest: bytes, name: str, packed: bytes, signature: bytes
) -> None:
    """Return if a member sent this vector; raise `BadSignatureError` otherwise."""
    key = roster.member(name).signing_public
    keys.verify(key, keys.SIGNED_VECTOR, vector_statement(digest, packed), signature)


def sign(party: Party, state: Masked, survivors: Collection[str]) -> tuple[Masked, bytes]:
    """Put my name to one survivor set, ever, of this epoch; 64 bytes.

    Store the new stage before the signature leaves.

    Raises:
        DuplicatePeerError, UnknownPeerError, NotASurvivorError, SurvivorSetTooSmallError: the
            set does not fit the cohort.
        SecondSurvivorsError: I signed another one.
    """
    alive = _require_survivors(party, state, survivors)
    statement = survivors_statement(state.digest, alive)
    signature = keys.sign(party.identity.signing_private, keys.SIGNED_SURVIVORS, statement)
    return state.model_copy(update={"signed": alive}), signature


def reveal(
    party: Party, state: Masked, survivors: Collection[str], signatures: Mapping[str, bytes]
) -> tuple[Revealed, Reveal]:
    """Open one share for each cohort member: of its seed if it survived, else of its mask key.

    Unless the whole cohort survived, at least the threshold of the survivors must have signed
    that very set. Store the new stage before the reveal leaves.

    Raises:
        DuplicatePeerError, UnknownPeerError, NotASurvivorError, SurvivorSetTooSmallError: the
            set does not fit the cohort.
        SecondSurvivorsError: I signed another one.
        UnknownPeerError, BadSignatureError, UnderSignedError: about the signatures.
    """
    alive = _require_survivors(party, state, survivors)
    if alive != state.cohort:
        _require_signed(party, state, alive, signatures)
    living = set(alive)
    opened = Reveal(
        survived=tuple(name in living for name in state.cohort),
        openings=tuple(
            (held.seed if name in living else held.key) if (held := state.held.get(name)) else None
            for name in state.cohort
        ),
    )
    return Revealed(session=state.session, digest=state.digest, survivors=alive), opened


def sign_reveal(party: Party, stage: Revealed, packed: bytes) -> bytes:
    """Sign the packed reveal: altered on its way it would make an honest revealer a culprit."""
    statement = reveal_statement(stage.digest, stage.survivors, packed)
    return keys.sign(party.identity.signing_private, keys.SIGNED_REVEAL, statement)


def require_reveal_signature(
    roster: Roster,
    digest: bytes,
    survivors: Collection[str],
    name: str,
    reply: tuple[bytes, bytes],
) -> None:
    """Return if a member sent this packed reveal and signature; raise `BadSignatureError` else."""
    packed, signature = reply
    statement = reveal_statement(digest, sorted(survivors), packed)
    keys.verify(roster.member(name).signing_public, keys.SIGNED_REVEAL, statement, signature)


def require_survivor_signature(
    roster: Roster, digest: bytes, survivors: Collection[str], name: str, signature: bytes
) -> None:
    """Return if a member signed this survivor set; raise `BadSignatureError` otherwise."""
    statement = survivors_statement(digest, sorted(survivors))
    keys.verify(roster.member(name).signing_public, keys.SIGNED_SURVIVORS, statement, signature)


def _require_cohort(party: Party, descriptor: RoundDescriptor) -> None:
    terms, cohort = party.terms, descriptor.cohort
    terms.require(len(party.roster.names))
    if descriptor.threshold != terms.threshold:
        raise ThresholdError(
            f"the descriptor's threshold is {descriptor.threshold},"
            f" shares were dealt with {terms.threshold}"
        )
    if party.name not in cohort:
        raise CohortWithoutMeError(f"the cohort leaves out {party.name!r}, which is asked to mask")
    for name in cohort:
        party.roster.member(name)
    if len(cohort) < terms.least:
        raise TooFewParticipantsError(
            f"a cohort of {len(cohort)} is below {terms.least}: repeat the round"
        )


def _require_adverts(
    party: Party, prepared: Prepared, descriptor: RoundDescriptor, parcels: Mapping[str, Parcel]
) -> None:
    cohort = set(descriptor.cohort)
    if unknown := sorted(parcels.keys() - cohort):
        raise UnknownPeerError(f"keys or shares of {unknown} came from outside the cohort")
    if missing := sorted(cohort - parcels.keys()):
        raise MissingShareError(f"no keys or shares came from {missing}: leave them out")
    if parcels[party.name].advert != prepared.advert:
        raise OwnKeyAlteredError(f"the advert of {party.name!r} came back altered")
    for name in sorted(cohort):
        parcels[name].advert.require(prepared.session, party.roster, name)
    public = [
        key
        for parcel in parcels.values()
        for key in (parcel.advert.mask_public, parcel.advert.seal_public)
    ]
    if len(set(public)) != len(public):
        raise DuplicatePeerError("one public key stands in two places among the adverts")


def _require_survivors(party: Party, state: Masked, survivors: Collection[str]) -> tuple[str, ...]:
    alive = tuple(sorted(set(survivors)))
    if len(alive) != len(survivors):
        raise DuplicatePeerError("a survivor is listed twice: list each once")
    if unknown := sorted(set(alive) - set(state.cohort)):
        raise UnknownPeerError(f"survivors {unknown} are not in the cohort that masked")
    if party.name not in alive:
        raise NotASurvivorError(f"{party.name!r} is asked to open a sum without its own vector")
    if len(alive) < party.terms.least:
        raise SurvivorSetTooSmallError(
            f"{len(alive)} survivors are below {party.terms.least}: repeat the round"
        )
    if state.signed and state.signed != alive:
        raise SecondSurvivorsError("another survivor set of this epoch was signed already")
    return alive


def _require_signed(
    party: Party, state: Masked, alive: tuple[str, ...], signatures: Mapping[str, bytes]
) -> None:
    if foreign := sorted(signatures.keys() - set(alive)):
        raise UnknownPeerError(f"signatures of {foreign} came from outside the survivors")
    for name, signature in signatures.items():
        try:
            require_survivor_signature(party.roster, state.digest, alive, name, signature)
        except BadSignatureError as error:
            raise BadSignatureError(f"{name!r} did not sign this survivor set") from error
    if len(signatures) < party.terms.threshold:
        raise UnderSignedError(
            f"{len(signatures)} signatures of the survivor set are below the threshold of"
            f" {party.terms.threshold}: collect more"
        )
