"""The trip that trains: an institution's one vector of a round, or the stored one again."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from client.counting import released_counts
from client.entries import Place
from client.memory import Memory
from client.policy import (
    ModelChangedError,
    RetrainingError,
    require_approved,
    require_descriptor,
    require_mask,
    require_round,
    require_tame,
)
from client.spending import budget_of, charges_of
from client.stages import Institution, prepare
from client.trail import note_charges, note_contribution
from client.training import DEVICE, LocalSteps, SharedStep, release, train
from common import messages as wire
from common.crypto import ring, secagg
from common.crypto.refusals import MissingShareError
from common.crypto.secagg import Accepted
from common.crypto.session import Advert, LastAdvert, Parcel, Session
from common.crypto.stages import State
from common.descriptor import RoundDescriptor
from common.model import Network, layout_of
from common.plan import Plan
from common.privacy.budgets import learning_rate, training_mechanism
from common.privacy.shared import largest_sum, shared_grid
from common.pruning.masks import Mask, mask_hash, pack_mask, unpack_mask
from common.pruning.rules import proximal_of
from common.segments import COUNTS, GRADIENT, MAGNITUDES, UPDATE, VALIDATION

Compute = Callable[[Institution, RoundDescriptor, NDArray[np.float32], Mask], NDArray[np.uint32]]
"""From the flat weights and mask [size] to the encoded vector of a round."""


def update(
    institution: Institution,
    memory: Memory,
    request: wire.UpdateRequest,
    compute: Compute | None = None,
) -> tuple[Memory, wire.UpdateReply]:
    """Train, evaluate, encode and mask: the one vector of the round.

    Everything is checked before any work. A repeated round sends the stored vector again: no
    second training, no second release. ``compute`` stands in for the training in rehearsals.
    """
    institution.require_consent()
    descriptor = RoundDescriptor.from_json(request.descriptor)
    plan = institution.plan
    layout = layout_of(plan.model, plan.schema_.width)
    size = layout.size
    standing = institution.standing(descriptor.run)
    before = unpack_mask(standing.mask, size) if standing.mask else np.ones(size, np.bool_)
    mask = unpack_mask(request.mask, size) if request.mask else before
    require_approved(descriptor, plan, memory, institution.roster_hash)
    # First of all that is checked against the ledger: an old one would answer wrongly.
    _require_current(institution, descriptor, request)
    require_round(standing, descriptor.round, plan)
    require_mask(mask, before, plan)
    require_descriptor(descriptor, plan, institution.name, mask)
    if (descriptor.mask_hash, descriptor.model_hash) != (
        mask_hash(mask),
        wire.model_hash(request.model),
    ):
        raise ModelChangedError("model or mask is not the one the descriptor names")
    binding = _binding(descriptor)
    if descriptor.round == standing.round and binding != standing.binding:
        raise RetrainingError("a repeated round shows another model, mask or segments")
    accepted = (
        None
        if plan.aggregation.kind == "plain"
        else _accept(institution, memory, descriptor, request)
    )

    if descriptor.round == standing.round:
        vector = ring.unpack(standing.vector, descriptor.ring_bits, descriptor.length)
    else:
        weights = np.zeros(size, np.float32)
        weights[mask] = wire.decode_weights(request.model, int(mask.sum()))
        require_tame(layout, weights)
        place = Place(descriptor.run, plan.digest(), descriptor.round, descriptor.epoch)
        charges = charges_of(plan, descriptor.segments)
        institution.ledger.charge(place, charges, budget_of(plan), institution.now)
        note_charges(institution, place, charges)
        vector = (compute or _compute)(institution, descriptor, weights, mask)
        packed = ring.pack(vector, descriptor.ring_bits)
        institution.ledger.store(place, binding, pack_mask(mask), packed, institution.now)
    note_contribution(
        institution, descriptor, request.head, again=descriptor.round == standing.round
    )
    memory = replace(memory, run=descriptor.run)
    if accepted is None:
        packed = ring.pack(vector, descriptor.ring_bits)
        return memory, wire.UpdateReply(packed, b"", b"", b"", institution.trail.head)
    return _masked(institution, memory, accepted, vector)


def _require_current(
    institution: Institution, descriptor: RoundDescriptor, request: wire.UpdateRequest
) -> None:
    """Hold the ledger to the own advert that comes back; `secagg.accept` insists that one does."""
    for name, advert in zip(descriptor.cohort, request.adverts, strict=False):
        if name == institution.name:
            session = Session.of(descriptor).digest()
            institution.require_current(LastAdvert(session, Advert.from_bytes(advert)))


def _accept(
    institution: Institution,
    memory: Memory,
    descriptor: RoundDescriptor,
    request: wire.UpdateRequest,
) -> Accepted:
    prepared = State.from_bytes(memory.secrets).prepared_for(descriptor)
    parts = (request.adverts, request.sealed, request.paths)
    if {len(part) for part in parts} != {len(descriptor.cohort)}:
        raise MissingShareError("keys or shares of the cohort are missing, or there are too many")
    parcels = {
        name: Parcel(Advert.from_bytes(advert), sealed, path)
        for name, advert, sealed, path in zip(descriptor.cohort, *parts, strict=True)
    }
    return secagg.accept(institution.party, prepared, descriptor, parcels)


def _masked(
    institution: Institution, memory: Memory, accepted: Accepted, vector: NDArray[np.uint32]
) -> tuple[Memory, wire.UpdateReply]:
    """Mask the vector, and prepare the round that follows if there is one."""
    party = institution.party
    masked, values = secagg.mask(accepted, vector)
    institution.mark("masked", masked.session)
    session, prepared, offered = masked.session.following(), None, (b"", b"")
    if session.round <= institution.plan.training.rounds:
        prepared, offer = prepare(institution, party, session)
        offered = offer.to_bytes()
    state = State(prepared=prepared, current=masked)
    packed = ring.pack(values, accepted.descriptor.ring_bits)
    signature = secagg.sign_vector(party, masked, packed)
    reply = wire.UpdateReply(packed, signature, *offered, institution.trail.head)
    return replace(memory, secrets=state.to_bytes()), reply


def _compute(
    institution: Institution,
    descriptor: RoundDescriptor,
    weights: NDArray[np.float32],
    mask: Mask,
) -> NDArray[np.uint32]:
    """Return the encoded vector of a round from its flat weights and mask [size]."""
    plan, splits = institution.plan, institution.splits
    splits.require_units(plan.customer_cap)
    network = Network(plan.model, plan.schema_.width, DEVICE)
    stream = institution.entropy.stream(f"round-{descriptor.round}/train")
    values: dict[str, NDArray[np.float64]] = {}
    for segment in descriptor.segments:
        if segment.name in values:
            continue  # Counts of groups and pools come with those of all rows.
        network.load(weights, mask)
        if segment.name == UPDATE:
            update = train(network, splits.train, local_steps(plan, institution.name), stream)
            weight = plan.weight(institution.name)
            values[UPDATE] = weight * update[mask].astype(np.float64)
        elif segment.name == MAGNITUDES:
            # Of what is released, so they cost no privacy.
            own = np.abs(weights[mask] + values[UPDATE] / plan.weight(institution.name))
            values[MAGNITUDES] = plan.weight(institution.name) * own
        elif segment.name == GRADIENT:
            levels = release(network, splits.train, shared_step(plan), stream)
            values[GRADIENT] = levels.astype(np.float64)
        elif segment.name in COUNTS:
            examples = splits.validation if segment.name == VALIDATION else splits.test
            with torch.no_grad():
                logits = network(torch.from_numpy(examples.features).to(DEVICE)).cpu().numpy()
            values |= released_counts(
                plan,
                institution.name,
                segment.name,
                (examples, logits),
                lambda name: institution.entropy.stream(f"round-{descriptor.round}/{name}"),
            )
    rounding = institution.entropy.stream(f"round-{descriptor.round}/encode")
    return ring.encode_vector(descriptor, values, rounding)


def _binding(descriptor: RoundDescriptor) -> str:
    """Hash what a vector is computed from: everything but the epoch and who is in it."""
    bare = replace(descriptor, epoch=0, cohort=(), roster_hash="")
    return hashlib.sha256(bare.to_json().encode()).hexdigest()


def local_steps(plan: Plan, name: str) -> LocalSteps:
    """Return the local training that a plan asks of an institution each round."""
    return LocalSteps(
        steps=plan.training.steps,
        sample_rate=plan.training.sample_rate,
        expected_batch=plan.expected_batch(name),
        learning_rate=learning_rate(plan),
        max_grad_norm=plan.privacy.max_grad_norm,
        noise_multiplier=training_mechanism(plan).noise_multiplier,
        proximal=proximal_of(plan, learning_rate(plan)),
        rows=plan.rows_per_unit,
    )


def shared_step(plan: Plan) -> SharedStep:
    """Return the one step of a round that a plan with shared noise asks of an institution."""
    return SharedStep(
        sample_rate=plan.training.sample_rate,
        row_norm=plan.row_norm,
        bound=largest_sum(plan),
        grid=shared_grid(plan),
    )
