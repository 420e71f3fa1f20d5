"""A roster is signed by its members, pinned by its hash, and only ever shrinks unasked."""

import json

import pytest

from common.crypto.refusals import RevokedPeerError, RosterGrewError, UnknownPeerError
from common.crypto.roster import Identity, Roster
from common.entropy import SeededEntropy
from common.errors import ProtocolError

IDENTITIES = {
    name: Identity.generate(SeededEntropy(0, name).stream("identity"))
    for name in ("ash", "birch", "cedar", "sybil")
}
MEMBERS = {name: identity.member(name) for name, identity in IDENTITIES.items()}


def roster(*names: str) -> Roster:
    return Roster(members={name: MEMBERS[name] for name in names})


def test_a_roster_round_trips_and_its_hash_covers_all_of_it() -> None:
    whole = roster("cedar", "ash", "birch")
    assert whole.names == ("ash", "birch", "cedar")
    assert Roster.from_bytes(whole.to_bytes()) == whole
    others = [roster("ash", "birch"), whole.without("ash"), roster("ash", "birch", "sybil")]
    assert len({whole.digest, *(other.digest for other in others)}) == 4
    assert whole.digest == roster("birch", "cedar", "ash").digest


@pytest.mark.parametrize("field", ["signing_public", "agreement_public", "signature"])
def test_keys_that_their_owner_did_not_sign_are_refused(field: str) -> None:
    fields = json.loads(roster("ash", "birch").to_bytes())
    fields["members"]["ash"][field] = json.loads(roster("cedar").to_bytes())["members"]["cedar"][
        field
    ]
    with pytest.raises(ProtocolError, match="not signed"):
        Roster.from_bytes(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())


def test_a_member_under_another_name_or_two_names_is_refused() -> None:
    for members in ({"ash": MEMBERS["birch"]}, {"ash": MEMBERS["ash"], "elm": MEMBERS["ash"]}):
        with pytest.raises(ValueError, match=r"not signed|two places"):
            Roster(members=members)
    with pytest.raises(ValueError, match="revoked name is a member"):
        Roster(members=MEMBERS, revoked=("ash",))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"members":{},"revoked":[]} '])
def test_anything_but_the_canonical_form_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Roster.from_bytes(data)


def test_a_revocation_is_taken_and_stays() -> None:
    whole = roster("ash", "birch", "cedar")
    smaller = whole.without("birch")
    whole.require_shrinks_to(smaller)
    whole.require_shrinks_to(whole)
    smaller.require_shrinks_to(smaller.without("ash"))
    with pytest.raises(RevokedPeerError):
        smaller.member("birch")
    with pytest.raises(UnknownPeerError):
        smaller.member("sybil")
    for later in (whole, roster("ash", "cedar"), roster("ash", "cedar", "sybil")):
        with pytest.raises(RosterGrewError):
            smaller.require_shrinks_to(later)


def test_a_new_name_or_key_needs_approval() -> None:
    whole = roster("ash", "birch", "cedar")
    fresh = Identity.generate(SeededEntropy(1, "ash").stream("identity")).member("ash")
    for later in (
        roster("ash", "birch", "cedar", "sybil"),
        Roster(members=whole.members | {"ash": fresh}),
        roster("ash", "birch"),
    ):
        with pytest.raises(RosterGrewError, match="approve it first"):
            whole.require_shrinks_to(later)


def test_private_keys_do_not_show() -> None:
    identity = Identity(signing_private=b"S" * 32, agreement_private=b"A" * 32)
    assert repr(identity) == "Identity()"
