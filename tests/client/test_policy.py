from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client import policy
from client.entries import Standing
from client.memory import Memory
from client.policy import (
    EPOCH_STEP,
    CohortChangedError,
    EpochReplayedError,
    EpochSkippedError,
    MaskRefusedError,
    RingChangedError,
    RoundOpenedError,
    RoundOutsidePlanError,
    RoundReplayedError,
    RunChangedError,
    SegmentsChangedError,
    TermsChangedError,
    ThresholdChangedError,
    require_approved,
    require_descriptor,
    require_epoch,
    require_mask,
    require_run,
)
from common.crypto.refusals import (
    CohortWithoutMeError,
    OtherRosterError,
    TooFewParticipantsError,
)
from common.descriptor import RoundDescriptor, Segment
from common.errors import PolicyError
from common.pruning.masks import Mask
from common.pruning.rules import units_of
from tests.support import describe, mask_keeping, small_plan, start_of

PLAN = small_plan()
MODEL = start_of(PLAN, round_number=3, epoch=5)
GOOD = describe(PLAN, MODEL)
MEMORY = Memory(run="run")
STANDING = Standing(run="run", round=2, epoch=4, opened=2)


def test_the_next_round_and_the_same_one_may_begin() -> None:
    require_run(Memory(), "run")
    require_run(MEMORY, "run")
    require_epoch(Standing(), 0, 1, PLAN)
    require_epoch(STANDING, 3, 5, PLAN)
    require_epoch(STANDING, PLAN.training.rounds, 50, PLAN)
    require_epoch(replace(STANDING, opened=1), 2, 5, PLAN)
    require_epoch(STANDING, 3, 4 + EPOCH_STEP, PLAN)
    require_epoch(Standing(), 0, EPOCH_STEP - 1, PLAN)


@pytest.mark.parametrize(
    ("round_number", "epoch", "kind", "problem"),
    [
        (1, 5, RoundReplayedError, "round 1 is in the past"),
        (3, 4, EpochReplayedError, "epoch 4 is in the past"),
        (3, 3, EpochReplayedError, "in the past"),
        (3, -1, EpochReplayedError, "in the past"),
        (3, 5 + EPOCH_STEP, EpochSkippedError, "is beyond 1048580: count on"),
        (3, 2**63 - 1, EpochSkippedError, "is beyond"),
        (2, 5, RoundOpenedError, "may have been opened"),
        (-1, 5, RoundOutsidePlanError, "not in the plan"),
        (7, 5, RoundOutsidePlanError, "round 7 is not in the plan"),
    ],
)
def test_other_epochs_are_refused(
    round_number: int, epoch: int, kind: type[PolicyError], problem: str
) -> None:
    with pytest.raises(kind, match=problem):
        require_epoch(STANDING, round_number, epoch, PLAN)


def test_another_run_is_refused() -> None:
    with pytest.raises(RunChangedError, match="'other' is not the run 'run'"):
        require_run(MEMORY, "other")


def check(descriptor: RoundDescriptor, memory: Memory = MEMORY, name: str = "ash") -> None:
    require_approved(descriptor, PLAN, memory, GOOD.roster_hash)
    require_descriptor(descriptor, PLAN, name, MODEL.mask)


def test_the_plans_terms_are_accepted() -> None:
    check(GOOD)
    check(GOOD, Memory())
    check(replace(GOOD, cohort=("ash", "birch", "elm")))


def scaled(factor: float) -> tuple[Segment, ...]:
    update = GOOD.segments[0]
    return (replace(update, scale=update.scale * factor), *GOOD.segments[1:])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"run": "other"}, RunChangedError),
        ({"plan_hash": "00" * 32}, RunChangedError),
        ({"cohort": ("birch", "cedar", "elm")}, CohortWithoutMeError),
        ({"cohort": ("ash", "birch", "elm", "oak")}, CohortChangedError),
        ({"cohort": ("ash", "birch")}, TooFewParticipantsError),
        ({"threshold": 2}, ThresholdChangedError),
        ({"threshold": 4}, ThresholdChangedError),
        ({"ring_bits": 25}, RingChangedError),
        ({"segments": ()}, SegmentsChangedError),
        ({"segments": scaled(0.5)}, SegmentsChangedError),
        ({"segments": (replace(GOOD.segments[0], length=84),)}, SegmentsChangedError),
        ({"segments": (*GOOD.segments, Segment("test", 20, 1.0, 200.0))}, SegmentsChangedError),
        ({"round": 4}, SegmentsChangedError),  # an evaluation round has other segments
    ],
)
def test_other_terms_are_refused(change: dict[str, Any], kind: type[PolicyError]) -> None:
    with pytest.raises(kind):
        check(replace(GOOD, **change))


