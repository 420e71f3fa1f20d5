from collections.abc import Callable
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
    require_nested,
    require_run,
)
from common.crypto.refusals import (
    CohortWithoutMeError,
    OtherRosterError,
    TooFewParticipantsError,
)
from common.descriptor import RoundDescriptor, Segment
from common.errors import PolicyError
from tests.support import describe, small_plan, start_of

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


def cut(keep: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return keep(np.arange(80))


def test_a_smaller_mask_down_to_the_plans_sparsity_is_accepted() -> None:
    before = cut(lambda index: index < 60)
    require_nested(before, before, PLAN)
    require_nested(cut(lambda index: index < 20), before, PLAN)


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        (cut(lambda index: index < 61), "brings pruned weights back"),
        (cut(lambda index: index >= 30), "brings pruned weights back"),
        (cut(lambda index: index < 19), "keeps 19 weights, fewer than the 20"),
        (cut(lambda index: index < 0), "keeps 0 weights"),
    ],
)
def test_other_masks_are_refused(mask: np.ndarray[Any, Any], problem: str) -> None:
    with pytest.raises(MaskRefusedError, match=problem):
        require_nested(mask, cut(lambda index: index < 60), PLAN)


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
