"""One attempt at a round's sum: the trips of secure aggregation, or of its plain stand-in."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from common import messages as wire
from common.crypto import opening, ring, secagg
from common.crypto.opening import SpoiledOpeningError
from common.crypto.roster import Roster, roster_hash
from common.crypto.session import Offer, Parcel, Reveal, Session
from common.descriptor import RoundDescriptor
from common.errors import AggregationError, ProtocolError, TooFewSurvivorsError
from common.plan import Plan
from common.pruning.masks import mask_hash, pack_mask
from common.segments import segments_of
from server.exchange import Caller
from server.model import GlobalModel

log = logging.getLogger("fedprune.server")

T = TypeVar("T")
Sums = dict[str, NDArray[np.float64]]
Vectors = dict[str, NDArray[np.uint32]]

Step = Literal["tried", "opening"]
"""What is noted before an attempt goes on: it asks for anything, or for its sum to be opened."""

Note = Callable[[Step, GlobalModel], None]
"""Makes a step of an attempt at ``model.round`` in ``model.epoch`` outlast the process."""


def unnoted(step: Step, model: GlobalModel) -> None:
    """Note nothing: the run ends with its process."""


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Leave an institution out, by name in the log, when its reply breaks the protocol."""
    try:
        yield
    except ProtocolError as error:
        log.warning("%s left out: %s", name, error)


