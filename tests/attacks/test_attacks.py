"""What a server that deviates at will, or a colluder beside it, is refused, and for which reason.

Every attack is played against an institution's own code over the wire; its refusal must leave
the institution unchanged and nothing computed.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from client.entries import Place
from client.spending import budget_of, charges_of
from common import messages as wire
from common.crypto import keys
from common.crypto.refusals import ColludersError
from common.crypto.roster import Roster
from common.crypto.session import Advert, LastAdvert, Session, survivors_statement
from common.crypto.terms import Terms
from common.descriptor import RoundDescriptor, Segment
from common.errors import PlanError
from common.plan import plan_from_dict
from common.pruning.masks import mask_hash, pack_mask
from server.aggregation import Attempt
from simulations.faults import toy_plan
from simulations.rehearsal import seeded_identity
from tests.attacks.theatre import (
    Theatre,
    described,
    flipped,
    half_mask,
    prunable,
    session_of,
    signed,
    swapped,
    with_advert,
)

Attack = Callable[[Theatre], str]
ATTACKS: dict[str, tuple[str, Attack]] = {}
ALL = ("bank-0", "bank-1", "bank-2", "bank-3", "bank-4")


def attack(reason: str) -> Callable[[Attack], Attack]:
    """Register an attack under its function's name with the reason it must be refused for."""

    def register(play: Attack) -> Attack:
        ATTACKS[play.__name__] = (reason, play)
        return play

    return register


def update_of(theatre: Theatre) -> wire.UpdateRequest:
    return theatre.held(wire.UpdateRequest)["bank-0"]


# Keys.


@attack("bad-signature")
def substituted_mask_key(theatre: Theatre) -> str:
    own = update_of(theatre)
    change = {"mask_public": bytes(31) + b"\7"}
    return theatre.ask(with_advert(own, 1, lambda advert: advert.model_copy(update=change)))


@attack("bad-signature")
def substituted_seal_key(theatre: Theatre) -> str:
    own = update_of(theatre)
    change = {"seal_public": bytes(31) + b"\7"}
    return theatre.ask(with_advert(own, 1, lambda advert: advert.model_copy(update=change)))


@attack("bad-signature")
def advert_signed_by_a_foreign_key(theatre: Theatre) -> str:
    own = update_of(theatre)
    session = session_of(own)
    return theatre.ask(
        with_advert(own, 1, lambda advert: signed(advert, session, "bank-1", "outsider"))
    )


@attack("bad-signature")
def one_peer_in_the_place_of_two(theatre: Theatre) -> str:
    own = update_of(theatre)
    adverts = [*own.adverts[:2], own.adverts[1], *own.adverts[3:]]
    return theatre.ask(replace(own, adverts=adverts))


@attack("duplicate-peer")
def a_colluder_copies_a_key(theatre: Theatre) -> str:
    own = update_of(theatre)
    session = session_of(own)

    def copy(advert: Advert) -> Advert:
        other = own.adverts[2]
        copied = advert.model_copy(update={"mask_public": other[9:41]})
        return signed(copied, session, "bank-1")

    return theatre.ask(with_advert(own, 1, copy))


@attack("bad-key")
def a_colluder_advertises_a_low_order_mask_key(theatre: Theatre) -> str:
    own = update_of(theatre)
    session = session_of(own)
    return theatre.ask(
        with_advert(
            own,
            1,
            lambda a: signed(a.model_copy(update={"mask_public": bytes(32)}), session, "bank-1"),
        )
    )


@attack("bad-key")
def a_colluder_advertises_a_low_order_seal_key(theatre: Theatre) -> str:
    own = update_of(theatre)
    session = session_of(own)
    return theatre.ask(
        with_advert(
            own,
            1,
            lambda a: signed(a.model_copy(update={"seal_public": bytes(32)}), session, "bank-1"),
        )
    )


