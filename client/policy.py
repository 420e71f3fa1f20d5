"""The institution's last word: what it checks before it works on a request.

Every refusal has a ``reason`` that tells the server what was wrong with the request and
nothing about the institution's records.
"""

import numpy as np
from numpy.typing import NDArray

from client.entries import Standing
from client.memory import Memory
from common.crypto.refusals import OtherRosterError
from common.descriptor import RoundDescriptor
from common.errors import PolicyError, ProtocolError
from common.layout import Layout
from common.plan import Plan
from common.pruning.masks import Mask
from common.segments import segments_of
from common.signals import SIGNAL_LIMIT, largest_signal


class RunChangedError(PolicyError):
    """A message of another run or plan than the one approved."""

    reason = "another run or plan"


class RoundReplayedError(PolicyError):
    """A round or epoch that is over, or whose sum may have been opened already."""

    reason = "round or epoch is over"


class TermsChangedError(PolicyError):
    """Abstract: something is not what the plan says."""

    reason = "terms differ from the plan"


class CohortChangedError(TermsChangedError):
    """The cohort leaves this institution out or names another outside the plan."""

    reason = "cohort differs from the plan"


class ThresholdChangedError(TermsChangedError):
    """The threshold is not the plan's, or the cohort is below it."""

    reason = "threshold differs from the plan"


class RingChangedError(TermsChangedError):
    """The ring is not the plan's."""

    reason = "ring differs from the plan"


class SegmentsChangedError(TermsChangedError):
    """A segment's name, length, scale or bound is not the one the plan derives."""

    reason = "segments differ from the plan"


class ModelChangedError(ProtocolError):
    """The model or mask that came is not the one the descriptor names."""

    reason = "model or mask is not the described one"


class ModelRefusedError(PolicyError):
    """A model whose signals would overflow for some records and not for others."""

    reason = "model is out of bounds"


class MaskRefusedError(PolicyError):
    """A mask that brings weights back or prunes more than the plan allows."""

    reason = "mask is not nested or prunes too far"


def require_run(memory: Memory, run: str) -> None:
    """Hold a session to the run it began with."""
    if memory.run not in ("", run):
        raise RunChangedError(f"run {run!r} is not the run {memory.run!r} of this session")


def require_epoch(standing: Standing, round_number: int, epoch: int, plan: Plan) -> None:
    """Let a new epoch of the current or a later round begin."""
    require_round(standing, round_number, plan)
    if epoch <= standing.epoch:
        raise RoundReplayedError(f"epoch {epoch} is in the past")


def require_round(standing: Standing, round_number: int, plan: Plan) -> None:
    """Let the current or a later round of this run be worked on, if it was not opened."""
    if not 0 <= round_number <= plan.training.rounds:
        raise RoundReplayedError(f"round {round_number} is not in the plan")
    if round_number < standing.round:
        raise RoundReplayedError(f"round {round_number} is in the past")
    # A second opening of a round, with one survivor less, would reveal that survivor.
    if round_number <= standing.opened:
        raise RoundReplayedError(f"round {round_number} may have been opened already")


def require_descriptor(
    descriptor: RoundDescriptor, plan: Plan, name: str, memory: Memory, mask: Mask
) -> None:
    """Let a round on ``mask`` [d] be trained: its terms are the plan's."""
    approved = (plan.digest(), memory.run or descriptor.run)
    if (descriptor.plan_hash, descriptor.run) != approved:
        raise RunChangedError("descriptor is of another run or plan than the approved one")
    if not set(descriptor.cohort) <= set(plan.names) or name not in descriptor.cohort:
        raise CohortChangedError("cohort leaves me out or names an institution outside the plan")
    if descriptor.threshold != plan.threshold or len(descriptor.cohort) < plan.threshold:
        raise ThresholdChangedError(
            f"threshold {descriptor.threshold} over {len(descriptor.cohort)} institutions is not"
            f" the plan's {plan.threshold}"
        )
    if descriptor.ring_bits != plan.aggregation.ring_bits:
        raise RingChangedError(f"ring of {descriptor.ring_bits} bits is not the plan's")
    if descriptor.segments != segments_of(plan, descriptor.round, int(mask.sum())):
        raise SegmentsChangedError("segments are not the ones the plan derives")


def require_roster(descriptor: RoundDescriptor, approved: str) -> None:
    """Let a round of the approved roster be trained."""
    if descriptor.roster_hash != approved:
        raise OtherRosterError("the descriptor is of another roster than the approved one")


def require_tame(layout: Layout, weights: NDArray[np.float32]) -> None:
    """Let flat weights [size] in that keep every signal finite, whatever the record."""
    if (signal := largest_signal(layout, weights)) > SIGNAL_LIMIT:
        raise ModelRefusedError(
            f"a signal of the model may reach {signal:.3g}, the limit is {SIGNAL_LIMIT:g}"
        )


def require_nested(mask: Mask, before: Mask, plan: Plan) -> None:
    """Let a mask [d] in: no weight comes back, none beyond the plan's sparsity goes."""
    if (mask & ~before).any():
        raise MaskRefusedError("mask brings pruned weights back")
    least = round(mask.size * (1 - plan.pruning.sparsity))
    if mask.sum() < least:
        raise MaskRefusedError(
            f"mask keeps {mask.sum()} weights, fewer than the {least} of the plan's sparsity"
        )
