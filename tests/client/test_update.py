"""The trip that trains: what it refuses, what it repeats bit for bit, what it says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.memory import Memory
from client.policy import (
    MaskRefusedError,
    ModelChangedError,
    ModelRefusedError,
    RetrainingError,
    RoundChargedError,
    RoundOpenedError,
    RoundOutsidePlanError,
    RoundReplayedError,
    RunChangedError,
    TermsChangedError,
)
from client.stages import Institution
from client.update import update
from common import messages as wire
from common.crypto import refusals, ring
from common.descriptor import RoundDescriptor
from common.entropy import SeededEntropy, SystemEntropy
from common.errors import PolicyError, ProtocolError
from common.model import layout_of
from common.plan import Plan
from common.privacy.budgets import learning_rate
from common.pruning.masks import Mask, pack_mask
from server.model import GlobalModel
from tests.support import (
    count_training,
    deal,
    describe,
    forget,
    mask_keeping,
    request_of,
    small_institution,
    small_plan,
    stand,
    start_of,
)

PLAN = small_plan(aggregation={"kind": "plain"})
SECURE = small_plan()
ASH = small_institution(PLAN)


@pytest.fixture(autouse=True)
def _empty_ledger() -> None:
    forget(ASH)


def pruned(model: GlobalModel, mask: Mask) -> GlobalModel:
    return replace(model, weights=model.weights * mask, mask=mask)


def vector_of(reply: wire.UpdateReply, descriptor: RoundDescriptor) -> NDArray[np.uint32]:
    return ring.unpack(reply.vector, descriptor.ring_bits, descriptor.length)


def answer(
    model: GlobalModel, institution: Institution = ASH
) -> tuple[Memory, dict[str, NDArray[np.float64]]]:
    """Run a plain round and decode what the institution says."""
    descriptor = describe(institution.plan, model)
    forget(institution)
    memory, reply = update(institution, Memory(), request_of(model, descriptor))
    return memory, ring.decode_vector(descriptor, vector_of(reply, descriptor), 1)


def test_the_vector_holds_the_weighted_update_and_in_evaluation_rounds_the_counts() -> None:
    memory, values = answer(start_of(PLAN))
    assert set(values) == {"update"}
    assert np.count_nonzero(values["update"]) > 0.9 * len(values["update"])
    assert memory.run == "run"
    assert (ASH.standing("run").round, ASH.standing("run").opened) == (0, -1)
    _, values = answer(start_of(PLAN, round_number=2))
    assert set(values) == {"update", "validation"}
    assert values["validation"].sum() == len(ASH.splits.validation)
    assert values["validation"][10:].sum() == ASH.splits.validation.labels.sum()
    _, values = answer(start_of(PLAN, round_number=6))
    assert set(values) == {"validation", "test"}
    assert values["test"].sum() == len(ASH.splits.test)


def test_an_institution_weighs_by_its_declared_size() -> None:
    plan = small_plan(aggregation={"kind": "plain"}, training={"steps": 1})
    updates = {}
    for name, size in (("ash", 200), ("birch", 150), ("cedar", 100)):
        member = Institution(name, plan, lambda: ASH.splits, SeededEntropy(0))
        assert plan.weight(name) == size / 200
        updates[name] = answer(start_of(plan), member)[1]["update"]
    # On the same rows a smaller batch steps further and counts less: the noise is alike.
    grid = 2 / describe(plan, start_of(plan)).segments[0].scale
    np.testing.assert_allclose(updates["birch"], updates["ash"], atol=grid)
    np.testing.assert_allclose(updates["cedar"], updates["ash"], atol=grid)
    assert not np.allclose(2 * updates["cedar"], updates["ash"], atol=grid)


def test_only_surviving_weights_travel() -> None:
    model = start_of(PLAN)
    mask = mask_keeping(PLAN, 64)
    memory, values = answer(pruned(model, mask))
    assert len(values["update"]) == mask.sum()
    assert ASH.standing("run").mask == pack_mask(mask)
    following = replace(pruned(model, mask), round=1, epoch=2)
    descriptor = describe(PLAN, following)
    without_mask = replace(request_of(following, descriptor), mask=b"")
    update(ASH, memory, without_mask)
    assert ASH.standing("run").round == 1
    assert ASH.standing("run").mask == pack_mask(mask)
    forget(ASH)
    with pytest.raises(TermsChangedError):  # an empty ledger takes "no mask" for "nothing pruned"
        update(ASH, Memory(), without_mask)


def test_update_is_bounded_by_the_rate_and_the_clipping_norm() -> None:
    quiet = small_plan(aggregation={"kind": "plain"}, privacy={"epsilon": "none"})
    _, values = answer(start_of(quiet), small_institution(quiet))
    reach = learning_rate(quiet) * quiet.privacy.max_grad_norm * quiet.training.steps
    assert 0 < np.linalg.norm(values["update"]) < 2 * reach


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"run": "other"}, RunChangedError),
        ({"plan_hash": "00" * 32}, RunChangedError),
        ({"roster_hash": "00" * 32}, refusals.OtherRosterError),
        ({"round": 0}, RoundReplayedError),
        ({"round": 1}, RoundOpenedError),
        ({"round": 7}, RoundOutsidePlanError),
        ({"cohort": ("birch", "cedar", "elm")}, refusals.CohortWithoutMeError),
        ({"cohort": ("ash", "birch", "oak")}, TermsChangedError),
        ({"threshold": 2}, TermsChangedError),
        ({"ring_bits": 32}, TermsChangedError),
        ({"segments": ()}, TermsChangedError),
        ({"model_hash": "00" * 32}, ModelChangedError),
        ({"mask_hash": "00" * 32}, ModelChangedError),
    ],
)
def test_other_terms_are_refused(change: dict[str, Any], kind: type[PolicyError]) -> None:
    model = start_of(PLAN, round_number=3, epoch=4)
    good = describe(PLAN, model)
    memory = stand(ASH, 1, epoch=3, opened=1)
    with pytest.raises(kind):
        update(ASH, memory, request_of(model, replace(good, **change)))
    update(ASH, memory, request_of(model, good))
    assert ASH.standing("run").round == 3


def test_masks_that_grow_back_or_prune_too_far_are_refused() -> None:
    model = start_of(PLAN, round_number=3, epoch=4)
    before = mask_keeping(PLAN, 40)
    memory = stand(ASH, 1, epoch=3, opened=1, mask=pack_mask(before))
    unprotected = before & (np.arange(before.size) < before.size - 1)
    for mask in (mask_keeping(PLAN, 41), mask_keeping(PLAN, 20), unprotected):
        shrunk = pruned(model, mask)
        with pytest.raises(MaskRefusedError):
            update(ASH, memory, request_of(shrunk, describe(PLAN, shrunk)))
    shrunk = pruned(model, mask_keeping(PLAN, 22))
    update(ASH, memory, request_of(shrunk, describe(PLAN, shrunk)))
    assert ASH.standing("run").round == 3


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_is_not_finite_is_refused(value: float) -> None:
    model = start_of(PLAN)
    model.weights[0] = value
    with pytest.raises(ProtocolError, match="not finite"):
        update(ASH, Memory(), request_of(model, describe(PLAN, model)))


def test_a_model_that_overflows_for_some_records_is_refused_before_any_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = count_training(monkeypatch)
    model = start_of(PLAN)
    for index, value in ((0, 3e38), (1, -1e9)):
        model.weights[index] = value
        with pytest.raises(ModelRefusedError) as caught:
            update(ASH, Memory(), request_of(model, describe(PLAN, model)))
        assert caught.value.reason == "model is out of bounds"
        model.weights[index] = 0.1
    assert not calls
    update(ASH, Memory(), request_of(model, describe(PLAN, model)))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "change", [{"model": b""}, {"mask": b"\xff"}, {"descriptor": "{}"}, {"descriptor": ""}]
)
def test_a_malformed_request_is_refused(change: dict[str, Any]) -> None:
    model = start_of(PLAN)
    with pytest.raises(ProtocolError):
        update(ASH, Memory(), replace(request_of(model, describe(PLAN, model)), **change))


def test_a_repeated_plain_round_sends_the_stored_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_training(monkeypatch)
    member = small_institution(PLAN, entropy=SystemEntropy())
    first, later = start_of(PLAN, 0, 1), start_of(PLAN, 0, 2)
    request = request_of(first, describe(PLAN, first))
    memory, reply = update(member, Memory(), request)
    for kept in (memory, Memory()):
        _, again = update(member, kept, request_of(later, describe(PLAN, later)))
        assert again.vector == reply.vector == member.standing("run").vector
    assert len(calls) == 1
    # A second training would have been another release.
    forget(member)
    assert update(member, Memory(), request)[1].vector != reply.vector
    assert len(calls) == 2


def test_a_charged_round_whose_vector_is_lost_is_not_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = count_training(monkeypatch)
    model = start_of(PLAN)
    request = request_of(model, describe(PLAN, model))

    def crash(*_: object) -> NDArray[np.uint32]:
        raise MemoryError

    with pytest.raises(MemoryError):
        update(ASH, Memory(), request, crash)
    with pytest.raises(RoundChargedError, match="charged before"):
        update(ASH, Memory(), request)
    assert calls == []
    following = replace(model, round=1, epoch=2)
    update(ASH, Memory(), request_of(following, describe(PLAN, following)))
    assert len(calls) == 1


def trained_epoch(
    plan: Plan, members: dict[str, Institution], memories: dict[str, Memory], epoch: int
) -> wire.UpdateReply:
    """Run the trips of an epoch of round 0 as far as ash's vector."""
    inboxes = deal(members, memories, 0, epoch)
    model = start_of(plan, 0, epoch)
    request = request_of(model, describe(plan, model), inboxes["ash"])
    memories["ash"], reply = update(members["ash"], memories["ash"], request)
    return reply


