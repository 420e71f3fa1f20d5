"""The institution's last word: what it checks before it works on a request.

Every refusal has a ``reason`` that tells the server what was wrong with the request and
nothing about the institution's records.
"""

import numpy as np
from numpy.typing import NDArray

from client.entries import Standing
from client.memory import Memory
from common.crypto.refusals import (
    CohortWithoutMeError,
    OtherRosterError,
    TooFewParticipantsError,
)
from common.descriptor import RoundDescriptor
from common.errors import PolicyError, ProtocolError
from common.layout import Layout
from common.plan import Plan
from common.pruning.masks import Mask
from common.pruning.rules import fault_of
from common.segments import segments_of
from common.signals import SIGNAL_LIMIT, largest_signal


class RunChangedError(PolicyError):
    """A message of another run or plan than the one approved."""

    reason = "another run or plan"


class RoundOutsidePlanError(PolicyError):
    """A round that the plan does not have."""

    reason = "round is not in the plan"


class RoundReplayedError(PolicyError):
    """A round before the last one this institution computed."""

    reason = "round is over"


class RoundOpenedError(PolicyError):
    """A round whose sum may have been opened: with one survivor less, another would show it."""

    reason = "round was opened"


class RoundChargedError(PolicyError):
    """A round that was charged and whose vector is lost: computing it again is a release more."""

    reason = "round was charged"


class RetrainingError(PolicyError):
    """A repeated round with another model, mask or segments: a second release of the records."""

    reason = "repeated round differs"


class EpochReplayedError(PolicyError):
    """An epoch whose keys went out before."""

    reason = "epoch is over"


class EpochSkippedError(PolicyError):
    """An epoch so far ahead that the plan's counter, which never goes back, could run out."""

    reason = "epoch is too far ahead"


class SignedTwiceError(PolicyError):
    """A survivor set of an epoch in which this institution has signed one before."""

    reason = "survivors were signed"


class TermsChangedError(PolicyError):
    """Abstract: something is not what the plan says."""

    reason = "terms differ from the plan"


class CohortChangedError(TermsChangedError):
    """The cohort names an institution outside the plan."""

    reason = "cohort differs from the plan"


class ThresholdChangedError(TermsChangedError):
    """The threshold is not the plan's."""

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
    """A mask that brings weights back, prunes more than the plan allows, or what it protects."""

    reason = "mask is not one the plan allows"


EPOCH_STEP = 2**20
"""Most that an epoch may lie beyond the last: lost attempts never come near it, and a counter of
63 bits outlasts them all."""


def require_run(memory: Memory, run: str) -> None:
    """Hold a session to the run it began with."""
    if memory.run not in ("", run):
        raise RunChangedError(f"run {run!r} is not the run {memory.run!r} of this session")


def require_epoch(standing: Standing, round_number: int, epoch: int, plan: Plan) -> None:
    """Let a new epoch of the current or a later round begin."""
    require_round(standing, round_number, plan)
    if epoch <= standing.epoch:
        raise EpochReplayedError(f"epoch {epoch} is in the past")
    if epoch > (latest := standing.epoch + EPOCH_STEP):
        raise EpochSkippedError(f"epoch {epoch} is beyond {latest}: count on from the last one")


def require_round(standing: Standing, round_number: int, plan: Plan) -> None:
    """Let the current or a later round of this run be worked on, if it was not opened."""
    if not 0 <= round_number <= plan.training.rounds:
        raise RoundOutsidePlanError(f"round {round_number} is not in the plan")
    if round_number < standing.round:
        raise RoundReplayedError(f"round {round_number} is in the past")
    # A second opening of a round, with one survivor less, would reveal that survivor.
    if round_number <= standing.opened:
        raise RoundOpenedError(f"round {round_number} may have been opened already")


def require_approved(
    descriptor: RoundDescriptor, plan: Plan, memory: Memory, roster_hash: str
) -> None:
    """Hold a round to the run of its session, and to the approved plan and roster."""
    require_run(memory, descriptor.run)
    if descriptor.plan_hash != plan.digest():
        raise RunChangedError("the descriptor is of another plan than the approved one")
    if descriptor.roster_hash != roster_hash:
        raise OtherRosterError("the descriptor is of another roster than the approved one")


def require_descriptor(descriptor: RoundDescriptor, plan: Plan, name: str, mask: Mask) -> None:
    """Let a round on ``mask`` [d] be trained: its terms are the plan's."""
    if not set(descriptor.cohort) <= set(plan.names):
        raise CohortChangedError("cohort names an institution outside the plan")
    if name not in descriptor.cohort:
        raise CohortWithoutMeError(f"the cohort leaves out {name!r}, which is asked for a vector")
    if descriptor.threshold != plan.threshold:
        raise ThresholdChangedError(
            f"threshold {descriptor.threshold} is not the plan's {plan.threshold}"
        )
    if len(descriptor.cohort) < plan.threshold:
        raise TooFewParticipantsError(
            f"a cohort of {len(descriptor.cohort)} is below {plan.threshold}: repeat the round"
        )
    if descriptor.ring_bits != plan.aggregation.ring_bits:
        raise RingChangedError(f"ring of {descriptor.ring_bits} bits is not the plan's")
    if descriptor.segments != segments_of(plan, descriptor.round, int(mask.sum())):
        raise SegmentsChangedError("segments are not the ones the plan derives")


def require_tame(layout: Layout, weights: NDArray[np.float32]) -> None:
    """Let flat weights [size] in that keep every signal finite, whatever the record."""
    if (signal := largest_signal(layout, weights)) > SIGNAL_LIMIT:
        raise ModelRefusedError(
            f"a signal of the model may reach {signal:.3g}, the limit is {SIGNAL_LIMIT:g}"
        )


def require_mask(mask: Mask, before: Mask, plan: Plan) -> None:
    """Let a mask [size] in that follows ``before`` as the plan lets it."""
    if (fault := fault_of(mask, before, plan)) is not None:
        raise MaskRefusedError(fault)
