"""An institution's answers: one function a trip, memory and request in, memory and reply out."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from client.data import Examples, Splits
from client.memory import Memory
from client.policy import (
    RoundReplayedError,
    TermsChangedError,
    require_descriptor,
    require_epoch,
    require_nested,
)
from client.training import LocalSteps, train
from common import messages as wire
from common.crypto import ring, secagg
from common.crypto.roster import roster_hash
from common.crypto.session import Advert, Session
from common.crypto.stages import Advertised, Masked, Shared
from common.descriptor import RoundDescriptor
from common.entropy import Entropy
from common.errors import ProtocolError
from common.histograms import histogram
from common.model import Network, layout_of
from common.plan import Plan
from common.privacy.budgets import learning_rate, training_mechanism
from common.pruning.masks import Mask, mask_hash, unpack_mask
from common.segments import TEST, UPDATE, VALIDATION


@dataclass(frozen=True)
class Institution:
    """A member: its name, the plan it approved, its prepared rows, its entropy."""

    name: str
    plan: Plan
    splits: Splits
    entropy: Entropy

    @cached_property
    def network(self) -> Network:
        """The model this institution trains, built once."""
        return Network(self.plan.model, self.plan.schema_.width)

    def local_steps(self) -> LocalSteps:
        """Return the public parameters of a round's training."""
        return LocalSteps(
            steps=self.plan.training.steps,
            sample_rate=self.plan.training.sample_rate,
            expected_batch=self.plan.expected_batch(self.name),
            learning_rate=learning_rate(self.plan),
            max_grad_norm=self.plan.privacy.max_grad_norm,
            noise_multiplier=training_mechanism(self.plan).noise_multiplier,
        )


def join(
    institution: Institution, memory: Memory, request: wire.JoinRequest
) -> tuple[Memory, wire.JoinReply]:
    """Say who this is and which plan it approved."""
    return memory, wire.JoinReply(institution.name, institution.plan.digest())


def advertise(
    institution: Institution, memory: Memory, request: wire.AdvertiseRequest
) -> tuple[Memory, wire.AdvertiseReply]:
    """Make fresh keys for an epoch."""
    plan = institution.plan
    require_epoch(memory, request.run, request.round, request.epoch, plan)
    session = Session(
        run=request.run,
        plan_hash=plan.digest(),
        roster_hash=roster_hash(plan.names),
        round=request.round,
        epoch=request.epoch,
    )
    stream = institution.entropy.stream(f"epoch-{request.epoch}/advertise")
    state, advert = secagg.advertise(institution.name, session, stream)
    memory = replace(
        memory, run=request.run, epoch=request.epoch, stage="advertised", secrets=state.to_bytes()
    )
    return memory, wire.AdvertiseReply(advert.to_bytes())


def share(
    institution: Institution, memory: Memory, request: wire.ShareRequest
) -> tuple[Memory, wire.ShareReply]:
    """Deal shares of this epoch's secrets to the cohort."""
    state = Advertised.from_bytes(_secrets(memory, "advertised"))
    adverts = _by_name(request.names, request.adverts)
    if not set(adverts) <= set(institution.plan.names):
        raise TermsChangedError("an advert comes from outside the plan")
    shared, sealed = secagg.share(
        state,
        {name: Advert.from_bytes(data) for name, data in adverts.items()},
        institution.plan.threshold,
        institution.entropy.stream(f"epoch-{memory.epoch}/share"),
    )
    memory = replace(memory, stage="shared", secrets=shared.to_bytes())
    return memory, wire.ShareReply(list(sealed), list(sealed.values()))


