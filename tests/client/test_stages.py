from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from client import stages
from client.data import Splits
from client.ledger import Ledger, MemoryStore, memory_ledger
from client.limits import Limits
from client.memory import Memory
from client.policy import (
    EPOCH_STEP,
    EpochReplayedError,
    EpochSkippedError,
    RoundOpenedError,
    RoundOutsidePlanError,
    RoundReplayedError,
    RunChangedError,
    SignedTwiceError,
)
from client.refusals import LedgerBehindError, OverLimitError
from client.update import update
from common import messages as wire
from common.crypto import refusals
from common.crypto.roster import Roster
from common.crypto.session import Advert, LastAdvert, Reveal, Session
from common.entropy import SystemEntropy
from common.errors import DataError, ProtocolError
from simulations.rehearsal import seeded_identity
from tests.support import (
    deal,
    describe,
    forget,
    request_of,
    roster_of,
    small_institution,
    small_plan,
    stand,
    start_of,
)

PLAN = small_plan()
MEMBERS = {name: small_institution(PLAN, name) for name in PLAN.names}
ASH = MEMBERS["ash"]


@pytest.fixture(autouse=True)
def _empty_ledgers() -> None:
    forget(*MEMBERS.values())


CALL = wire.AdvertiseRequest("run", 0, 1)


def masked_members(round_number: int = 0, epoch: int = 1) -> dict[str, Memory]:
    """Return all members' memories once their vectors are out."""
    memories: dict[str, Memory] = {}
    inboxes = deal(MEMBERS, memories, round_number, epoch)
    model = start_of(PLAN, round_number, epoch)
    descriptor = describe(PLAN, model)
    for name, member in MEMBERS.items():
        request = request_of(model, descriptor, inboxes[name])
        memories[name], _ = update(member, memories[name], request)
    return memories


def unmask_request(survivors: Sequence[str]) -> wire.UnmaskRequest:
    """Return the request to open a sum, without signatures."""
    digest = describe(PLAN, start_of(PLAN)).digest()
    return wire.UnmaskRequest(digest, list(survivors), [], [])


def test_join_names_the_institution_and_its_plan() -> None:
    memory, reply = stages.join(ASH, Memory(), wire.JoinRequest("run"))
    assert reply == wire.JoinReply("ash", PLAN.digest(), -1)
    assert memory == Memory()


def test_an_unfit_table_does_not_join() -> None:
    def rows() -> Splits:
        raise DataError("no rows")

    unfit = replace(ASH, rows=rows)
    with pytest.raises(DataError, match="no rows"):
        stages.join(unfit, Memory(), wire.JoinRequest("run"))


def test_a_run_beyond_the_limits_is_not_joined() -> None:
    narrow = Limits(plan=0.5, accountant="rdp")
    poor = replace(ASH, ledger=Ledger(MemoryStore(), "loans", narrow))
    with pytest.raises(OverLimitError, match=r"limits\.plan"):
        stages.join(poor, Memory(), wire.JoinRequest("run"))


def test_rows_are_read_once_and_only_when_needed() -> None:
    reads: list[str] = []
    splits = ASH.splits

    def rows() -> Splits:
        reads.append("again")
        return splits

    counted = replace(ASH, rows=rows)
    stages.advertise(counted, Memory(), CALL)
    assert reads == []
    assert counted.splits is counted.splits is splits
    assert reads == ["again"]


def test_adverts_are_fresh_for_each_epoch() -> None:
    memory, first = stages.advertise(ASH, Memory(), CALL)
    _, second = stages.advertise(ASH, memory, wire.AdvertiseRequest("run", 0, 2))
    adverts = [Advert.from_bytes(reply.advert) for reply in (first, second)]
    assert adverts[0].mask_public != adverts[1].mask_public
    assert adverts[0].seed_hash != adverts[1].seed_hash
    assert memory.run == "run"
    assert ASH.standing("run").epoch == 2
    fresh = [replace(ASH, entropy=SystemEntropy(), ledger=memory_ledger()) for _ in range(2)]
    replies = [stages.advertise(system, Memory(), CALL)[1] for system in fresh]
    assert replies[0] != replies[1]


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (wire.AdvertiseRequest("other", 3, 5), RunChangedError),
        (wire.AdvertiseRequest("run", 1, 5), RoundReplayedError),
        (wire.AdvertiseRequest("run", 3, 4), EpochReplayedError),
        (wire.AdvertiseRequest("run", 2, 5), RoundOpenedError),
        (wire.AdvertiseRequest("run", 9, 5), RoundOutsidePlanError),
    ],
)
def test_another_run_or_a_past_epoch_is_not_advertised_for(
    request_: wire.AdvertiseRequest, kind: type[ProtocolError]
) -> None:
    memory = stand(ASH, 2, epoch=4, opened=2)
    with pytest.raises(kind):
        stages.advertise(ASH, memory, request_)
    stages.advertise(ASH, memory, wire.AdvertiseRequest("run", 3, 5))
    assert ASH.standing("run").epoch == 5


