"""One attempt at a round's sum: the trips of secure aggregation, or of its plain stand-in."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from common import messages as wire
from common.crypto import opening, ring
from common.crypto.roster import roster_hash
from common.crypto.session import Advert, Reveal
from common.descriptor import RoundDescriptor
from common.errors import ProtocolError, TooFewSurvivorsError
from common.plan import Plan
from common.pruning.masks import Mask, mask_hash, pack_mask
from common.segments import segments_of
from server.exchange import Exchange

log = logging.getLogger("fedprune.server")

T = TypeVar("T")
Sums = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class GlobalModel:
    """The server's state between rounds: flat weights and mask [size], next round and epoch.

    ``holders`` maps each institution to the hash of the mask it is known to hold.
    """

    weights: NDArray[np.float32]
    mask: Mask
    round: int = 0
    epoch: int = 0
    holders: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Number of surviving weights."""
        return int(self.mask.sum())


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Leave an institution out, by name in the log, when its reply breaks the protocol."""
    try:
        yield
    except ProtocolError as error:
        log.warning("%s left out: %s", name, error)


class Attempt:
    """One epoch of a round; ``holders`` are those whose last vector proved that they hold the mask.

    It takes four trips (keys, shares, vectors, openings); adverts are not signed yet.
    """

    def __init__(self, model: GlobalModel, plan: Plan, run: str, exchange: Exchange) -> None:
        """Prepare the attempt at ``model.round`` in ``model.epoch``."""
        self._model, self._plan, self._run = model, plan, run
        self._exchange = exchange
        self._group = f"{model.round}/{model.epoch}"
        self._mask_hash = mask_hash(model.mask)
        self._weights = wire.encode_weights(model.weights[model.mask])
        self.holders = dict(model.holders)

    def run(self) -> tuple[tuple[str, ...], Sums]:
        """Return the survivors and the decoded sum of each segment.

        Raises `TooFewSurvivorsError` when a trip leaves fewer institutions than the threshold.
        """
        if self._plan.aggregation.kind == "plain":
            return self._plain()
        adverts = self._advertise()
        shares = self._share(adverts)
        cohort = tuple(sorted(shares))
        descriptor = self._descriptor(cohort)
        sealed = {
            name: {peer: shares[peer][name] for peer in cohort if peer != name} for name in cohort
        }
        masked = self._update(descriptor, sealed)
        reveals = self._unmask(masked)
        summed = opening.unmask(descriptor, adverts, masked, reveals)
        return tuple(sorted(masked)), ring.decode_vector(descriptor, summed, len(masked))

    def _plain(self) -> tuple[tuple[str, ...], Sums]:
        descriptor = self._descriptor(self._plan.names)
        vectors = self._update(descriptor, {name: {} for name in descriptor.cohort})
        total = np.zeros(descriptor.length, np.uint32)
        for vector in vectors.values():
            total += vector
        total &= np.uint32(2**descriptor.ring_bits - 1)
        return tuple(sorted(vectors)), ring.decode_vector(descriptor, total, len(vectors))

    def _descriptor(self, cohort: tuple[str, ...]) -> RoundDescriptor:
        plan, model = self._plan, self._model
        return RoundDescriptor(
            run=self._run,
            plan_hash=plan.digest(),
            roster_hash=roster_hash(plan.names),
            round=model.round,
            epoch=model.epoch,
            cohort=cohort,
            threshold=plan.threshold,
            ring_bits=plan.aggregation.ring_bits,
            model_hash=wire.model_hash(self._weights),
            mask_hash=self._mask_hash,
            segments=segments_of(plan, model.round, int(model.mask.sum())),
        )

    def _advertise(self) -> dict[str, Advert]:
        request = wire.AdvertiseRequest(self._run, self._model.round, self._model.epoch)
        replies = self._exchange.call(
            dict.fromkeys(self._plan.names, request), wire.AdvertiseReply, self._group
        )
        adverts = {}
        for name, reply in replies.items():
            with _blaming(name):
                adverts[name] = Advert.from_bytes(reply.advert)
        return self._enough(adverts, "advertised keys")

    def _share(self, adverts: dict[str, Advert]) -> dict[str, dict[str, bytes]]:
        names = sorted(adverts)
        request = wire.ShareRequest(names, [adverts[name].to_bytes() for name in names])
        replies = self._exchange.call(dict.fromkeys(names, request), wire.ShareReply, self._group)
        shares = {
            name: dict(zip(reply.names, reply.sealed, strict=True))
            for name, reply in replies.items()
            if sorted(reply.names) == [peer for peer in names if peer != name]
            and len(reply.sealed) == len(reply.names)
        }
        return self._enough(shares, "dealt shares")

    def _update(
        self, descriptor: RoundDescriptor, sealed: dict[str, dict[str, bytes]]
    ) -> dict[str, NDArray[np.uint32]]:
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
                    names=list(inbox),
                    sealed=list(inbox.values()),
                )
                for name, inbox in sealed.items()
            },
            wire.UpdateReply,
            self._group,
        )
        vectors = {}
        for name, reply in replies.items():
            with _blaming(name):
                vectors[name] = ring.unpack(reply.vector, descriptor.ring_bits, descriptor.length)
                self.holders[name] = self._mask_hash
        return self._enough(vectors, "sent a vector")

    def _unmask(self, masked: dict[str, NDArray[np.uint32]]) -> dict[str, Reveal]:
        request = wire.UnmaskRequest(sorted(masked))
        replies = self._exchange.call(dict.fromkeys(masked, request), wire.UnmaskReply, self._group)
        reveals = {}
        for name, reply in replies.items():
            with _blaming(name):
                reveals[name] = Reveal.from_bytes(reply.reveal)
        return self._enough(reveals, "opened their shares")

    def _enough(self, answers: dict[str, T], did: str) -> dict[str, T]:
        if len(answers) < self._plan.threshold:
            raise TooFewSurvivorsError(
                f"{len(answers)} institutions {did}, the threshold is {self._plan.threshold}"
            )
        return answers
