"""Private keys rest in a file for their owner's eyes, and an institution reads no other."""

from pathlib import Path

import pytest

from client.config import MembershipConfig, load_membership
from client.keys import create_identity, read_identity
from common.consent.refusals import NotApprovedError
from common.crypto.roster import Roster
from common.entropy import SeededEntropy
from common.errors import ConfigError


def stream_of(name: str) -> SeededEntropy:
    return SeededEntropy(0, name)


def test_keys_come_back_and_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    identity = create_identity(path, stream_of("ash").stream("identity"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_identity(path) == identity
    with pytest.raises(ConfigError, match="File exists"):
        create_identity(path, stream_of("ash").stream("identity"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o700])
def test_keys_open_to_others_are_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.json"
    create_identity(path, stream_of("ash").stream("identity"))
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o} lets others"):
        read_identity(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"signing_private": "5353"}', "\udc80"])
def test_a_file_without_keys_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match="holds no keys") as caught:
        read_identity(path)
    assert "5353" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ConfigError, match="cannot be read"):
        read_identity(tmp_path / "missing")


def test_a_membership_is_keys_that_stand_in_the_approved_roster(tmp_path: Path) -> None:
    identities = {
        name: create_identity(tmp_path / name, stream_of(name).stream("identity"))
        for name in ("ash", "birch", "cedar")
    }
    roster = Roster(members={name: own.member(name) for name, own in identities.items()})
    (tmp_path / "roster.json").write_bytes(roster.to_bytes())
    good = MembershipConfig(
        keys=Path("ash"),
        roster=Path("roster.json"),
        roster_hash=roster.digest,
    )
    membership = load_membership(good, "ash", tmp_path)
    assert membership.roster == roster
    assert membership.identity == identities["ash"]
    cases: list[tuple[dict[str, object], str, str]] = [
        ({"roster_hash": "0" * 64}, "ash", "was approved"),
        ({"keys": Path("birch")}, "ash", "are not those of"),
        ({}, "sybil", "not a roster that holds 'sybil'"),
        ({"roster": Path("ash")}, "ash", "not a roster"),
    ]
    for change, name, problem in cases:
        with pytest.raises((ConfigError, NotApprovedError), match=problem):
            load_membership(good.model_copy(update=change), name, tmp_path)