def replayed(theatre: Theatre, change: dict[str, object], *, fresh_tag: bool = False) -> str:
    own = update_of(theatre)
    session = session_of(own)

    def other(advert: Advert) -> Advert:
        old = signed(advert, session.model_copy(update=change), "bank-1")
        return old.model_copy(update={"session_tag": session.tag}) if fresh_tag else old

    return theatre.ask(with_advert(own, 1, other))


@attack("other-session")
def keys_replayed_from_another_epoch(theatre: Theatre) -> str:
    return replayed(theatre, {"epoch": 0})


@attack("other-session")
def keys_replayed_from_another_round(theatre: Theatre) -> str:
    return replayed(theatre, {"round": 1})


@attack("other-session")
def keys_replayed_from_another_run(theatre: Theatre) -> str:
    return replayed(theatre, {"run": "before"})


@attack("other-session")
def keys_replayed_from_another_plan(theatre: Theatre) -> str:
    return replayed(theatre, {"plan_hash": "00"})


@attack("bad-signature")
def replayed_keys_under_a_fresh_tag(theatre: Theatre) -> str:
    return replayed(theatre, {"epoch": 0}, fresh_tag=True)


@attack("bad-signature")
def my_own_key_comes_back_altered(theatre: Theatre) -> str:
    own = update_of(theatre)
    change = {"mask_public": bytes(31) + b"\7"}
    return theatre.ask(with_advert(own, 0, lambda advert: advert.model_copy(update=change)))


@attack("own-key-altered")
def my_own_key_comes_back_as_another_that_i_signed(theatre: Theatre) -> str:
    own = update_of(theatre)
    session, change = session_of(own), {"mask_public": bytes(31) + b"\7"}
    return theatre.ask(
        with_advert(own, 0, lambda a: signed(a.model_copy(update=change), session, "bank-0"))
    )


# What an institution signed of its ledger.


@attack("bad-signature")
def my_own_advert_tells_of_a_longer_ledger(theatre: Theatre) -> str:
    own = update_of(theatre)
    change = {"sequence": 10**6}
    return theatre.ask(with_advert(own, 0, lambda advert: advert.model_copy(update=change)))


@attack("bad-signature")
def my_last_advert_tells_of_a_longer_ledger(theatre: Theatre) -> str:
    theatre.attempt()
    last = LastAdvert.from_bytes(theatre.last())
    longer = replace(last, advert=last.advert.model_copy(update={"sequence": 10**6}))
    return theatre.ask(wire.JoinRequest("next", ["bank-0"], [longer.to_bytes()]))


@attack("bad-signature")
def the_last_advert_of_another_is_joined_with(theatre: Theatre) -> str:
    theatre.attempt()
    return theatre.ask(wire.JoinRequest("next", ["bank-0"], [theatre.last("bank-1")]))


@attack("bad-signature")
def the_last_advert_of_another_opens_an_epoch(theatre: Theatre) -> str:
    theatre.attempt()
    epoch = theatre.model.epoch + 3
    return theatre.ask(wire.AdvertiseRequest("run", 1, epoch, b"", theatre.last("bank-1")))


@attack("other-session")
def my_last_advert_under_the_digest_of_another_session(theatre: Theatre) -> str:
    theatre.attempt()
    moved = bytes(32) + theatre.last()[32:]
    return theatre.ask(wire.JoinRequest("next", ["bank-0"], [moved]))


@attack("protocol")
def a_last_advert_that_is_cut_short(theatre: Theatre) -> str:
    theatre.attempt()
    return theatre.ask(wire.JoinRequest("next", ["bank-0"], [theatre.last()[:-1]]))


@attack("protocol")
def two_last_adverts_under_my_name(theatre: Theatre) -> str:
    theatre.attempt()
    return theatre.ask(wire.JoinRequest("next", ["bank-0"] * 2, [theatre.last()] * 2))


def set_back(theatre: Theatre) -> None:
    """Finish a round and put the ledger back to where it was before."""
    update_of(theatre)
    backup = theatre.backup()
    theatre.model = replace(theatre.model, epoch=4)
    theatre.attempt()
    theatre.restore(backup)