def test_shares_go_to_every_member() -> None:
    memories: dict[str, Memory] = {}
    inboxes = deal(MEMBERS, memories)
    assert set(inboxes["ash"]) == set(PLAN.names)
    assert len({parcel.sealed for inbox in inboxes.values() for parcel in inbox.values()}) == 16


def test_a_revocation_is_taken_and_an_addition_is_not() -> None:
    roster = roster_of(PLAN)
    fewer = roster.without("elm").to_bytes()
    memory, reply = stages.advertise(ASH, Memory(), replace(CALL, roster=fewer))
    assert len(reply.sealed) == 3 * 98
    assert ASH.party.roster == roster.without("elm")
    with pytest.raises(refusals.RosterGrewError):
        stages.advertise(ASH, memory, replace(CALL, epoch=2, roster=roster.to_bytes()))
    few = roster.without("elm", "birch").to_bytes()
    with pytest.raises(refusals.ThresholdError):
        stages.advertise(ASH, Memory(), replace(CALL, epoch=3, roster=few))
    with pytest.raises(refusals.OtherRosterError, match="no keys"):
        stages.advertise(replace(ASH, membership=None), Memory(), replace(CALL, epoch=4))


def test_a_revocation_outlasts_a_lost_context_and_every_run_of_the_plan() -> None:
    full, fewer = roster_of(PLAN), roster_of(PLAN).without("elm")
    stages.advertise(ASH, Memory(), replace(CALL, roster=fewer.to_bytes()))
    lines = ASH.ledger.sequence
    for number, run in enumerate(("run", "next"), start=2):
        call = wire.AdvertiseRequest(run, 0, number)
        _, reply = stages.advertise(ASH, Memory(), call)
        assert len(reply.sealed) == 3 * 98
        with pytest.raises(refusals.RosterGrewError):
            stages.advertise(ASH, Memory(), replace(call, epoch=number + 5, roster=full.to_bytes()))
    # Told of it again, it notes no more than the epoch.
    stages.advertise(ASH, Memory(), replace(CALL, epoch=9, roster=fewer.to_bytes()))
    assert ASH.ledger.sequence == lines + 3
    assert ASH.party.roster == fewer
    kinds = [entry.kind for entry in ASH.ledger.read()[1]]
    assert kinds[:2] == ["revoked", "epoch"]
    assert kinds.count("revoked") == 1


def test_a_revocation_is_of_one_plan_and_one_approved_roster() -> None:
    fewer = roster_of(PLAN).without("elm")
    stages.advertise(ASH, Memory(), replace(CALL, roster=fewer.to_bytes()))
    other = small_institution(small_plan(name="another"))
    assert replace(other, ledger=ASH.ledger).party.roster == roster_of(PLAN)
    # Who is approved again, under new keys, is a member again.
    assert ASH.membership is not None
    members = {**fewer.members, "elm": seeded_identity("elm", 7).member("elm")}
    renewed = replace(ASH.membership, roster=Roster(members=members))
    assert replace(ASH, membership=renewed).party.roster == renewed.roster
    assert ASH.party.roster == fewer


@pytest.mark.parametrize(
    ("revoked", "kind"),
    [(("ash",), refusals.RevokedPeerError), (("elm", "birch"), refusals.ThresholdError)],
)
def test_a_revocation_that_leaves_nothing_to_go_on_with_is_not_taken(
    revoked: tuple[str, ...], kind: type[Exception]
) -> None:
    few = roster_of(PLAN).without(*revoked).to_bytes()
    with pytest.raises(kind):
        stages.advertise(ASH, Memory(), replace(CALL, roster=few))
    assert ASH.ledger.sequence == 0
    assert ASH.party.roster == roster_of(PLAN)
    stages.advertise(ASH, Memory(), CALL)