def update(
    institution: Institution, memory: Memory, request: wire.UpdateRequest
) -> tuple[Memory, wire.UpdateReply]:
    """Train, evaluate, encode and mask: the one vector of the round.

    A repeated round sends the stored vector again: no second training, no second release.
    """
    descriptor = RoundDescriptor.from_json(request.descriptor)
    plan = institution.plan
    require_epoch(
        replace(memory, epoch=-1), descriptor.run, descriptor.round, descriptor.epoch, plan
    )
    size = layout_of(plan.model, plan.schema_.width).size
    before = unpack_mask(memory.mask, size) if memory.mask else np.ones(size, np.bool_)
    mask = unpack_mask(request.mask, size) if request.mask else before
    require_nested(mask, before, plan)
    require_descriptor(descriptor, plan, institution.name, memory, mask)
    if (descriptor.mask_hash, descriptor.model_hash) != (
        mask_hash(mask),
        wire.model_hash(request.model),
    ):
        raise ProtocolError("model or mask is not the one the descriptor names")

    binding = _binding(descriptor)
    if descriptor.round == memory.round:
        if binding != memory.binding:
            raise RoundReplayedError("a repeated round shows another model, mask or segments")
        vector = ring.unpack(memory.vector, descriptor.ring_bits, descriptor.length)
    else:
        weights = wire.decode_weights(request.model, int(mask.sum()))
        vector = _compute(institution, descriptor, weights, mask)
        memory = replace(
            memory,
            run=descriptor.run,
            round=descriptor.round,
            mask=request.mask or memory.mask,
            vector=ring.pack(vector, descriptor.ring_bits),
            binding=binding,
        )
    if plan.aggregation.kind == "plain":
        memory = replace(memory, epoch=descriptor.epoch)
        return memory, wire.UpdateReply(ring.pack(vector, descriptor.ring_bits))
    shared = Shared.from_bytes(_secrets(memory, "shared"))
    state, masked = secagg.mask(shared, _by_name(request.names, request.sealed), descriptor, vector)
    memory = replace(memory, stage="masked", secrets=state.to_bytes())
    return memory, wire.UpdateReply(ring.pack(masked, descriptor.ring_bits))


def unmask(
    institution: Institution, memory: Memory, request: wire.UnmaskRequest
) -> tuple[Memory, wire.UnmaskReply]:
    """Open this institution's part of the sum over the survivors, once."""
    state = Masked.from_bytes(_secrets(memory, "masked"))
    _, reveal = secagg.reveal(state, request.survivors)
    memory = replace(memory, opened=memory.round, stage="", secrets=b"")
    return memory, wire.UnmaskReply(reveal.to_bytes())


def _compute(
    institution: Institution,
    descriptor: RoundDescriptor,
    kept: NDArray[np.float32],
    mask: Mask,
) -> NDArray[np.uint32]:
    """Return the encoded vector of a round from its model on surviving weights."""
    weights = np.zeros(mask.size, np.float32)
    weights[mask] = kept
    network, splits = institution.network, institution.splits
    stream = institution.entropy.stream(f"round-{descriptor.round}/train")
    values: dict[str, NDArray[np.float64]] = {}
    for segment in descriptor.segments:
        network.load(weights, mask)
        if segment.name == UPDATE:
            update = train(network, splits.train, institution.local_steps(), stream)
            weight = institution.plan.weight(institution.name)
            values[UPDATE] = weight * update[mask].astype(np.float64)
        else:
            examples = {VALIDATION: splits.validation, TEST: splits.test}[segment.name]
            values[segment.name] = _counts(network, examples, institution.plan.evaluation.bins)
    rounding = institution.entropy.stream(f"round-{descriptor.round}/encode")
    return ring.encode_vector(descriptor, values, rounding)


def _counts(network: Network, examples: Examples, bins: int) -> NDArray[np.float64]:
    with torch.no_grad():
        logits = network(torch.from_numpy(examples.features)).numpy()
    return histogram(logits, examples.labels, bins)


def _binding(descriptor: RoundDescriptor) -> str:
    """Hash what a vector is computed from: everything but the epoch and its cohort."""
    bare = replace(descriptor, epoch=0, cohort=())
    return hashlib.sha256(bare.to_json().encode()).hexdigest()


def _secrets(memory: Memory, stage: str) -> bytes:
    if memory.stage != stage:
        raise ProtocolError(f"request needs stage {stage!r}, the institution is elsewhere")
    return memory.secrets


def _by_name(names: list[str], values: list[bytes]) -> dict[str, bytes]:
    if len(names) != len(values) or len(set(names)) != len(names):
        raise ProtocolError("names and values do not pair up one to one")
    return dict(zip(names, values, strict=True))