@attack("ledger-behind")
def a_ledger_that_was_set_back_joins_another_run(theatre: Theatre) -> str:
    set_back(theatre)
    return theatre.ask(wire.JoinRequest("next", ["bank-0"], [theatre.last()]))


@attack("ledger-behind")
def a_ledger_that_was_set_back_begins_an_epoch(theatre: Theatre) -> str:
    set_back(theatre)
    return theatre.ask(wire.AdvertiseRequest("run", 1, 9, b"", theatre.last()))


@attack("ledger-behind")
def a_ledger_that_was_set_back_is_asked_for_a_vector(theatre: Theatre) -> str:
    set_back(theatre)
    return theatre.ask(update_of(theatre))


# Shares.


@attack("share-altered")
def a_sealed_share_is_altered(theatre: Theatre) -> str:
    own = update_of(theatre)
    sealed = [own.sealed[0], flipped(own.sealed[1]), *own.sealed[2:]]
    return theatre.ask(replace(own, sealed=sealed))


@attack("share-altered")
def shares_of_two_dealers_are_swapped(theatre: Theatre) -> str:
    own = update_of(theatre)
    return theatre.ask(replace(own, sealed=swapped(own.sealed, 1, 2)))


@attack("share-altered")
def shares_are_swapped_with_their_proofs(theatre: Theatre) -> str:
    own = update_of(theatre)
    sealed, paths = swapped(own.sealed, 1, 2), swapped(own.paths, 1, 2)
    return theatre.ask(replace(own, sealed=sealed, paths=paths))


@attack("share-altered")
def the_share_of_another_receiver(theatre: Theatre) -> str:
    held = theatre.held(wire.UpdateRequest)
    own, other = held["bank-0"], held["bank-3"]
    sealed = [own.sealed[0], other.sealed[1], *own.sealed[2:]]
    paths = [own.paths[0], other.paths[1], *own.paths[2:]]
    return theatre.ask(replace(own, sealed=sealed, paths=paths))


@attack("share-altered")
def a_proof_is_cut_short(theatre: Theatre) -> str:
    own = update_of(theatre)
    return theatre.ask(replace(own, paths=[*own.paths[:4], own.paths[4][:-32]]))


@attack("share-missing")
def a_dealer_is_withheld(theatre: Theatre) -> str:
    own = update_of(theatre)
    return theatre.ask(
        replace(own, adverts=own.adverts[:4], sealed=own.sealed[:4], paths=own.paths[:4])
    )


# Cohort, model and mask.


@attack("participants-too-few")
def the_victim_is_isolated_among_few_peers(theatre: Theatre) -> str:
    own = described(update_of(theatre), lambda d: replace(d, cohort=ALL[:3]))
    return theatre.ask(
        replace(own, adverts=own.adverts[:3], sealed=own.sealed[:3], paths=own.paths[:3])
    )


@attack("cohort differs from the plan")
def a_sybil_joins_the_cohort(theatre: Theatre) -> str:
    return theatre.ask(
        described(update_of(theatre), lambda d: replace(d, cohort=(*ALL[:4], "sybil")))
    )


@attack("cohort-without-me")
def the_victim_masks_for_others(theatre: Theatre) -> str:
    return theatre.ask(described(update_of(theatre), lambda d: replace(d, cohort=ALL[1:])))


@attack("model or mask is not the described one")
def another_model_is_shown_to_one(theatre: Theatre) -> str:
    own = update_of(theatre)
    return theatre.ask(replace(own, model=bytes(len(own.model))))


@attack("model or mask is not the described one")
def another_mask_is_shown_to_one(theatre: Theatre) -> str:
    own = update_of(theatre)
    mask = half_mask(theatre, 0.75)
    other = described(own, lambda d: replace(d, segments=_shorter(d, int(mask.sum()))))
    return theatre.ask(replace(other, mask=pack_mask(mask)))