def last_advert(epoch: int = 1) -> LastAdvert:
    """Return what the server knows of ash once it has advertised for an epoch."""
    _, reply = stages.advertise(ASH, Memory(), replace(CALL, epoch=epoch))
    session = Session(
        run="run",
        plan_hash=PLAN.digest(),
        roster_hash=roster_of(PLAN).digest,
        round=0,
        epoch=epoch,
    )
    return LastAdvert(session.digest(), Advert.from_bytes(reply.advert))


def ask(last: bytes, *, joining: bool) -> None:
    if joining:
        stages.join(ASH, Memory(), wire.JoinRequest("next", ["elm", "ash"], [b"?", last]))
    else:
        stages.advertise(ASH, Memory(), replace(CALL, epoch=50, advert=last))


@pytest.mark.parametrize("joining", [True, False], ids=["join", "advertise"])
def test_a_ledger_behind_the_last_advert_is_refused(joining: bool) -> None:
    for epoch in (1, 2):
        last = last_advert(epoch)
        assert last.advert.sequence == ASH.ledger.sequence == epoch
    ask(last.to_bytes(), joining=joining)
    forget(ASH)
    with pytest.raises(LedgerBehindError, match=r"ends at line 0, .* signed at line 2"):
        ask(last.to_bytes(), joining=joining)
    assert ASH.ledger.sequence == 0


@pytest.mark.parametrize("joining", [True, False], ids=["join", "advertise"])
def test_an_advert_that_is_not_its_own_is_refused(joining: bool) -> None:
    last = last_advert()
    shorter = replace(last, advert=last.advert.model_copy(update={"sequence": 0}))
    other = MEMBERS["birch"]
    _, reply = stages.advertise(other, Memory(), CALL)
    foreign = LastAdvert(last.session, Advert.from_bytes(reply.advert))
    moved = replace(last, session=bytes(32))
    for wrong, kind in (
        (shorter, refusals.BadSignatureError),
        (foreign, refusals.BadSignatureError),
        (moved, refusals.OtherSessionError),
    ):
        with pytest.raises(kind):
            ask(wrong.to_bytes(), joining=joining)
    with pytest.raises(ProtocolError, match="is not version"):
        ask(last.to_bytes()[:-1], joining=joining)
    ask(b"", joining=joining)


def test_without_keys_no_advert_can_be_its_own() -> None:
    last, keyless = last_advert().to_bytes(), replace(ASH, membership=None)
    stages.join(keyless, Memory(), wire.JoinRequest("next", ["elm"], [last]))
    with pytest.raises(refusals.OtherRosterError, match="no keys"):
        stages.join(keyless, Memory(), wire.JoinRequest("next", ["ash"], [last]))


def test_an_epoch_far_ahead_is_refused_and_the_next_is_not() -> None:
    for epoch, latest in ((1, 1 + EPOCH_STEP), (1 + EPOCH_STEP, 1 + 2 * EPOCH_STEP)):
        stages.advertise(ASH, Memory(), replace(CALL, epoch=epoch))
        for far in (latest + 1, 2**63 - 1):
            with pytest.raises(EpochSkippedError, match=f"beyond {latest}"):
                stages.advertise(ASH, Memory(), replace(CALL, epoch=far))
    stages.advertise(ASH, Memory(), replace(CALL, epoch=2 + EPOCH_STEP))


def test_epochs_outlast_a_lost_memory() -> None:
    kept = ASH
    stages.advertise(kept, Memory(), wire.AdvertiseRequest("run", 0, 7))
    assert stages.join(kept, Memory(), wire.JoinRequest("run"))[1].epoch == 7
    with pytest.raises(EpochReplayedError):
        stages.advertise(kept, Memory(), wire.AdvertiseRequest("run", 0, 7))
    stages.advertise(kept, Memory(), wire.AdvertiseRequest("run", 0, 8))
    assert kept.standing("run").epoch == 8


def test_opening_ends_the_round_and_forgets_its_secrets() -> None:
    memory = masked_members()["ash"]
    assert ASH.standing("run").opened == -1
    opened, reply = stages.unmask(ASH, memory, unmask_request(PLAN.names))
    assert Reveal.from_bytes(reply.reveal).survived == (True,) * 4
    assert ASH.standing("run").opened == 0
    assert opened.secrets != memory.secrets
    assert len(opened.secrets) < len(memory.secrets)