def test_a_repeated_secure_round_masks_the_stored_vector_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = count_training(monkeypatch)
    members = {name: small_institution(SECURE, name, SystemEntropy()) for name in SECURE.names}
    memories: dict[str, Memory] = {}
    first = trained_epoch(SECURE, members, memories, 1)
    stored = members["ash"].standing("run").vector
    second = trained_epoch(SECURE, members, memories, 3)
    assert members["ash"].standing("run").vector == stored
    assert len(calls) == 1
    assert len({stored, first.vector, second.vector}) == 3
    forget(*members.values())
    trained_epoch(SECURE, members, {}, 3)
    assert members["ash"].standing("run").vector != stored


@pytest.mark.parametrize("changed", ["model", "mask"])
def test_a_repeated_round_shows_the_same_model_or_is_refused(changed: str) -> None:
    model = start_of(PLAN, 0, 1)
    memory, _ = answer(model)
    other = replace(model, epoch=2, weights=model.weights + np.float32(changed == "model"))
    if changed == "mask":
        other = pruned(other, mask_keeping(PLAN, 84))
    with pytest.raises(RetrainingError, match="another model, mask or segments"):
        update(ASH, memory, request_of(other, describe(PLAN, other)))


def test_a_secure_vector_waits_for_shares_and_leaves_once() -> None:
    members = {name: small_institution(SECURE, name) for name in SECURE.names}
    ash, model = members["ash"], start_of(SECURE)
    descriptor = describe(SECURE, model)
    with pytest.raises(ProtocolError):
        update(ash, Memory(), request_of(model, descriptor))
    memories: dict[str, Memory] = {}
    inboxes = deal(members, memories)
    with pytest.raises(refusals.MissingShareError):
        update(ash, memories["ash"], request_of(model, descriptor))
    nobody = replace(descriptor, cohort=("ash", "birch", "cedar"))
    with pytest.raises(refusals.MissingShareError):
        update(ash, memories["ash"], request_of(model, nobody, inboxes["ash"]))
    for other in (replace(descriptor, epoch=2), replace(descriptor, round=1)):
        with pytest.raises(refusals.OtherSessionError):
            update(ash, memories["ash"], request_of(model, other, inboxes["ash"]))
    request = request_of(model, descriptor, inboxes["ash"])
    masked, reply = update(ash, memories["ash"], request)
    assert reply.vector != ash.standing("run").vector
    with pytest.raises(refusals.MaskedTwiceError):
        update(ash, masked, request)
    # Nor a second time from keys whose use was not saved.
    with pytest.raises(refusals.MaskedTwiceError, match="masked"):
        update(ash, memories["ash"], request)


def test_shares_dealt_to_another_do_not_open() -> None:
    members = {name: small_institution(SECURE, name) for name in SECURE.names}
    memories: dict[str, Memory] = {}
    inboxes = deal(members, memories)
    other = replace(inboxes["ash"]["birch"], sealed=inboxes["ash"]["cedar"].sealed)
    swapped = inboxes["ash"] | {"birch": other}
    model = start_of(SECURE)
    with pytest.raises(refusals.ShareAlteredError):
        update(members["ash"], memories["ash"], request_of(model, describe(SECURE, model), swapped))


def test_size_of_the_model_is_the_layouts() -> None:
    assert start_of(PLAN).mask.size == layout_of(PLAN.model, PLAN.schema_.width).size == 85