def _shorter(descriptor: RoundDescriptor, length: int) -> tuple[Segment, ...]:
    return tuple(replace(segment, length=length) for segment in descriptor.segments)


@attack("mask is not one the plan allows")
def a_mask_isolates_one_weight(theatre: Theatre) -> str:
    own = update_of(theatre)
    return theatre.ask(replace(own, mask=pack_mask(half_mask(theatre, 0.25))))


@attack("mask is not one the plan allows")
def a_mask_brings_weights_back(theatre: Theatre) -> str:
    kept = half_mask(theatre, 0.5)
    theatre.model = replace(theatre.model, mask=kept, weights=theatre.model.weights * kept)
    theatre.attempt()
    own = update_of(theatre)
    return theatre.ask(replace(own, mask=pack_mask(np.ones(kept.size, np.bool_))))


# Terms.


@attack("threshold differs from the plan")
def threshold_one(theatre: Theatre) -> str:
    return theatre.ask(described(update_of(theatre), lambda d: replace(d, threshold=1)))


@attack("threshold differs from the plan")
def a_threshold_one_lower(theatre: Theatre) -> str:
    return theatre.ask(described(update_of(theatre), lambda d: replace(d, threshold=3)))


@attack("ring")
def a_ring_of_two_values(theatre: Theatre) -> str:
    own = update_of(theatre)
    return theatre.ask(
        replace(own, descriptor=own.descriptor.replace('"ring_bits":24', '"ring_bits":1'))
    )


@attack("ring differs from the plan")
def a_wider_ring(theatre: Theatre) -> str:
    return theatre.ask(described(update_of(theatre), lambda d: replace(d, ring_bits=32)))


@attack("segments differ from the plan")
def a_changed_scale(theatre: Theatre) -> str:
    return theatre.ask(described(update_of(theatre), lambda d: _each(d, scale=1.0)))


@attack("segments differ from the plan")
def a_changed_clip(theatre: Theatre) -> str:
    return theatre.ask(described(update_of(theatre), lambda d: _each(d, bound=0.001)))


@attack("segments differ from the plan")
def a_segment_more(theatre: Theatre) -> str:
    extra = Segment("losses", 3, 1.0, 1.0)
    return theatre.ask(
        described(update_of(theatre), lambda d: replace(d, segments=(*d.segments, extra)))
    )


def _each(descriptor: RoundDescriptor, **change: float) -> RoundDescriptor:
    segments = tuple(replace(segment, **change) for segment in descriptor.segments)  # type: ignore[arg-type]
    return replace(descriptor, segments=segments)


# Runs, rounds and epochs.


@attack("another run or plan")
def another_run(theatre: Theatre) -> str:
    return theatre.ask(described(update_of(theatre), lambda d: replace(d, run="other")))


@attack("another run or plan")
def another_plan(theatre: Theatre) -> str:
    return theatre.ask(described(update_of(theatre), lambda d: replace(d, plan_hash="00")))


@attack("other-session")
def a_descriptor_of_another_epoch(theatre: Theatre) -> str:
    return theatre.ask(described(update_of(theatre), lambda d: replace(d, epoch=9)))


@attack("epoch is over")
def an_epoch_is_repeated(theatre: Theatre) -> str:
    update_of(theatre)
    return theatre.ask(wire.AdvertiseRequest("run", 0, theatre.model.epoch, b""))


@attack("epoch is too far ahead")
def an_epoch_that_would_use_up_the_plans_counter(theatre: Theatre) -> str:
    update_of(theatre)
    return theatre.ask(wire.AdvertiseRequest("run", 0, 2**63 - 2, b""))


@attack("masked-twice")
def a_second_vector_under_the_same_masks(theatre: Theatre) -> str:
    own = update_of(theatre)
    assert theatre.ask(own) == "updated"
    return theatre.ask(own)


@attack("repeated round differs")
def a_repeated_round_with_retraining(theatre: Theatre) -> str:
    theatre.held(wire.UnmaskRequest)
    weights = theatre.model.weights * np.float32(0.5)
    theatre.model = replace(theatre.model, epoch=4, weights=weights)
    return theatre.ask(update_of(theatre))


