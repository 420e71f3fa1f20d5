"""The trip that trains: an institution's one vector of a round, or the stored one again."""

import hashlib
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from client.data import Examples
from client.memory import Memory
from client.policy import RoundReplayedError, require_descriptor, require_epoch, require_nested
from client.stages import Institution, by_name
from client.training import LocalSteps, train
from common import messages as wire
from common.crypto import ring, secagg
from common.crypto.stages import Shared
from common.descriptor import RoundDescriptor
from common.errors import ProtocolError
from common.histograms import histogram
from common.model import Network, layout_of
from common.privacy.budgets import learning_rate, training_mechanism
from common.pruning.masks import Mask, mask_hash, unpack_mask
from common.segments import TEST, UPDATE, VALIDATION


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
    shared = Shared.from_bytes(memory.secrets)
    state, masked = secagg.mask(shared, by_name(request.names, request.sealed), descriptor, vector)
    memory = replace(memory, secrets=state.to_bytes())
    return memory, wire.UpdateReply(ring.pack(masked, descriptor.ring_bits))


def _compute(
    institution: Institution,
    descriptor: RoundDescriptor,
    kept: NDArray[np.float32],
    mask: Mask,
) -> NDArray[np.uint32]:
    """Return the encoded vector of a round from its model on surviving weights."""
    weights = np.zeros(mask.size, np.float32)
    weights[mask] = kept
    plan, splits = institution.plan, institution.splits
    network = Network(plan.model, plan.schema_.width)
    stream = institution.entropy.stream(f"round-{descriptor.round}/train")
    values: dict[str, NDArray[np.float64]] = {}
    for segment in descriptor.segments:
        network.load(weights, mask)
        if segment.name == UPDATE:
            update = train(network, splits.train, _local_steps(institution), stream)
            weight = plan.weight(institution.name)
            values[UPDATE] = weight * update[mask].astype(np.float64)
        else:
            examples = {VALIDATION: splits.validation, TEST: splits.test}[segment.name]
            values[segment.name] = _counts(network, examples, plan.evaluation.bins)
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


def _local_steps(institution: Institution) -> LocalSteps:
    plan = institution.plan
    return LocalSteps(
        steps=plan.training.steps,
        sample_rate=plan.training.sample_rate,
        expected_batch=plan.expected_batch(institution.name),
        learning_rate=learning_rate(plan),
        max_grad_norm=plan.privacy.max_grad_norm,
        noise_multiplier=training_mechanism(plan).noise_multiplier,
    )
