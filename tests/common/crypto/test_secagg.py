"""Whole rounds: masks cancel for whoever leaves whenever, and every misstep is refused."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.crypto import prg
from common.crypto.masking import pair_keys
from common.crypto.opening import unmask
from common.crypto.refusals import (
    BadKeyError,
    CohortWithoutMeError,
    DeadAndAliveError,
    DuplicatePeerError,
    MaskedTwiceError,
    MissingShareError,
    NotASurvivorError,
    OtherSessionError,
    OutOfOrderError,
    OwnKeyAlteredError,
    ShareAlteredError,
    SurvivorSetTooSmallError,
    ThresholdError,
    TooFewParticipantsError,
    UnknownPeerError,
)
from common.crypto.ring import RingVector
from common.crypto.secagg import advertise, mask, reveal, share
from common.crypto.session import Advert, Reveal, Session
from common.crypto.stages import Advertised, Masked, Revealed, Shared
from common.descriptor import RoundDescriptor, Segment
from common.entropy import SeededEntropy
from common.errors import AggregationError, ProtocolError, TooFewSurvivorsError

NAMES = ("ash", "birch", "cedar", "elm", "fir")
SESSION = Session(run="r", plan_hash="aa", roster_hash="bb", round=3, epoch=5)


def descriptor(
    cohort: Collection[str], threshold: int, bits: int = 24, length: int = 40
) -> RoundDescriptor:
    return RoundDescriptor(
        **SESSION.model_dump(),
        cohort=tuple(sorted(cohort)),
        threshold=threshold,
        ring_bits=bits,
        model_hash="cc",
        mask_hash="dd",
        segments=(Segment("update", length, 10.0, 1.0),),
    )


def ring_vectors(names: Collection[str], bits: int = 24, length: int = 40) -> dict[str, RingVector]:
    draw = np.random.default_rng(1)
    return {name: draw.integers(0, 2**bits, length, np.uint32) for name in names}


@dataclass(frozen=True)
class Round:
    """A round up to its reveals."""

    layout: RoundDescriptor
    adverts: dict[str, Advert]
    masked: dict[str, RingVector]
    reveals: dict[str, Reveal]

    def open(self) -> RingVector:
        return unmask(self.layout, self.adverts, self.masked, self.reveals)


@dataclass(frozen=True)
class Deal:
    """Everyone has advertised and shared; every state has been through its bytes."""

    threshold: int
    adverts: dict[str, Advert]
    states: dict[str, Shared]
    sealed: dict[str, dict[str, bytes]]

    @classmethod
    def among(cls, names: Collection[str], threshold: int, seed: int = 0) -> "Deal":
        entropy = {name: SeededEntropy(seed, name) for name in names}
        begun = {n: advertise(n, SESSION, entropy[n].stream("advertise")) for n in names}
        adverts = {n: Advert.from_bytes(advert.to_bytes()) for n, (_, advert) in begun.items()}
        states, sealed = {}, {}
        for name, (state, _) in begun.items():
            stored = Advertised.from_bytes(state.to_bytes())
            shared, sealed[name] = share(stored, adverts, threshold, entropy[name].stream("share"))
            states[name] = Shared.from_bytes(shared.to_bytes())
        return cls(threshold, adverts, states, sealed)

    def inbox(self, me: str, cohort: Collection[str]) -> dict[str, bytes]:
        return {peer: self.sealed[peer][me] for peer in cohort if peer != me}

    def mask(
        self, layouts: Mapping[str, RoundDescriptor], vectors: Mapping[str, RingVector]
    ) -> tuple[dict[str, Masked], dict[str, RingVector]]:
        done = {
            name: mask(self.states[name], self.inbox(name, layout.cohort), layout, vectors[name])
            for name, layout in layouts.items()
        }
        states = {name: Masked.from_bytes(state.to_bytes()) for name, (state, _) in done.items()}
        return states, {name: masked for name, (_, masked) in done.items()}

    def play(
        self,
        layout: RoundDescriptor,
        vectors: Mapping[str, RingVector],
        survivors: Collection[str],
        bearers: Collection[str] | None = None,
        astray: Mapping[str, RoundDescriptor] | None = None,
    ) -> Round:
        layouts = dict.fromkeys(survivors, layout) | dict(astray or {})
        states, masked = self.mask(layouts, vectors)
        reveals = {}
        for name in survivors if bearers is None else bearers:
            after, opened = reveal(states[name], survivors)
            assert Revealed.from_bytes(after.to_bytes()) == after
            reveals[name] = Reveal.from_bytes(opened.to_bytes())
        return Round(layout, self.adverts, masked, reveals)


def ring_sum(vectors: Mapping[str, RingVector], names: Collection[str], bits: int) -> RingVector:
    whole = sum(vectors[name].astype(object) for name in names) % 2**bits
    return np.asarray(whole, np.uint32)


@pytest.mark.parametrize(
    ("cohort", "survivors", "bearers"),
    [
        (NAMES, NAMES, NAMES),
        (NAMES[1:], NAMES[1:], NAMES[1:]),
        (NAMES, NAMES[1:], NAMES[1:]),
        (NAMES, NAMES, NAMES[:-1]),
        (NAMES[:4], NAMES[1:4], NAMES[1:4]),
        (NAMES[:3], NAMES[:3], NAMES[:3]),
        (NAMES, NAMES[2:], NAMES[2:]),
        (NAMES, NAMES, NAMES[2:]),
    ],
    ids=[
        "nobody leaves",
        "one never shares",
        "one shares but never masks",
        "one masks but never reveals",
        "one leaves at either stage",
        "the most never share",
        "the most never mask",
        "the most never reveal",
    ],
)
def test_masks_cancel_whoever_leaves(
    cohort: tuple[str, ...], survivors: tuple[str, ...], bearers: tuple[str, ...]
) -> None:
    vectors = ring_vectors(NAMES)
    played = Deal.among(NAMES, 3).play(descriptor(cohort, 3), vectors, survivors, bearers)
    assert np.array_equal(played.open(), ring_sum(vectors, survivors, 24))


@given(st.data(), st.integers(2, 7), st.integers(16, 32))
@settings(max_examples=25, deadline=None)
def test_any_cohort_threshold_and_dropouts(data: st.DataObject, n: int, bits: int) -> None:
    names = [f"bank {i}" for i in range(n)]
    threshold = data.draw(st.integers(n // 2 + 1, n))

    def some(of: list[str]) -> list[str]:
        return data.draw(st.permutations(of))[: data.draw(st.integers(threshold, len(of)))]

    cohort = some(names)
    survivors = some(cohort)
    vectors = ring_vectors(names, bits, 9)
    layout = descriptor(cohort, threshold, bits, 9)
    deal = Deal.among(names, threshold, data.draw(st.integers(0, 99)))
    played = deal.play(layout, vectors, survivors, some(survivors))
    assert np.array_equal(played.open(), ring_sum(vectors, survivors, bits))


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
    return abs(float(np.corrcoef(one, other)[0, 1])) * float(np.sqrt(LENGTH))


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_one_masked_vector_is_uniform_whatever_the_update(bits: int) -> None:
    layout = descriptor(NAMES, 4, bits, LENGTH)
    updates = [np.zeros(LENGTH, np.uint32), np.arange(LENGTH, dtype=np.uint32) % np.uint32(11)]
    seen = []
    for seed, update in enumerate(updates):
        deal = Deal.among(NAMES, 4, seed)
        _, masked = deal.mask({"elm": layout}, {"elm": update})
        seen.append(masked["elm"])
        assert evenness(masked["elm"], bits) < 4.5
        assert correlation(masked["elm"], updates[1]) < 4.5
        assert evenness(update, bits) > 100  # the same test tells a bare update at once
    assert correlation(seen[0], seen[1]) < 4.5


def test_the_mask_is_the_same_whatever_the_update() -> None:
    layout, deal = descriptor(NAMES, 4), Deal.among(NAMES, 4)
    first, second = ring_vectors(NAMES)["ash"], ring_vectors(NAMES)["elm"]
    masks = [
        (deal.mask({"ash": layout}, {"ash": vector})[1]["ash"] - vector) & np.uint32(2**24 - 1)
        for vector in (first, second)
    ]
    assert np.array_equal(masks[0], masks[1])


def test_a_vector_that_arrives_after_its_sender_was_given_up_stays_hidden() -> None:
    layout, deal = descriptor(NAMES, 4, 24, LENGTH), Deal.among(NAMES, 4)
    late = np.zeros(LENGTH, np.uint32)
    _, masked = deal.mask({"elm": layout}, {"elm": late})
    known = pair_keys("elm", deal.states["elm"].mask_private, NAMES, deal.adverts, layout.digest())
    bared = masked["elm"]
    prg.apply(bared, 24, known.subtracted, known.added)
    assert evenness(bared, 24) < 4.5
    assert (bared != late).mean() > 0.99


def test_another_descriptor_shown_to_one_institution_spoils_the_sum() -> None:
    vectors, layout = ring_vectors(NAMES), descriptor(NAMES, 4)
    deal = Deal.among(NAMES, 4)
    fair = deal.play(layout, vectors, NAMES)
    right = ring_sum(vectors, NAMES, 24)
    assert np.array_equal(fair.open(), right)
    for other in (replace(layout, mask_hash="de"), replace(layout, model_hash="cd")):
        misled = deal.play(layout, vectors, NAMES, astray={"elm": other})
        assert (misled.open() != right).mean() > 0.9
    smaller = replace(layout, cohort=NAMES[:4])
    elsewhere = deal.play(smaller, vectors, NAMES[:4], astray={"elm": layout})
    with pytest.raises(AggregationError, match="'elm' is for other survivors"):
        elsewhere.open()


# What an institution refuses.


def begin(name: str = "ash") -> tuple[Advertised, dict[str, Advert], Callable[[int], bytes]]:
    begun = {n: advertise(n, SESSION, SeededEntropy(0, n).stream("advertise")) for n in NAMES}
    adverts = {n: advert for n, (_, advert) in begun.items()}
    return begun[name][0], adverts, SeededEntropy(0, name).stream("share")


def test_an_altered_or_missing_own_key_is_refused() -> None:
    state, adverts, stream = begin()
    for field in ("mask_public", "seal_public", "seed_hash", "session_tag"):
        altered = adverts["ash"].model_copy(update={field: getattr(adverts["elm"], field)[::-1]})
        with pytest.raises(OwnKeyAlteredError):
            share(state, adverts | {"ash": altered}, 4, stream)
    del adverts["ash"]
    with pytest.raises(OwnKeyAlteredError):
        share(state, adverts, 3, stream)


def test_an_advert_of_another_session_is_refused() -> None:
    state, adverts, stream = begin()
    for change in ({"epoch": 6}, {"round": 4}, {"run": "s"}, {"plan_hash": "ab"}):
        other = SESSION.model_copy(update=change)
        _, stale = advertise("elm", other, SeededEntropy(7, "elm").stream("advertise"))
        with pytest.raises(OtherSessionError, match=r"\['elm'\]"):
            share(state, adverts | {"elm": stale}, 4, stream)


@pytest.mark.parametrize("field", ["mask_public", "seal_public"])
def test_a_key_under_two_names_is_refused(field: str) -> None:
    state, adverts, stream = begin()
    for source in ("birch", "ash"):
        copied = adverts["elm"].model_copy(update={field: getattr(adverts[source], field)})
        with pytest.raises(DuplicatePeerError):
            share(state, adverts | {"elm": copied}, 4, stream)


def test_too_few_adverts_and_low_thresholds_are_refused() -> None:
    state, adverts, stream = begin()
    with pytest.raises(TooFewParticipantsError):
        share(state, adverts, 6, stream)
    with pytest.raises(TooFewParticipantsError):
        share(state, {"ash": adverts["ash"]}, 1, stream)
    for threshold in (2, 0, -1):
        with pytest.raises(ThresholdError):
            share(state, adverts, threshold, stream)


def test_low_order_keys_are_refused() -> None:
    state, adverts, stream = begin()
    weak = adverts["elm"].model_copy(update={"seal_public": bytes(32)})
    with pytest.raises(BadKeyError):
        share(state, adverts | {"elm": weak}, 4, stream)
    weak = adverts["elm"].model_copy(update={"mask_public": bytes(32)})
    shared, _ = share(state, adverts | {"elm": weak}, 4, stream)
    with pytest.raises(BadKeyError):
        pair_keys("ash", shared.mask_private, NAMES, shared.adverts, bytes(32))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"epoch": 6}, OtherSessionError),
        ({"round": 4}, OtherSessionError),
        ({"run": "s"}, OtherSessionError),
        ({"plan_hash": "ab"}, OtherSessionError),
        ({"roster_hash": "ba"}, OtherSessionError),
        ({"threshold": 3}, ThresholdError),
        ({"cohort": NAMES[1:]}, CohortWithoutMeError),
        ({"cohort": (*NAMES, "gorse")}, UnknownPeerError),
        ({"cohort": NAMES[:3]}, TooFewParticipantsError),
        ({"segments": (Segment("update", 41, 10.0, 1.0),)}, ProtocolError),
        ({"ring_bits": 23}, ProtocolError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
def test_a_descriptor_that_does_not_fit_the_deal_is_refused(
    change: dict[str, object], refusal: type[ProtocolError]
) -> None:
    deal = Deal.among(NAMES, 4)
    layout = replace(descriptor(NAMES, 4), **change)  # type: ignore[arg-type]
    vector = np.full(40, 2**24 - 1, np.uint32)
    inbox = {peer: b"" for peer in layout.cohort if peer != "ash"}
    with pytest.raises(refusal):
        mask(deal.states["ash"], inbox, layout, vector)


def test_an_inbox_that_does_not_fit_the_cohort_is_refused() -> None:
    deal, layout, vector = Deal.among(NAMES, 4), descriptor(NAMES, 4), np.zeros(40, np.uint32)
    good = deal.inbox("ash", NAMES)
    ash = deal.states["ash"]
    with pytest.raises(MissingShareError, match="elm"):
        mask(ash, {peer: data for peer, data in good.items() if peer != "elm"}, layout, vector)
    with pytest.raises(UnknownPeerError, match="gorse"):
        mask(ash, good | {"gorse": good["elm"]}, layout, vector)
    with pytest.raises(UnknownPeerError, match="fir"):
        mask(ash, good, replace(layout, cohort=NAMES[:4]), vector)


def test_altered_and_swapped_sealed_shares_are_refused() -> None:
    deal, layout, vector = Deal.among(NAMES, 4), descriptor(NAMES, 4), np.zeros(40, np.uint32)
    good = deal.inbox("ash", NAMES)
    other_receiver = deal.sealed["elm"]["fir"]
    own_reflected = deal.sealed["ash"]["elm"]
    other_threshold = Deal.among(NAMES, 3).sealed["elm"]["ash"]
    flipped = good["elm"][:-1] + bytes([good["elm"][-1] ^ 1])
    for bad in (good["fir"], other_receiver, own_reflected, other_threshold, flipped, b""):
        with pytest.raises(ShareAlteredError, match="'elm'"):
            mask(deal.states["ash"], good | {"elm": bad}, layout, vector)
    mask(deal.states["ash"], good, layout, vector)


def masked_state() -> Masked:
    vectors = ring_vectors(NAMES)
    return Deal.among(NAMES, 4).mask({"ash": descriptor(NAMES, 4)}, vectors)[0]["ash"]


@pytest.mark.parametrize(
    ("survivors", "refusal"),
    [
        (NAMES[1:], NotASurvivorError),
        (NAMES[:3], SurvivorSetTooSmallError),
        ((*NAMES[:4], "ash"), DuplicatePeerError),
        ((*NAMES, "gorse"), UnknownPeerError),
        ((), NotASurvivorError),
    ],
)
def test_a_survivor_set_that_does_not_fit_is_refused(
    survivors: tuple[str, ...], refusal: type[ProtocolError]
) -> None:
    with pytest.raises(refusal):
        reveal(masked_state(), survivors)


def test_a_reveal_gives_one_share_a_member_of_the_right_kind() -> None:
    state = masked_state()
    _, opened = reveal(state, NAMES[:4])
    assert opened.survived == (True, True, True, True, False)
    assert opened.shares[:4] == tuple(state.held[name].seed_share for name in NAMES[:4])
    assert opened.shares[4] == state.held["fir"].key_share


def test_stored_stages_go_forward_only() -> None:
    deal = Deal.among(NAMES, 4)
    advertised, _, _ = begin()
    masked = masked_state()
    revealed, _ = reveal(masked, NAMES)
    shared = deal.states["ash"]
    for data in (masked.to_bytes(), revealed.to_bytes()):
        with pytest.raises(MaskedTwiceError):
            Shared.from_bytes(data)
    with pytest.raises(DeadAndAliveError):
        Masked.from_bytes(revealed.to_bytes())
    with pytest.raises(OutOfOrderError, match="has to come first"):
        Masked.from_bytes(shared.to_bytes())
    with pytest.raises(OutOfOrderError, match="has to come first"):
        Shared.from_bytes(advertised.to_bytes())
    with pytest.raises(OutOfOrderError, match="already 'shared'"):
        Advertised.from_bytes(shared.to_bytes())


# What the server refuses to open.


def play(survivors: Collection[str] = NAMES[:4]) -> Round:
    return Deal.among(NAMES, 4).play(descriptor(NAMES, 4), ring_vectors(NAMES), survivors)


def test_too_few_survivors_or_reveals_leave_the_sum_closed() -> None:
    good = play()
    fewer = dict(list(good.reveals.items())[:3])
    with pytest.raises(TooFewSurvivorsError, match="3 reveals are below the threshold of 4"):
        replace(good, reveals=fewer).open()
    masked = {name: good.masked[name] for name in NAMES[:3]}
    with pytest.raises(TooFewSurvivorsError, match="3 survivors are below"):
        replace(good, masked=masked, reveals=fewer).open()


@pytest.mark.parametrize("index", range(5))
def test_a_tampered_share_is_noticed(index: int) -> None:
    good = play()
    shares = list(good.reveals["cedar"].shares)
    shares[index] = bytes([0]) + shares[index][1:-1] + bytes([shares[index][-1] ^ 1])
    bad = good.reveals["cedar"].model_copy(update={"shares": tuple(shares)})
    with pytest.raises(AggregationError, match=rf"(?i){NAMES[index]}"):
        replace(good, reveals=good.reveals | {"cedar": bad}).open()
    assert np.array_equal(good.open(), ring_sum(ring_vectors(NAMES), NAMES[:4], 24))


def test_swapped_shares_are_noticed() -> None:
    good = play()
    first, second, *rest = good.reveals["cedar"].shares
    bad = good.reveals["cedar"].model_copy(update={"shares": (second, first, *rest)})
    with pytest.raises(AggregationError):
        replace(good, reveals=good.reveals | {"cedar": bad}).open()
    swapped = {"ash": good.reveals["birch"], "birch": good.reveals["ash"]}
    with pytest.raises(AggregationError):
        replace(good, reveals=good.reveals | swapped).open()


@pytest.mark.parametrize(("name", "field"), [("ash", "seed_hash"), ("fir", "mask_public")])
def test_a_secret_other_than_the_advertised_one_is_noticed(name: str, field: str) -> None:
    good = play()
    altered = good.adverts[name].model_copy(update={field: bytes(32)})
    with pytest.raises(AggregationError, match=f"'{name}' did not advertise"):
        replace(good, adverts=good.adverts | {name: altered}).open()


def test_reveals_for_other_survivors_and_unknown_names_are_refused() -> None:
    good, other = play(), play(NAMES)
    with pytest.raises(AggregationError, match="'birch' is for other survivors"):
        replace(good, reveals=good.reveals | {"birch": other.reveals["birch"]}).open()
    with pytest.raises(AggregationError, match="among the cohort"):
        replace(good, masked=good.masked | {"gorse": good.masked["ash"]}).open()
    with pytest.raises(AggregationError, match="among the survivors"):
        replace(good, reveals=good.reveals | {"fir": good.reveals["ash"]}).open()
    with pytest.raises(AggregationError, match="among the adverts"):
        replace(good, adverts={name: good.adverts[name] for name in NAMES[:4]}).open()


@pytest.mark.parametrize(
    "vector", [np.zeros(39, np.uint32), np.zeros(40), np.full(40, 2**24, np.uint32)]
)
def test_a_masked_vector_of_another_shape_is_refused(vector: RingVector) -> None:
    good = play()
    with pytest.raises(ProtocolError):
        replace(good, masked=good.masked | {"ash": vector}).open()