@attack("round was opened")
def u_and_then_u_minus_one_by_repeating_the_round(theatre: Theatre) -> str:
    theatre.attempt()
    return theatre.ask(wire.AdvertiseRequest("run", 0, theatre.model.epoch + 1, b""))


@attack("round was opened")
def an_opened_round_is_described_again(theatre: Theatre) -> str:
    old = update_of(theatre)
    theatre.model = replace(theatre.model, epoch=2)
    theatre.attempt()
    return theatre.ask(old)


@attack("round is over")
def a_round_before_the_last_is_begun_anew(theatre: Theatre) -> str:
    theatre.attempt()
    theatre.attempt()
    return theatre.ask(wire.AdvertiseRequest("run", 0, theatre.model.epoch + 1, b""))


@attack("round is not in the plan")
def a_round_beyond_the_plan(theatre: Theatre) -> str:
    beyond = theatre.plan.training.rounds + 1
    return theatre.ask(wire.AdvertiseRequest("run", beyond, 1, b""))


@attack("round was charged")
def a_round_is_recomputed_after_a_crash(theatre: Theatre) -> str:
    own, institution = update_of(theatre), theatre.banks["bank-0"].institution
    asked = RoundDescriptor.from_json(own.descriptor)
    # It crashed after it had charged the round and before it had stored the vector.
    place = Place(asked.run, asked.plan_hash, asked.round, asked.epoch)
    charges = charges_of(institution.plan, asked.segments)
    institution.ledger.charge(place, charges, budget_of(institution.plan), institution.now)
    return theatre.ask(own)


# Survivors.


def unmask_of(theatre: Theatre, *absent: str) -> wire.UnmaskRequest:
    return theatre.held(wire.UnmaskRequest, *absent)["bank-0"]


def sign_of(theatre: Theatre) -> wire.SignRequest:
    """Return the request to sign that bank-4 left; nobody has signed yet."""
    own = theatre.held(wire.UpdateRequest)
    for name in ALL[:4]:
        assert theatre.ask(own[name], name) == "updated"
    digest = RoundDescriptor.from_json(own["bank-0"].descriptor).digest()
    return wire.SignRequest(digest, list(ALL[:4]))


@attack("survivors-without-me")
def a_survivor_set_without_the_victim(theatre: Theatre) -> str:
    return theatre.ask(replace(unmask_of(theatre), survivors=list(ALL[1:])))


@attack("survivors-too-few")
def a_survivor_set_below_the_threshold(theatre: Theatre) -> str:
    return theatre.ask(replace(unmask_of(theatre), survivors=list(ALL[:3])))


@attack("unknown-peer")
def a_survivor_from_outside_the_cohort(theatre: Theatre) -> str:
    return theatre.ask(replace(unmask_of(theatre), survivors=[*ALL, "sybil"]))


@attack("duplicate-peer")
def a_survivor_counted_twice(theatre: Theatre) -> str:
    return theatre.ask(replace(unmask_of(theatre), survivors=["bank-0", *ALL[:4]]))


@attack("survivors-unsigned")
def dropouts_that_nobody_signed(theatre: Theatre) -> str:
    return theatre.ask(replace(unmask_of(theatre), survivors=list(ALL[:4])))


@attack("survivors-unsigned")
def dropouts_that_too_few_signed(theatre: Theatre) -> str:
    own = unmask_of(theatre, "bank-4")
    return theatre.ask(replace(own, signers=own.signers[:3], signatures=own.signatures[:3]))


@attack("protocol")
def one_signature_counted_twice(theatre: Theatre) -> str:
    own = unmask_of(theatre, "bank-4")
    return theatre.ask(replace(own, signers=[*own.signers[:3], own.signers[0]]))