def test_survivors_are_signed_for_before_they_are_opened() -> None:
    memories = masked_members()
    survivors = ["ash", "birch", "cedar"]
    unsigned = unmask_request(survivors)
    with pytest.raises(refusals.UnderSignedError):
        stages.unmask(ASH, memories["ash"], unsigned)
    asked = wire.SignRequest(unsigned.digest, survivors)
    signatures = []
    for name in survivors:
        memories[name], reply = stages.sign(MEMBERS[name], memories[name], asked)
        signatures.append(reply.signature)
    signed = replace(unsigned, signers=survivors, signatures=signatures)
    stages.unmask(ASH, memories["ash"], signed)
    assert ASH.standing("run").opened == 0
    with pytest.raises(refusals.SecondSurvivorsError):
        stages.sign(ASH, memories["ash"], replace(asked, survivors=["ash", "birch", "elm"]))
    with pytest.raises(refusals.SecondSurvivorsError):
        stages.unmask(ASH, memories["ash"], unmask_request(PLAN.names))


def test_a_round_is_opened_once() -> None:
    memory = masked_members()["ash"]
    opened, _ = stages.unmask(ASH, memory, unmask_request(PLAN.names))
    with pytest.raises(refusals.SecondUnmaskError):
        stages.unmask(ASH, opened, unmask_request(PLAN.names))
    with pytest.raises(refusals.DeadAndAliveError):
        stages.unmask(ASH, opened, unmask_request(["ash", "birch", "cedar"]))
    with pytest.raises(RoundOpenedError, match="opened already"):
        stages.advertise(ASH, opened, wire.AdvertiseRequest("run", 0, 3))
    # Nor by an institution whose context was not saved after the opening.
    for forgotten in (memory, Memory()):
        with pytest.raises(RoundOpenedError, match="opened already"):
            stages.advertise(ASH, forgotten, wire.AdvertiseRequest("run", 0, 3))
    with pytest.raises(RoundOpenedError, match="opened: 0 is in the past"):
        stages.unmask(ASH, memory, unmask_request(PLAN.names))
    stages.advertise(ASH, opened, wire.AdvertiseRequest("run", 1, 3))
    assert ASH.standing("run").epoch == 3


def test_a_round_that_was_not_opened_may_be_tried_again() -> None:
    memory = masked_members()["ash"]
    with pytest.raises(EpochReplayedError, match="epoch 2"):  # those keys went out already
        stages.advertise(ASH, memory, wire.AdvertiseRequest("run", 0, 2))
    stages.advertise(ASH, memory, wire.AdvertiseRequest("run", 0, 3))
    assert ASH.standing("run").epoch == 3


def test_survivors_are_signed_for_once_even_if_the_context_was_not_saved() -> None:
    memory = masked_members()["ash"]
    asked = wire.SignRequest(unmask_request([]).digest, ["ash", "birch", "cedar"])
    stages.sign(ASH, memory, asked)
    for survivors in (["ash", "birch", "cedar"], ["ash", "birch", "elm"]):
        with pytest.raises(SignedTwiceError, match="signed"):
            stages.sign(ASH, memory, replace(asked, survivors=survivors))


@pytest.mark.parametrize(
    ("survivors", "kind"),
    [
        (["ash", "birch"], refusals.SurvivorSetTooSmallError),
        (["birch", "cedar", "elm"], refusals.NotASurvivorError),
        (["ash", "birch", "oak"], refusals.UnknownPeerError),
        (["ash", "birch", "birch"], refusals.DuplicatePeerError),
    ],
)
def test_other_survivor_sets_are_not_opened(survivors: list[str], kind: type[Exception]) -> None:
    memory = masked_members()["ash"]
    with pytest.raises(kind):
        stages.unmask(ASH, memory, unmask_request(survivors))


def test_nothing_is_opened_before_the_vector_is_out() -> None:
    memories: dict[str, Memory] = {}
    request = unmask_request(PLAN.names)
    with pytest.raises(ProtocolError):
        stages.unmask(ASH, Memory(), request)
    deal(MEMBERS, memories)
    with pytest.raises(refusals.OutOfOrderError):
        stages.unmask(ASH, memories["ash"], request)


def test_lists_pair_up_one_to_one() -> None:
    assert stages.by_name(["a", "b"], [b"1", b"2"]) == {"a": b"1", "b": b"2"}
    for names, values in ((["a"], []), ([], [b"1"]), (["a", "a"], [b"1", b"2"])):
        with pytest.raises(ProtocolError, match="pair up"):
            stages.by_name(names, values)


def test_members_have_their_own_rows() -> None:
    assert not np.array_equal(ASH.splits.train.labels, MEMBERS["elm"].splits.train.labels)
