"""Whole rounds: masks cancel for whoever leaves whenever, and culprits are found."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.crypto import merkle, prg, secagg
from common.crypto.keys import SIGNED_ADVERT, sign
from common.crypto.masking import pair_keys
from common.crypto.opening import SpoiledOpeningError, require_offer, sharing
from common.crypto.refusals import (
    BadKeyError,
    BadSignatureError,
    DuplicatePeerError,
    RingError,
    ShareAlteredError,
)
from common.crypto.ring import RingVector, check_slots
from common.crypto.session import Offer, Reveal
from common.crypto.terms import Terms
from common.descriptor import Segment
from common.errors import AggregationError, ProtocolError, TooFewSurvivorsError
from simulations.rehearsal import Performance, Rehearsal

FIVE = Rehearsal.of(5)
NAMES = FIVE.names


def ring_vectors(of: Rehearsal = FIVE) -> dict[str, RingVector]:
    draw = np.random.default_rng(1)
    return {name: draw.integers(0, 2**of.bits, of.length, np.uint32) for name in of.names}


def ring_sum(survivors: Collection[str], of: Rehearsal = FIVE) -> RingVector:
    vectors = ring_vectors(of)
    whole = np.stack([vectors[name] for name in survivors]).sum(axis=0, dtype=np.uint64)
    return np.asarray(whole & np.uint64(2**of.bits - 1), np.uint32)


@pytest.fixture(scope="module")
def played() -> Performance:
    return FIVE.mask(ring_vectors())


@pytest.mark.parametrize(
    ("cohort", "survivors", "bearers"),
    [
        (NAMES, NAMES, NAMES),
        (NAMES[1:], NAMES[1:], NAMES[1:]),
        (NAMES, NAMES[1:], NAMES[1:]),
        (NAMES, NAMES, NAMES[:-1]),
        (NAMES, NAMES[:4], NAMES[:4]),
    ],
    ids=["nobody leaves", "one has no keys", "one masks nothing", "one reveals nothing", "another"],
)
def test_masks_cancel_whoever_leaves(
    cohort: tuple[str, ...], survivors: tuple[str, ...], bearers: tuple[str, ...]
) -> None:
    performance = FIVE.mask(ring_vectors(), cohort)
    opened = performance.open(survivors, performance.reveals(survivors, bearers))
    assert np.array_equal(opened.total, ring_sum(survivors))
    assert opened.culprits == ()


@given(st.data(), st.integers(3, 7), st.integers(16, 32))
@settings(max_examples=20, deadline=None)
def test_any_cohort_threshold_and_dropouts(data: st.DataObject, n: int, bits: int) -> None:
    threshold = data.draw(st.integers(n // 2 + 1, n))
    rehearsal = replace(Rehearsal.of(n), terms=Terms(threshold, 0), bits=bits, length=9)

    def some(of: Collection[str]) -> list[str]:
        return data.draw(st.permutations(sorted(of)))[
            : data.draw(st.integers(max(threshold, 2), len(of)))
        ]

    cohort = some(rehearsal.names)
    survivors = some(cohort)
    performance = rehearsal.mask(ring_vectors(rehearsal), cohort)
    opened = performance.open(survivors, performance.reveals(survivors, some(survivors)))
    assert np.array_equal(opened.total, ring_sum(survivors, rehearsal))


def test_threshold_many_signatures_suffice_and_late_signers_may_reveal(played: Performance) -> None:
    survivors = NAMES[:4]
    signatures = played.sign(survivors, survivors)
    assert played.reveal(NAMES[0], survivors, signatures)[1].survived == (True,) * 4 + (False,)


# What the server sees.

LENGTH = 40_000


def evenness(values: RingVector, bits: int) -> float:
    """Worst chi-squared over 64 bins of the top and of the low bits, in deviations from even."""
    found = []
    for bins in (values >> np.uint32(bits - 6), values & np.uint32(63)):
        counts = np.bincount(bins, minlength=64)
        even = len(values) / 64
        found.append((((counts - even) ** 2 / even).sum() - 63) / np.sqrt(2 * 63))
    return float(max(map(abs, found)))


def correlation(one: RingVector, other: RingVector) -> float:
    return abs(float(np.corrcoef(one, other)[0, 1])) * float(np.sqrt(len(one)))


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_one_masked_vector_is_uniform_whatever_the_update(bits: int) -> None:
    updates = [np.zeros(LENGTH, np.uint32), np.arange(LENGTH, dtype=np.uint32) % np.uint32(11)]
    seen = []
    for seed, update in enumerate(updates):
        rehearsal = replace(FIVE, seed=seed, bits=bits, length=LENGTH)
        _, masked = secagg.mask(rehearsal.accept(NAMES[3]), update)
        seen.append(masked[:LENGTH])
        assert evenness(masked, bits) < 4.5
        assert correlation(masked[:LENGTH], updates[1]) < 4.5
        assert evenness(update, bits) > 100  # the same test tells a bare update at once
    assert correlation(seen[0], seen[1]) < 4.5


def test_a_vector_that_arrives_after_its_sender_was_given_up_stays_hidden() -> None:
    rehearsal = replace(FIVE, length=LENGTH)
    accepted = rehearsal.accept("bank-0003")
    _, masked = secagg.mask(accepted, np.zeros(LENGTH, np.uint32))
    private = rehearsal.advertised["bank-0003"][0].mask_private
    adverts = {name: offer.advert for name, offer in rehearsal.offers.items()}
    known = pair_keys("bank-0003", private, NAMES, adverts, accepted.digest)
    prg.apply(masked, 24, known.subtracted, known.added)
    assert evenness(masked, 24) < 4.5


@pytest.mark.parametrize("change", [{"mask_hash": "de"}, {"model_hash": "cd"}])
def test_another_descriptor_shown_to_one_institution_fails_the_check_slots(
    played: Performance, change: dict[str, str]
) -> None:
    misled = replace(played.descriptor, **change)  # type: ignore[arg-type]
    accepted = FIVE.accept(NAMES[2], misled)
    _, astray = secagg.mask(accepted, ring_vectors()[NAMES[2]])
    with pytest.raises(AggregationError, match="check slots"):
        played.open(NAMES, masked=played.masked | {NAMES[2]: astray})
    assert np.array_equal(played.open(NAMES).total, ring_sum(NAMES))


@pytest.mark.parametrize("bits", range(16, 33))
def test_check_slots_hold_128_bits_and_follow_the_descriptor(bits: int) -> None:
    checks = check_slots(bytes(32), bits)
    assert (len(checks) - 1) * bits < 128 <= len(checks) * bits
    assert int(checks.max()) < 2**bits
    assert not np.array_equal(checks, check_slots(b"\1" * 32, bits))


def test_a_ring_of_two_values_is_refused() -> None:
    with pytest.raises(RingError):
        replace(FIVE.descriptor(), ring_bits=1)


# Blame.


def test_a_revealer_whose_key_opens_nothing_is_named_and_left_out(played: Performance) -> None:
    reveals = played.reveals(NAMES)
    bad = reveals[NAMES[1]]
    flipped = (bytes([bad.openings[0][0] ^ 1]) + bad.openings[0][1:], *bad.openings[1:])  # type: ignore[index]
    lie = bad.model_copy(update={"openings": flipped})
    opened = played.open(NAMES, reveals | {NAMES[1]: lie})
    assert opened.culprits == (NAMES[1],)
    assert np.array_equal(opened.total, ring_sum(NAMES))
    swapped = reveals | {NAMES[0]: reveals[NAMES[1]], NAMES[1]: reveals[NAMES[0]]}
    with pytest.raises(TooFewSurvivorsError, match="3 sound reveals"):
        played.open(NAMES, swapped)


def test_a_reveal_for_other_survivors_blames_the_revealer(played: Performance) -> None:
    reveals = played.reveals(NAMES)
    other = reveals[NAMES[1]].model_copy(update={"survived": (True,) * 4 + (False,)})
    assert played.open(NAMES, reveals | {NAMES[1]: other}).culprits == (NAMES[1],)


def cheat(name: str, sealed: tuple[bytes, ...]) -> Rehearsal:
    """Return five institutions one of which signs and sends other sealed shares."""
    rehearsal = replace(FIVE)
    prepared, offer = FIVE.advertised[name]
    draft = offer.advert.model_copy(update={"root": merkle.root(sealed)})
    key = FIVE.parties[name].identity.signing_private
    signature = sign(key, SIGNED_ADVERT, draft.statement(FIVE.session.digest(), name))
    advert = draft.model_copy(update={"signature": signature})
    cheating = (prepared.model_copy(update={"advert": advert}), Offer(advert, sealed))
    rehearsal.__dict__["advertised"] = FIVE.advertised | {name: cheating}
    return rehearsal


def test_a_share_that_does_not_open_costs_its_dealer_nothing_else() -> None:
    sealed = FIVE.offers[NAMES[1]].sealed
    rehearsal = cheat(NAMES[1], (bytes(98), *sealed[1:]))
    assert rehearsal.accept(NAMES[0]).spoiled == (NAMES[1],)
    opened = rehearsal.mask(ring_vectors()).open(NAMES)
    assert opened.culprits == ()
    assert np.array_equal(opened.total, ring_sum(NAMES))


def withholding(reveal: Reveal, place: int) -> Reveal:
    openings = (*reveal.openings[:place], None, *reveal.openings[place + 1 :])
    return reveal.model_copy(update={"openings": openings})


def test_a_revealer_that_withholds_an_opening_cannot_frame_its_dealer(played: Performance) -> None:
    survivors = NAMES[:4]
    reveals = played.reveals(survivors)
    framing = reveals | {NAMES[3]: withholding(reveals[NAMES[3]], 1)}
    with pytest.raises(AggregationError, match="3 openings were given") as caught:
        played.open(survivors, framing)
    assert not isinstance(caught.value, SpoiledOpeningError)
    assert np.array_equal(played.open(survivors, reveals).total, ring_sum(survivors))


def test_a_dealer_whose_shares_open_nowhere_loses_the_round_unnamed() -> None:
    performance = cheat(NAMES[1], (bytes(98),) * 5).mask(ring_vectors())
    with pytest.raises(AggregationError, match="0 openings") as caught:
        performance.open(NAMES)
    assert not isinstance(caught.value, SpoiledOpeningError)


def test_who_lies_is_named_though_another_withholds(played: Performance) -> None:
    survivors = NAMES[:4]
    reveals = played.reveals(survivors)
    framing = reveals | {NAMES[3]: withholding(reveals[NAMES[3]], 1)}
    offer = FIVE.offers[NAMES[2]]
    draft = offer.advert.model_copy(update={"seed_hash": bytes(32)})
    lying = replace(played, offers=played.offers | {NAMES[2]: Offer(draft, offer.sealed)})
    with pytest.raises(SpoiledOpeningError) as caught:
        lying.open(survivors, framing)
    assert caught.value.culprits == (NAMES[2],)


def test_a_dealer_of_another_secret_is_named() -> None:
    offer = FIVE.offers[NAMES[1]]
    draft = offer.advert.model_copy(update={"seed_hash": bytes(32)})
    performance = FIVE.mask(ring_vectors())
    lying = performance.offers | {NAMES[1]: Offer(draft, offer.sealed)}
    with pytest.raises(SpoiledOpeningError, match="bank-0001"):
        replace(performance, offers=lying).open(NAMES)
    dropped = offer.advert.model_copy(update={"mask_public": bytes(31) + b"\1"})
    lying = performance.offers | {NAMES[4]: Offer(dropped, FIVE.offers[NAMES[4]].sealed)}
    with pytest.raises(SpoiledOpeningError, match="bank-0004"):
        replace(performance, offers=lying).open(NAMES[:4])


# What the server refuses.


def test_offers_are_checked_as_a_whole() -> None:
    good = FIVE.offers[NAMES[0]]
    require_offer(good, FIVE.session, FIVE.roster, NAMES[0])
    for bad, refusal in (
        (Offer(good.advert, (*good.sealed[1:], good.sealed[0])), ShareAlteredError),
        (Offer(good.advert, good.sealed[:4]), ShareAlteredError),
        (FIVE.offers[NAMES[1]], BadSignatureError),
    ):
        with pytest.raises(refusal):
            require_offer(bad, FIVE.session, FIVE.roster, NAMES[0])


def resigned(name: str, **keys: bytes) -> Offer:
    """Return an offer with other public keys, signed by its owner."""
    draft = FIVE.offers[name].advert.model_copy(update=keys)
    private = FIVE.parties[name].identity.signing_private
    signature = sign(private, SIGNED_ADVERT, draft.statement(FIVE.session.digest(), name))
    return Offer(draft.model_copy(update={"signature": signature}), FIVE.offers[name].sealed)


def test_an_offer_with_a_low_order_key_is_refused() -> None:
    weak = resigned(NAMES[0], seal_public=bytes(32))
    with pytest.raises(BadKeyError):
        require_offer(weak, FIVE.session, FIVE.roster, NAMES[0])


def test_an_offer_of_one_key_for_both_uses_is_refused() -> None:
    own = FIVE.offers[NAMES[0]].advert
    double = resigned(NAMES[0], seal_public=own.mask_public)
    with pytest.raises(DuplicatePeerError, match="bank-0000"):
        require_offer(double, FIVE.session, FIVE.roster, NAMES[0])
    require_offer(resigned(NAMES[0]), FIVE.session, FIVE.roster, NAMES[0])


@pytest.mark.parametrize("use", ["mask_public", "seal_public"])
def test_all_that_share_a_key_are_found(use: str) -> None:
    assert sharing(FIVE.offers) == ()
    copied = {use: FIVE.offers[NAMES[3]].advert.mask_public}
    offers = FIVE.offers | {name: resigned(name, **copied) for name in NAMES[:2]}
    assert sharing(offers) == (NAMES[0], NAMES[1], NAMES[3])


def test_too_few_survivors_or_reveals_leave_the_sum_closed(played: Performance) -> None:
    reveals = played.reveals(NAMES)
    with pytest.raises(TooFewSurvivorsError, match="3 sound reveals are below"):
        played.open(NAMES, {name: reveals[name] for name in NAMES[:3]})
    with pytest.raises(TooFewSurvivorsError, match="3 survivors are below"):
        played.open(NAMES[:3], {})


def test_unknown_names_are_refused(played: Performance) -> None:
    reveals = played.reveals(NAMES)
    with pytest.raises(AggregationError, match="among the cohort"):
        played.open(NAMES, reveals, played.masked | {"gorse": played.masked[NAMES[0]]})
    with pytest.raises(AggregationError, match="among the survivors"):
        played.open(NAMES[:4], reveals)
    with pytest.raises(AggregationError, match="among the offers"):
        replace(played, offers={}).open(NAMES, reveals)


@pytest.mark.parametrize(
    "vector", [np.zeros(40, np.uint32), np.zeros(46), np.full(46, 2**24, np.uint32)]
)
def test_a_masked_vector_of_another_shape_is_refused(
    played: Performance, vector: RingVector
) -> None:
    with pytest.raises(ProtocolError):
        played.open(NAMES, masked=played.masked | {NAMES[0]: vector})


@pytest.mark.parametrize("vector", [np.zeros(39, np.uint32), np.full(40, 2**24, np.uint32)])
def test_a_vector_that_does_not_fit_the_descriptor_is_not_masked(vector: RingVector) -> None:
    with pytest.raises(ProtocolError):
        secagg.mask(FIVE.accept(NAMES[0]), vector)
    longer = replace(FIVE.descriptor(), segments=(Segment("update", 41, 10.0, 1.0),))
    with pytest.raises(ProtocolError):
        secagg.mask(FIVE.accept(NAMES[0], longer), ring_vectors()[NAMES[0]])