@attack("bad-signature")
def signatures_over_another_survivor_set(theatre: Theatre) -> str:
    own = unmask_of(theatre, "bank-4")
    other = survivors_statement(own.digest, ["bank-0", "bank-1", "bank-2", "bank-4"])
    signing = seeded_identity("bank-1", 0).signing_private
    forged = keys.sign(signing, keys.SIGNED_SURVIVORS, other)
    return theatre.ask(replace(own, signatures=[own.signatures[0], forged, *own.signatures[2:]]))


@attack("bad-signature")
def signatures_replayed_from_another_epoch(theatre: Theatre) -> str:
    old = unmask_of(theatre, "bank-4")
    theatre.model = replace(theatre.model, epoch=4)
    own = unmask_of(theatre, "bank-4")
    assert old.survivors == own.survivors
    return theatre.ask(replace(own, signatures=old.signatures))


@attack("bad-signature")
def signatures_under_the_names_of_others(theatre: Theatre) -> str:
    own = unmask_of(theatre, "bank-4")
    return theatre.ask(replace(own, signatures=swapped(own.signatures, 1, 2)))


@attack("second-survivors")
def two_halves_are_told_of_different_survivors(theatre: Theatre) -> str:
    asked = sign_of(theatre)
    assert theatre.ask(asked) == "signed"
    return theatre.ask(replace(asked, survivors=["bank-0", "bank-1", "bank-2", "bank-4"]))


@attack("second-survivors")
def the_whole_cohort_after_a_signed_dropout(theatre: Theatre) -> str:
    asked = sign_of(theatre)
    assert theatre.ask(asked) == "signed"
    return theatre.ask(wire.UnmaskRequest(asked.digest, list(ALL), [], []))


@attack("unknown-peer")
def signatures_of_the_dropped(theatre: Theatre) -> str:
    own = unmask_of(theatre, "bank-4")
    return theatre.ask(replace(own, signers=[*own.signers[:3], "bank-4"]))


@attack("dead-and-alive")
def a_peer_is_dead_and_alive_at_once(theatre: Theatre) -> str:
    own = unmask_of(theatre)
    assert theatre.ask(own) == "unmasked"
    return theatre.ask(replace(own, survivors=list(ALL[:4])))


@attack("second-unmask")
def a_second_unmask(theatre: Theatre) -> str:
    own = unmask_of(theatre)
    assert theatre.ask(own) == "unmasked"
    return theatre.ask(own)


@attack("out-of-order")
def an_unmask_before_masking(theatre: Theatre) -> str:
    own = update_of(theatre)
    digest = RoundDescriptor.from_json(own.descriptor).digest()
    return theatre.ask(wire.UnmaskRequest(digest, list(ALL), [], []))


@attack("other-descriptor")
def survivors_of_a_descriptor_the_victim_never_saw(theatre: Theatre) -> str:
    return theatre.ask(replace(unmask_of(theatre), digest=bytes(32)))


@attack("other-descriptor")
def an_epoch_given_up_is_opened_after_all(theatre: Theatre) -> str:
    own = unmask_of(theatre)
    theatre.model = replace(theatre.model, epoch=4)
    assert theatre.ask(update_of(theatre)) == "updated"
    return theatre.ask(own)


# Rosters.


@attack("roster-grew")
def a_sybil_is_added_to_the_roster(theatre: Theatre) -> str:
    assert theatre.roster is not None
    sybil = seeded_identity("sybil", 0).member("sybil")
    grown = Roster(members=theatre.roster.members | {"sybil": sybil})
    return theatre.ask(wire.AdvertiseRequest("run", 0, 1, grown.to_bytes()))


@attack("roster-grew")
def a_key_is_replaced_in_the_roster(theatre: Theatre) -> str:
    assert theatre.roster is not None
    other = seeded_identity("bank-1", 7).member("bank-1")
    grown = Roster(members=theatre.roster.members | {"bank-1": other})
    return theatre.ask(wire.AdvertiseRequest("run", 0, 1, grown.to_bytes()))


