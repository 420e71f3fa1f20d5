"""Authorities that follow each other, by the commands that people type."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from client.consent import Home
from common.consent.authority import authority_hash, read_authorities
from common.crypto.locking import is_locked
from common.secret_files import PASSPHRASE, erase
from server import successions
from tests.founding import Federation, found, good, read, refused


@pytest.fixture(scope="module")
def _approved(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    federation = found(tmp_path_factory.mktemp("approved"))
    federation.approve("ash", "birch")
    return federation


@pytest.fixture
def federation(_approved: Federation, tmp_path: Path) -> Federation:
    return _approved.copy_to(tmp_path)


def issuers(federation: Federation, name: str) -> list[int]:
    """Return which of a member's authorities have issued what the server shows now."""
    served = x509.load_pem_x509_certificate((federation.server / "server.pem").read_bytes())
    found = []
    for place, one in enumerate(read_authorities((federation.at(name) / "ca.pem").read_text())):
        try:
            served.verify_directly_issued_by(one)
        except InvalidSignature:
            continue
        found.append(place)
    return found


def test_an_authority_follows_another_without_a_gap(federation: Federation) -> None:
    old = (federation.server / "ca.pem").read_text()
    key = (federation.server / "ca.key").read_bytes()
    assert issuers(federation, "ash") == [0]
    refused(federation.operate("rotate", "--retire"), "there is but one authority")
    told = good(federation.operate("rotate", "--authority")).out
    assert "have every member approve that, then: fedprune-server rotate" in told
    assert (federation.server / "ca.key").read_bytes() != key
    both = (federation.server / "ca.pem").read_text()
    assert both.endswith(old)
    assert len(read_authorities(both)) == 2
    refused(federation.operate("rotate"), "members do not know the new authority yet: publish it")
    refused(federation.operate("rotate", "--retire"), "still known by the old authority")
    refused(federation.operate("rotate", "--authority"), "an authority follows another already")
    federation.act("publish-2", "publish")
    shown = good(federation.do("ash", "join", federation.bundle)).out
    assert "Nothing here needs approval" not in shown
    changes = shown.partition("Changed since the last approval:")[2]
    assert " and " in next(line for line in changes.splitlines() if line.startswith("authority"))
    good(federation.consent("ash"))
    assert issuers(federation, "ash") == [1], "the old one still speaks for the server"
    good(federation.operate("rotate"))
    assert issuers(federation, "ash") == [0]
    assert issuers(federation, "birch") == [], "who has not approved is not shown a certificate"
    good(federation.operate("rotate"))
    good(federation.operate("rotate", "--retire"))
    federation.act("publish-3", "publish")
    assert (
        "Nothing here needs approval" in good(federation.do("ash", "join", federation.bundle)).out
    )
    pinned = (federation.at("ash") / "ca.pem").read_text()
    assert both == pinned + old
    pin = Home(federation.at("ash")).pin
    assert pin is not None
    assert pin.authority == authority_hash(pinned)
    federation.approve("birch")
    assert issuers(federation, "birch") == [0]


def test_a_new_authority_is_nobodys_before_it_is_approved(federation: Federation) -> None:
    before = (federation.at("ash") / "ca.pem").read_bytes()
    good(federation.operate("rotate", "--authority"))
    federation.act("publish-2", "publish")
    good(federation.do("ash", "join", federation.bundle))
    assert (federation.at("ash") / "ca.pem").read_bytes() == before


def test_an_end_does_not_wait_for_an_authority(federation: Federation) -> None:
    good(federation.operate("rotate", "--authority"))
    federation.act("expire-2", "expire")
    act = read(federation.bundle).act
    assert act.kind == "charter"
    assert act.expires == act.issued


def test_a_succession_that_was_cut_short_begins_again(federation: Federation) -> None:
    key, old = ((federation.server / name).read_bytes() for name in ("ca.key", "ca.pem"))
    good(federation.operate("rotate", "--authority"))
    # As a crash leaves it before the new key is in place.
    (federation.server / "ca.key").replace(federation.server / "ca.key.next")
    (federation.server / "ca.key").write_bytes(key)
    (federation.server / "ca.key").chmod(0o600)
    good(federation.operate("rotate"))
    assert issuers(federation, "ash") == [0]
    good(federation.operate("rotate", "--authority"))
    authorities = read_authorities((federation.server / "ca.pem").read_text())
    assert [len(authorities), authorities[1]] == [2, read_authorities(old.decode())[0]]
    assert not (federation.server / "ca.key.next").exists()


def test_a_succession_never_lacks_a_key(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = federation.server / "ca.key"
    there: list[bool] = []

    def noting(path: Path) -> None:
        there.append(authority.exists())
        erase(path)

    monkeypatch.setattr(successions, "erase", noting)
    good(federation.operate("rotate", "--authority"))
    assert there
    assert all(there), "a kill at that moment would lose the authority"
    assert not list(federation.server.glob("*.before"))


def test_an_authority_of_another_key_issues_nothing(federation: Federation, tmp_path: Path) -> None:
    other = Federation(tmp_path / "other")
    good(other.operate("init", "--name", "small", "--address", "bank.example:1"))
    (other.server / "ca.key").replace(federation.server / "ca.key")
    for option in ((), ("--authority",)):
        told = federation.operate("rotate", *option)
        refused(told, "ca.key belongs to no certificate of ca.pem: restore both")


def test_new_keys_are_under_a_passphrase(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSPHRASE, "right")
    assert good(federation.operate("rotate", "--authority")).err == ""
    assert is_locked((federation.server / "ca.key").read_bytes())
    monkeypatch.setenv(PASSPHRASE, "wrong")
    refused(federation.operate("rotate"), "ca.key: the passphrase is wrong")
