"""The institution's last word: what it checks before it works on a request.

Every refusal has a ``reason`` that tells the server what was wrong with the request and
nothing about the institution's records.
"""

from client.memory import Memory
from common.crypto.roster import roster_hash
from common.descriptor import RoundDescriptor
from common.errors import PolicyError
from common.plan import Plan
from common.pruning.masks import Mask
from common.segments import segments_of


class RunChangedError(PolicyError):
    """A message of another run, plan or roster than the one approved."""

    reason = "another run, plan or roster"


class RoundReplayedError(PolicyError):
    """A round or epoch that is over, or whose sum may have been opened already."""

    reason = "round or epoch is over"


class TermsChangedError(PolicyError):
    """Cohort, threshold, ring or segments are not what the plan says."""

    reason = "terms differ from the plan"


class MaskRefusedError(PolicyError):
    """A mask that brings weights back or prunes more than the plan allows."""

    reason = "mask is not nested or prunes too far"


def require_epoch(memory: Memory, run: str, round_number: int, epoch: int, plan: Plan) -> None:
    """Let a new epoch of the current or a later round begin."""
    if memory.run not in ("", run):
        raise RunChangedError(f"run {run!r} is not the run {memory.run!r} of this session")
    if not 0 <= round_number <= plan.training.rounds:
        raise RoundReplayedError(f"round {round_number} is not in the plan")
    if round_number < memory.round or epoch <= memory.epoch:
        raise RoundReplayedError(f"round {round_number}, epoch {epoch} is in the past")
    # A second opening of a round, with one survivor less, would reveal that survivor.
    if round_number <= memory.opened:
        raise RoundReplayedError(f"round {round_number} may have been opened already")


def require_descriptor(
    descriptor: RoundDescriptor, plan: Plan, name: str, memory: Memory, mask: Mask
) -> None:
    """Let a round be trained: its terms are the plan's and its mask is nested.

    ``mask`` is the mask [d] of this round; ``memory.mask`` is unpacked by the caller's stage.
    """
    approved = (plan.digest(), roster_hash(plan.names), memory.run or descriptor.run)
    if (descriptor.plan_hash, descriptor.roster_hash, descriptor.run) != approved:
        raise RunChangedError("descriptor is of another run, plan or roster than the approved one")
    if not set(descriptor.cohort) <= set(plan.names) or name not in descriptor.cohort:
        raise TermsChangedError("cohort leaves me out or names an institution outside the plan")
    if descriptor.threshold != plan.threshold or len(descriptor.cohort) < plan.threshold:
        raise TermsChangedError(
            f"threshold {descriptor.threshold} over {len(descriptor.cohort)} institutions is not"
            f" the plan's {plan.threshold}"
        )
    if descriptor.ring_bits != plan.aggregation.ring_bits:
        raise TermsChangedError(f"ring of {descriptor.ring_bits} bits is not the plan's")
    if descriptor.segments != segments_of(plan, descriptor.round, int(mask.sum())):
        raise TermsChangedError("segments are not the ones the plan derives")


def require_nested(mask: Mask, before: Mask, plan: Plan) -> None:
    """Let a mask [d] in: no weight comes back, none beyond the plan's sparsity goes."""
    if (mask & ~before).any():
        raise MaskRefusedError("mask brings pruned weights back")
    least = round(mask.size * (1 - plan.pruning.sparsity))
    if mask.sum() < least:
        raise MaskRefusedError(
            f"mask keeps {mask.sum()} weights, fewer than the {least} of the plan's sparsity"
        )