@attack("roster-grew")
def a_revocation_is_taken_back(theatre: Theatre) -> str:
    assert theatre.roster is not None
    fewer = theatre.roster.without("bank-4").to_bytes()
    assert theatre.ask(wire.AdvertiseRequest("run", 0, 1, fewer)) == "advertised"
    return theatre.ask(wire.AdvertiseRequest("run", 0, 2, theatre.roster.to_bytes()))


@attack("other-roster")
def a_revocation_is_passed_over(theatre: Theatre) -> str:
    assert theatre.roster is not None
    fewer = theatre.roster.without("bank-4").to_bytes()
    assert theatre.ask(wire.AdvertiseRequest("run", 0, 1, fewer)) == "advertised"
    theatre.model = replace(theatre.model, epoch=2)
    return theatre.ask(theatre.held(wire.UpdateRequest)["bank-1"])


@attack("revoked-peer")
def the_victim_is_told_of_its_own_revocation(theatre: Theatre) -> str:
    assert theatre.roster is not None
    fewer = theatre.roster.without("bank-0").to_bytes()
    return theatre.ask(wire.AdvertiseRequest("run", 0, 1, fewer))


@attack("threshold")
def so_many_are_revoked_that_the_victim_is_isolated(theatre: Theatre) -> str:
    assert theatre.roster is not None
    few = theatre.roster.without("bank-1", "bank-2").to_bytes()
    return theatre.ask(wire.AdvertiseRequest("run", 0, 1, few))


@attack("revoked-peer")
def an_advert_signed_by_a_revoked_key(theatre: Theatre) -> str:
    assert theatre.roster is not None
    theatre.roster = theatre.roster.without("bank-4")
    own = update_of(theatre)
    revoked = described(own, lambda d: replace(d, cohort=ALL))
    return theatre.ask(
        replace(
            revoked,
            adverts=[*own.adverts, own.adverts[1]],
            sealed=[*own.sealed, own.sealed[1]],
            paths=[*own.paths, own.paths[1]],
        )
    )


@attack("other-roster")
def a_round_of_another_roster(theatre: Theatre) -> str:
    return theatre.ask(described(update_of(theatre), lambda d: replace(d, roster_hash="00")))


# Malformed.


def rewritten(request: wire.WireMessage, **fields: int) -> RecordDict:
    record = request.to_record()
    body = record[wire.RECORD]
    assert isinstance(body, ConfigRecord)
    body.update(fields)
    return record


@attack("other-protocol")
def a_message_of_another_version(theatre: Theatre) -> str:
    return theatre.send(rewritten(update_of(theatre), version=1))


@attack("protocol")
def a_message_with_an_unknown_field(theatre: Theatre) -> str:
    return theatre.send(rewritten(update_of(theatre), debug=1))


@attack("protocol")
def a_truncated_advert(theatre: Theatre) -> str:
    own = update_of(theatre)
    return theatre.ask(replace(own, adverts=[*own.adverts[:4], own.adverts[4][:-1]]))


@attack("protocol")
def an_oversized_list(theatre: Theatre) -> str:
    return theatre.ask(replace(unmask_of(theatre), survivors=["bank-0"] * (wire.MAX_ITEMS + 1)))


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_is_refused_for_its_reason(name: str) -> None:
    reason, play = ATTACKS[name]
    assert play(Theatre()) == reason


def test_there_are_more_than_enough_attacks_and_reasons() -> None:
    assert len(ATTACKS) >= 32
    assert len({reason for reason, _ in ATTACKS.values()}) >= 32


def test_the_same_stage_without_an_attack_opens() -> None:
    theatre = Theatre()
    assert theatre.attempt() == ALL
    assert theatre.attempt() == ALL
    assert not theatre.refused


def test_a_copy_of_the_whole_ledger_is_as_good_as_the_ledger() -> None:
    theatre = Theatre()
    assert theatre.attempt() == ALL
    theatre.restore(theatre.backup())
    assert theatre.ask(wire.JoinRequest("run", ["bank-0"], [theatre.last()])) == "joined"
    assert theatre.attempt() == ALL
    assert not theatre.refused