class Attempt:
    """One epoch of a round.

    A steady round takes two trips: vectors, with the keys of the next round, and openings. Whoever
    sent no keys ahead is asked for them first; when a vector is missing, the survivors sign who
    they are before they open anything.

    ``holders`` are those whose last vector proved that they hold the mask, ``offers`` the keys
    that came ahead, ``culprits`` those who spoiled an opening. Once ``asked_to_open`` is true no
    institution takes part in the round again.
    """

    def __init__(
        self, model: GlobalModel, plan: Plan, run: str, exchange: Caller, note: Note = unnoted
    ) -> None:
        """Prepare the attempt at ``model.round`` in ``model.epoch``."""
        self._note = note
        self._model, self._plan, self._run = model, plan, run
        self._exchange = exchange
        self._group = f"{model.round}/{model.epoch}"
        self._mask_hash = mask_hash(model.mask)
        self._weights = wire.encode_weights(model.weights[model.mask])
        self.holders = dict(model.holders)
        self.offers: dict[str, Offer] = {}
        self.culprits: frozenset[str] = frozenset()
        self.asked_to_open = False

    def run(self) -> tuple[tuple[str, ...], Sums]:
        """Return the survivors and the decoded sum of each segment.

        Raises:
            TooFewSurvivorsError: a trip leaves fewer institutions than the threshold.
            AggregationError: the sum could not be opened, or its checks failed.
        """
        self._note("tried", self._model)
        if self._plan.aggregation.kind == "plain":
            return self._plain()
        offers = self._offers()
        descriptor = self._descriptor(tuple(sorted(offers)), self._roster.digest)
        masked = self._update(descriptor, opening.parcels(offers, self._roster, descriptor.cohort))
        signatures = {}
        if len(masked) < len(descriptor.cohort):
            signatures = self._sign(descriptor, masked)
        # Before anybody is asked: once one was, no other sum of the round may be opened.
        self._note("opening", self._model)
        self.asked_to_open = True
        reveals = self._unmask(descriptor, masked, signatures)
        try:
            opened = opening.unmask(descriptor, self._roster, offers, masked, reveals)
        except SpoiledOpeningError as error:
            self.culprits = frozenset(error.culprits)
            raise
        self.culprits = frozenset(opened.culprits)
        if opened.culprits:
            log.warning("left out of the opening: %s", ", ".join(opened.culprits))
        return tuple(sorted(masked)), ring.decode_vector(descriptor, opened.total, len(masked))

    @property
    def _roster(self) -> Roster:
        if self._exchange.roster is None:
            raise AggregationError("secure aggregation needs the members' keys: give a roster")
        return self._exchange.roster

    def _plain(self) -> tuple[tuple[str, ...], Sums]:
        descriptor = self._descriptor(self._plan.names, roster_hash(self._plan.names))
        vectors = self._update(descriptor, {name: {} for name in descriptor.cohort})
        total = np.zeros(descriptor.length, np.uint32)
        for vector in vectors.values():
            total += vector
        total &= np.uint32(2**descriptor.ring_bits - 1)
        return tuple(sorted(vectors)), ring.decode_vector(descriptor, total, len(vectors))

    def _descriptor(self, cohort: tuple[str, ...], roster: str) -> RoundDescriptor:
        plan, model = self._plan, self._model
        return RoundDescriptor(
            run=self._run,
            plan_hash=plan.digest(),
            roster_hash=roster,
            round=model.round,
            epoch=model.epoch,
            cohort=cohort,
            threshold=plan.threshold,
            ring_bits=plan.aggregation.ring_bits,
            model_hash=wire.model_hash(self._weights),
            mask_hash=self._mask_hash,
            segments=segments_of(plan, model.round, model.kept),
        )

    def _offers(self) -> dict[str, Offer]:
        """Return everybody's keys for this epoch, asking those who sent none ahead."""
        session = Session(
            run=self._run,
            plan_hash=self._plan.digest(),
            roster_hash=self._roster.digest,
            round=self._model.round,
            epoch=self._model.epoch,
        )
        members = set(self._roster.names) - self._model.culprits
        offers = {
            name: offer
            for name, offer in self._model.offers.items()
            if name in members and offer.advert.session_tag == session.tag
        }
        # With its keys, an institution says itself that somebody was added or revoked.
        roster = self._roster.to_bytes()
        known = self._exchange.adverts.of(self._roster)
        missing = {
            name: wire.AdvertiseRequest(
                self._run, session.round, session.epoch, roster, known.get(name, b"")
            )
            for name in sorted(members - offers.keys())
        }
        replies = self._exchange.call(missing, wire.AdvertiseReply, self._group) if missing else {}
        fresh = {}
        for name, reply in replies.items():
            with _blaming(name):
                fresh[name] = self._offer(reply, session, name)
        self._exchange.adverts.keep(self._roster, session, fresh)
        offers |= fresh
        if alike := opening.sharing(offers):
            log.warning("left out of this epoch, for they share a key: %s", ", ".join(alike))
        unlike = {name: offer for name, offer in offers.items() if name not in alike}
        return self._enough(unlike, "advertised keys")

    def _offer(
        self, reply: wire.AdvertiseReply | wire.UpdateReply, session: Session, name: str
    ) -> Offer:
        offer = Offer.from_bytes(reply.advert, reply.sealed, len(self._roster.names))
        opening.require_offer(offer, session, self._roster, name)
        return offer

    def _update(
        self, descriptor: RoundDescriptor, parcels: Mapping[str, Mapping[str, Parcel]]
    ) -> Vectors:
        packed = pack_mask(self._model.mask)
        text = descriptor.to_json()
        # Who stays silent may have restarted without its mask, so it is sent again.
        holders, self.holders = self.holders, {}
        replies = self._exchange.call(
            {
                name: wire.UpdateRequest(
                    descriptor=text,
                    model=self._weights,
                    mask=b"" if holders.get(name) == self._mask_hash else packed,
                    adverts=[parcel.advert.to_bytes() for parcel in inbox.values()],
                    sealed=[parcel.sealed for parcel in inbox.values()],
                    paths=[parcel.path for parcel in inbox.values()],
                )
                for name, inbox in parcels.items()
            },
            wire.UpdateReply,
            self._group,
        )
        secure = self._plan.aggregation.kind == "secure"
        digest = descriptor.digest()
        slots = len(ring.check_slots(digest, descriptor.ring_bits)) if secure else 0
        following = Session.of(descriptor).following()
        vectors = {}
        for name, reply in replies.items():
            with _blaming(name):
                if secure:
                    secagg.require_vector_signature(
                        self._roster, digest, name, reply.vector, reply.signature
                    )
                vectors[name] = ring.unpack(
                    reply.vector, descriptor.ring_bits, descriptor.length + slots
                )
                self.holders[name] = self._mask_hash
            if secure and descriptor.round < self._plan.training.rounds:
                with _blaming(name):
                    self.offers[name] = self._offer(reply, following, name)
        if secure:
            self._exchange.adverts.keep(self._roster, following, self.offers)
        return self._enough(vectors, "sent a vector")

    def _sign(self, descriptor: RoundDescriptor, masked: Vectors) -> dict[str, bytes]:
        digest, survivors = descriptor.digest(), sorted(masked)
        request = wire.SignRequest(digest, survivors)
        replies = self._exchange.call(dict.fromkeys(masked, request), wire.SignReply, self._group)
        signatures = {}
        for name, reply in replies.items():
            with _blaming(name):
                secagg.require_survivor_signature(
                    self._roster, digest, survivors, name, reply.signature
                )
                signatures[name] = reply.signature
        enough = self._enough(signatures, "signed the survivors")
        return {name: enough[name] for name in sorted(enough)[: descriptor.threshold]}

    def _unmask(
        self, descriptor: RoundDescriptor, masked: Vectors, signatures: dict[str, bytes]
    ) -> dict[str, Reveal]:
        request = wire.UnmaskRequest(
            descriptor.digest(), sorted(masked), list(signatures), list(signatures.values())
        )
        replies = self._exchange.call(dict.fromkeys(masked, request), wire.UnmaskReply, self._group)
        reveals = {}
        for name, reply in replies.items():
            with _blaming(name):
                secagg.require_reveal_signature(
                    self._roster, request.digest, masked, name, (reply.reveal, reply.signature)
                )
                reveals[name] = Reveal.from_bytes(reply.reveal)
        return reveals

    def _enough(self, answers: dict[str, T], did: str) -> dict[str, T]:
        if len(answers) < (least := self._plan.least):
            raise TooFewSurvivorsError(f"{len(answers)} institutions {did}, {least} are needed")
        return answers
