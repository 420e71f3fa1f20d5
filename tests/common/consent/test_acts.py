"""No byte of a bundle can be another; signatures count by quorum, whoever adds what."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.consent.acts import Charter, Proposal, charter_of
from common.consent.approval import Pin, only_shrinks, require_bundle, require_newer
from common.consent.enrolment import Enrolment
from common.consent.operators import Operators
from common.consent.refusals import (
    AuthorityError,
    ConsentError,
    ExpiredError,
    MalformedError,
    OtherFederationError,
    ReplayedError,
    UnsignedError,
)
from common.consent.words import differences
from common.crypto.keys import verifying_key
from common.entropy import SeededEntropy
from common.errors import PlanError
from server.certificates import certificate_pem, new_authority, new_server
from simulations.rehearsal import seeded_identity
from tests.support import roster_of, small_plan

NOW, LATER = 1_800_000_000, 1_800_086_400
ALICE, BOB, MALLORY = (bytes([letter]) * 32 for letter in b"ABM")
BOARD = {
    "quorum": 2,
    "keys": {"alice": verifying_key(ALICE).hex(), "bob": verifying_key(BOB).hex()},
}
PLAN = small_plan(operators=BOARD)
ROSTER = roster_of(PLAN)
OWN = (seeded_identity("ash", 0).member("ash"),)
SIGNER, AUTHORITY = new_authority("small", NOW, SeededEntropy(0).stream("authority"))


def charter(**changes: object) -> Charter:
    fields = {
        "federation": "small",
        "sequence": 1,
        "issued": NOW,
        "expires": LATER,
        "address": "bank.example:9092",
        "authority": certificate_pem(AUTHORITY).decode(),
        "plan": PLAN.to_dict(),
        "roster": ROSTER,
    }
    return Charter.model_validate(fields | changes)


def bundle(*signers: bytes, **changes: object) -> Proposal:
    proposal = Proposal(act=charter(**changes))
    for private in signers or (ALICE, BOB):
        proposal = proposal.signed(private)
    return proposal


GOOD = bundle()


def test_a_bundle_comes_back_and_is_taken() -> None:
    again = Proposal.from_bytes(GOOD.to_bytes())
    assert again == GOOD
    assert require_bundle(again, "ash", OWN, NOW) == charter()
    pin = Pin.of(GOOD, [b"K" * 32])
    assert Pin.from_bytes(pin.to_bytes()) == pin
    assert (pin.plan_hash, pin.roster_hash) == (PLAN.digest(), ROSTER.digest)
    with pytest.raises(MalformedError):
        Pin.from_bytes(b"{}")


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_byte_can_be_another(data: st.DataObject) -> None:
    good = GOOD.to_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != good[place]))
    changed = good[:place] + bytes([byte]) + good[place + 1 :]
    with pytest.raises(ConsentError):
        require_bundle(Proposal.from_bytes(changed), "ash", OWN, NOW)


def test_signatures_count_by_quorum() -> None:
    board = Operators.model_validate(BOARD)
    GOOD.require(board)
    cases = [
        (Proposal(act=GOOD.act), "0 of 2 operators needed have signed (none)"),
        (bundle(ALICE), "1 of 2 operators needed have signed (alice)"),
        (bundle(ALICE, ALICE), "1 of 2"),
        (bundle(ALICE, MALLORY), "1 signatures are of no operator"),
        (bundle(ALICE, BOB, MALLORY), "1 signatures are of no operator"),
    ]
    for proposal, problem in cases:
        with pytest.raises(UnsignedError) as caught:
            proposal.require(board)
        assert problem in str(caught.value)
    # A signature for one charter is none for another.
    moved = Proposal(act=charter(sequence=2), signatures=GOOD.signatures)
    with pytest.raises(UnsignedError, match="is not one of this text"):
        moved.require(board)


@pytest.mark.parametrize(
    ("quorum", "keys", "problem"),
    [
        (3, BOARD["keys"], "a quorum of 3 among 2 operators is out of reach"),
        (0, BOARD["keys"], "operators.quorum 0"),
        (1, {"alice": "00" * 32, "bob": "00" * 32}, "one key stands under two operators"),
        (1, {"alice": "0"}, "operators.keys.alice"),
    ],
)
def test_operators_that_could_not_act_are_refused(quorum: int, keys: object, problem: str) -> None:
    with pytest.raises(PlanError, match=problem):
        small_plan(operators={"quorum": quorum, "keys": keys})


def test_a_charter_is_whole() -> None:
    plain = small_plan().to_dict()
    cases: list[dict[str, object]] = [
        {"roster": ROSTER.model_copy(update={"revoked": ("oak",)})},
        {"plan": plain | {"name": "Upper"}},
        {"plan": {key: value for key, value in PLAN.to_dict().items() if key != "model"}},
        {"address": "no port"},
        {"authority": "no certificate"},
    ]
    for change in cases:
        with pytest.raises((ValueError, ConsentError, PlanError)):
            charter(**change)
    with pytest.raises(MalformedError, match="names no operators"):
        require_bundle(bundle(plan=plain), "ash", OWN, NOW)


def test_time_and_number_are_held_to() -> None:
    with pytest.raises(ExpiredError):
        require_bundle(GOOD, "ash", OWN, LATER)
    far = NOW + 11 * 365 * 24 * 3600
    with pytest.raises(AuthorityError, match="check the clock"):
        require_bundle(bundle(expires=far + 1), "ash", OWN, far)
    with pytest.raises(OtherFederationError):
        require_bundle(bundle(federation="large"), "ash", OWN, NOW, charter())
    second = bundle(sequence=2)
    require_newer(second, GOOD)
    require_newer(second, GOOD, second)
    for late in (GOOD, bundle(sequence=2, address="else.example:1")):
        with pytest.raises(ReplayedError):
            require_newer(late, GOOD, second)


def test_only_an_authority_can_be_pinned() -> None:
    stream = SeededEntropy(1).stream("server")
    _, server = new_server("bank.example", (SIGNER, AUTHORITY), NOW, stream)
    own, both = certificate_pem(AUTHORITY).decode(), certificate_pem(server).decode()
    for text in (both, own + both, own + own, own.strip(), "# mine\n" + own):
        with pytest.raises(AuthorityError):
            charter(authority=text)


def test_what_only_shrinks_is_told_from_what_grows() -> None:
    smaller = charter(roster=ROSTER.without("elm"), sequence=2)
    assert only_shrinks(charter(), smaller)
    assert only_shrinks(charter(), charter(expires=NOW))
    assert not only_shrinks(smaller, charter())
    for change in ({"expires": LATER + 1}, {"address": "else.example:1"}):
        assert not only_shrinks(charter(), charter(**change))
    assert dict(differences(charter(), smaller)) == {"member elm": "revoked"}
    assert not list(differences(charter(), charter(sequence=2)))
    faster = small_plan(operators=BOARD, training={"rounds": 7}).to_dict()
    changed = charter(plan=faster)
    assert dict(differences(charter(), changed)) == {
        "plan hash": f"{PLAN.digest()} -> {changed.agreed.digest()}",
        "plan training.rounds": "6 -> 7",
    }
    # Another order is another plan, though each value is the same.
    turned = PLAN.to_dict()
    turned["schema"]["columns"].reverse()
    reordered = charter(plan=turned)
    assert dict(differences(charter(), reordered)) == {
        "plan hash": f"{PLAN.digest()} -> {reordered.agreed.digest()}"
    }


def test_a_request_is_no_bundle() -> None:
    assert isinstance(charter_of(GOOD), Charter)
    for data in (b"", b"[]", b"\xff", b'{"act":{},"signatures":{}}', GOOD.to_bytes() + b"\n"):
        with pytest.raises(MalformedError):
            Proposal.from_bytes(data)
    with pytest.raises(MalformedError):
        Enrolment.from_bytes(GOOD.to_bytes())