# What no institution can see alone, the sum shows.


def shown_to_one(
    theatre: Theatre, change: Callable[[wire.UpdateRequest], wire.UpdateRequest]
) -> tuple[str, ...]:
    right = theatre.call

    def call(requests: Any, expected: Any, group: str) -> Any:
        asked = dict(requests)
        if isinstance(asked.get("bank-0"), wire.UpdateRequest):
            asked["bank-0"] = change(asked["bank-0"])
        return right(asked, expected, group)

    theatre.call = call  # type: ignore[method-assign]
    return Attempt(theatre.model, theatre.plan, "run", theatre).run()[0]


def test_another_model_described_to_one_institution_leaves_it_out() -> None:
    def other(request: wire.UpdateRequest) -> wire.UpdateRequest:
        model = bytes(len(request.model))
        honest = described(request, lambda d: replace(d, model_hash=wire.model_hash(model)))
        return replace(honest, model=model)

    # Its vector is signed for what it saw: it counts as a dropout, and the sum is the others'.
    theatre = Theatre()
    assert shown_to_one(theatre, other) == ALL[1:]


def test_another_mask_described_to_one_institution_leaves_it_out() -> None:
    def other(request: wire.UpdateRequest) -> wire.UpdateRequest:
        mask = half_mask(theatre, 0.75)
        kept = int(mask.sum())
        honest = described(
            request,
            lambda d: replace(
                d,
                segments=_shorter(d, kept),
                mask_hash=mask_hash(mask),
                model_hash=wire.model_hash(request.model[: 4 * kept]),
            ),
        )
        return replace(honest, mask=pack_mask(mask), model=request.model[: 4 * kept])

    theatre = Theatre()
    assert shown_to_one(theatre, other) == ALL[1:]


def test_a_copied_key_costs_both_their_round_and_nobody_more() -> None:
    theatre = Theatre(prunable(toy_plan(7)))
    right, asked = theatre.call, []

    def call(requests: Any, expected: Any, group: str) -> Any:
        replies = right(requests, expected, group)
        if expected is wire.AdvertiseReply:
            session = Session(
                run="run",
                plan_hash=theatre.plan.digest(),
                roster_hash=theatre.roster.digest,  # type: ignore[union-attr]
                round=theatre.model.round,
                epoch=theatre.model.epoch,
            )
            key = Advert.from_bytes(replies["bank-2"].advert).mask_public
            own = Advert.from_bytes(replies["bank-1"].advert)
            copied = signed(own.model_copy(update={"mask_public": key}), session, "bank-1")
            replies["bank-1"] = replace(replies["bank-1"], advert=copied.to_bytes())
        elif expected is wire.UpdateReply:
            asked.extend(requests)
        return replies

    theatre.call = call  # type: ignore[method-assign]
    attempt = Attempt(theatre.model, theatre.plan, "run", theatre)
    others = tuple(name for name in theatre.plan.names if name not in {"bank-1", "bank-2"})
    assert attempt.run()[0] == tuple(asked) == others
    assert not attempt.culprits
    assert not theatre.refused


@pytest.mark.parametrize(("threshold", "colluders"), [(4, 3), (4, 100), (3, 1), (5, 5)])
def test_more_colluders_than_the_threshold_withstands_are_refused(
    threshold: int, colluders: int
) -> None:
    with pytest.raises(ColludersError):
        Terms(threshold, colluders).require(5)
    fields = Theatre().plan.to_dict()
    fields["aggregation"] |= {"threshold": threshold, "colluders": colluders}
    with pytest.raises(PlanError, match=f"not {colluders}: lower aggregation.colluders"):
        plan_from_dict(fields)


def test_a_plan_with_threshold_one_is_refused() -> None:
    fields = Theatre().plan.to_dict()
    fields["aggregation"] |= {"threshold": 1}
    with pytest.raises(PlanError, match="threshold 1"):
        plan_from_dict(fields)
