"""Nothing secret shows in a repr, a log, an exception or what is left after a round."""

import logging
from collections.abc import Iterator

import pytest

from common import messages as wire
from common.crypto.stages import Masked, Prepared, State
from simulations.rehearsal import Rehearsal, seeded_identity
from tests.attacks.test_attacks import ATTACKS
from tests.attacks.theatre import Theatre


def forms(secret: bytes) -> Iterator[str]:
    """Yield the ways in which bytes are shown."""
    yield secret.hex()
    yield repr(secret)[2:-1]
    yield str(list(secret))[1:-1]


def secrets_of(theatre: Theatre) -> set[bytes]:
    """Return every secret that the institutions hold now."""
    found = set()
    for name, bank in theatre.banks.items():
        identity = seeded_identity(name, 0)
        found |= {identity.signing_private, identity.agreement_private}
        state = State.from_bytes(bank.memory.secrets)
        if state.prepared:
            found |= {state.prepared.mask_private, state.prepared.seed}
        if state.current and state.current.stage == "masked":
            found |= {key for held in state.current.held.values() for key in (held.seed, held.key)}
    return found


def assert_hidden(text: str, secrets: set[bytes]) -> None:
    assert secrets
    for secret in secrets:
        assert not any(form in text for form in forms(secret))


def test_the_search_finds_what_is_shown() -> None:
    for shown in (bytes(range(32)).hex(), repr(bytes(range(32))), repr(list(range(32)))):
        with pytest.raises(AssertionError):
            assert_hidden(shown, {bytes(range(32))})


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_makes_a_secret_show(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    theatre = Theatre()
    raised: list[str] = []
    for bank in theatre.banks.values():
        bank.refused = lambda error: raised.append(f"{error!r} {error} {error.__cause__!r}")
    ATTACKS[name][1](theatre)
    assert raised
    text = "".join(raised) + caplog.text + repr(theatre)
    assert_hidden(text, secrets_of(theatre))


def test_no_stage_shows_what_it_holds() -> None:
    rehearsal = Rehearsal.of(3)
    name = rehearsal.names[0]
    prepared, offer = rehearsal.advertised[name]
    accepted = rehearsal.accept(name)
    held = {key for own in accepted.held.values() for key in (own.seed, own.key)}
    pairs = {*accepted.pair_masks.added, *accepted.pair_masks.subtracted}
    secrets = {prepared.mask_private, prepared.seed, accepted.self_mask} | held | pairs
    party = rehearsal.parties[name]
    shown = f"{prepared!r}{prepared}{offer!r}{accepted!r}{accepted}{party!r}{party}"
    assert_hidden(shown, secrets | {party.identity.signing_private})
    assert "bank-0000" in shown


def test_a_round_leaves_none_of_its_secrets_behind() -> None:
    theatre = Theatre()
    requests = theatre.held(wire.UnmaskRequest)
    before = {name: State.from_bytes(bank.memory.secrets) for name, bank in theatre.banks.items()}
    spent = {
        key
        for state in before.values()
        if isinstance(state.current, Masked)
        for held in state.current.held.values()
        for key in (held.seed, held.key)
    }
    for name, request in requests.items():
        assert theatre.ask(request, name) == "unmasked"
    for name, bank in theatre.banks.items():
        stored = bank.memory.secrets.decode()
        assert_hidden(stored, spent)
        following = State.from_bytes(bank.memory.secrets).prepared
        assert isinstance(following, Prepared)
        # Only the keys of the next epoch rest here, and the next round spends those.
        assert following.session.epoch == before[name].prepared.session.epoch  # type: ignore[union-attr]