def test_another_roster_is_refused() -> None:
    require_approved(GOOD, PLAN, MEMORY, GOOD.roster_hash)
    with pytest.raises(OtherRosterError):
        require_approved(GOOD, PLAN, MEMORY, "00" * 32)


BEFORE = mask_keeping(PLAN, 60)


def without(mask: Mask, index: int) -> Mask:
    changed = mask.copy()
    changed[index] = False
    return changed


def test_a_smaller_mask_down_to_the_plans_sparsity_is_accepted() -> None:
    require_mask(BEFORE, BEFORE, PLAN)
    require_mask(mask_keeping(PLAN, 22), BEFORE, PLAN)


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        (mask_keeping(PLAN, 61), "brings pruned weights back"),
        (~BEFORE, "brings pruned weights back"),
        (mask_keeping(PLAN, 20), "keeps 3 units, fewer than the 4"),
        (BEFORE & False, "keeps 0 units"),
        (without(BEFORE, 84), "prunes what the plan protects"),
    ],
)
def test_other_masks_are_refused(mask: Mask, problem: str) -> None:
    with pytest.raises(MaskRefusedError, match=problem):
        require_mask(mask, BEFORE, PLAN)


def test_weights_may_come_back_only_where_the_plan_says_so() -> None:
    more = mask_keeping(PLAN, 70)
    for pruning in ({"guard": "step_back"}, {"schedule": "iterative", "regrowth": 0.2}):
        require_mask(more, BEFORE, small_plan(pruning=pruning))
    with pytest.raises(MaskRefusedError, match="brings pruned weights back"):
        require_mask(more, BEFORE, small_plan(pruning={"guard": "hold"}))


def test_a_neuron_is_pruned_whole_or_not_at_all() -> None:
    plan = small_plan(pruning={"granularity": "neuron", "sparsity": 0.5})
    units, everything = units_of(plan), BEFORE | True
    half = units.mask(np.arange(units.count) >= units.count // 2)
    require_mask(half, everything, plan)
    with pytest.raises(MaskRefusedError, match="parts of what it prunes as one"):
        require_mask(without(half, int(np.flatnonzero(half)[0])), everything, plan)
    with pytest.raises(MaskRefusedError, match="fewer than"):
        require_mask(units.mask(np.arange(units.count) > units.count // 2), everything, plan)


def test_no_block_is_pruned_further_than_the_others() -> None:
    plan = small_plan(pruning={"granularity": "block", "block": 4, "sparsity": 0.5})
    units, everything = units_of(plan), BEFORE | True
    ranks = np.concatenate([np.arange(size) for size in np.bincount(units.group)])
    full = np.bincount(units.group)[units.group] == 4
    require_mask(units.mask(~full | (ranks < 2)), everything, plan)
    uneven = ~full | np.where(units.group == units.group[full][0], ranks < 1, ranks < 3)
    with pytest.raises(MaskRefusedError, match="mask keeps fewer of block"):
        require_mask(units.mask(uneven), everything, plan)


def test_reasons_are_distinct_and_hold_no_detail() -> None:
    kinds = [
        kind
        for kind in vars(policy).values()
        if isinstance(kind, type)
        and issubclass(kind, PolicyError)
        and kind is not TermsChangedError
    ]
    reasons = {kind.reason for kind in kinds}
    assert len(reasons) == len(kinds) >= 19
    assert not any(digit in reason for reason in reasons for digit in "0123456789")
