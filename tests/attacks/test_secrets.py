"""Nothing secret shows in a repr, a log, an exception or what is left after a round."""

import logging
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from client import update
from client.app import build_app
from client.ledger import Ledger, MemoryStore
from client.memory import Memory
from client.stages import Institution
from common import messages as wire
from common.crypto.stages import Masked, Prepared, State
from simulations.grid import InProcessGrid
from simulations.rehearsal import Rehearsal, seeded_identity
from tests.attacks.test_attacks import ATTACKS
from tests.attacks.theatre import Theatre


def forms(secret: bytes) -> Iterator[str]:
    """Yield the ways in which bytes are shown."""
    yield secret.hex()
    yield secret.hex().upper()
    yield secret.hex(" ")
    # Without the end, which depends on what follows.
    yield b64encode(secret).decode().rstrip("=")[:-1]
    yield urlsafe_b64encode(secret).decode().rstrip("=")[:-1]
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
    secret = bytes(range(200, 232))
    encoded = b64encode(secret).decode()
    shown = [secret.hex(), secret.hex(" "), repr(secret), repr(list(secret)), encoded]
    for text in (*shown, urlsafe_b64encode(secret).decode()):
        with pytest.raises(AssertionError):
            assert_hidden(f"a {text} b", {secret})
    assert_hidden(" ".join(shown), {secret[::-1]})


def gathered(theatre: Theatre) -> set[bytes]:
    """Return a set that grows by every secret the institutions hold after each message."""
    found = secrets_of(theatre)

    def gathering(serve: Callable[[RecordDict], RecordDict]) -> Callable[[RecordDict], RecordDict]:
        def served(record: RecordDict) -> RecordDict:
            reply = serve(record)
            found.update(secrets_of(theatre))
            return reply

        return served

    for bank in theatre.banks.values():
        bank.serve = gathering(bank.serve)  # type: ignore[assignment,method-assign]
    return found


def through_the_app(theatre: Theatre, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every bank answer by the institution's own Flower app, its logs included."""
    banks = dict(enumerate(theatre.banks.values(), 2))
    contexts: dict[int, Context] = {}

    def institution_for(context: Context) -> Institution:
        contexts[context.node_id] = context
        return banks[context.node_id].institution

    grid = InProcessGrid(build_app(institution_for), banks)

    def compute(institution: Institution, *asked: Any) -> Any:
        return theatre.banks[institution.name].compute(institution, *asked)

    def answering(node: int) -> Callable[[RecordDict], RecordDict]:
        def serve(record: RecordDict) -> RecordDict:
            kind = wire.kind_of(record)
            trip = "train" if kind in {"update", "unmask"} else "query"
            (reply,) = grid.send_and_receive([Message(record, node, f"{trip}.{kind}")])
            if node in contexts:
                banks[node].memory = Memory.load(contexts[node].state)
            return reply.content

        return serve

    monkeypatch.setattr(update, "_compute", compute)
    for node, bank in banks.items():
        bank.serve = answering(node)  # type: ignore[assignment,method-assign]


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_makes_a_secret_show(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    theatre = Theatre()
    raised: list[str] = []
    for bank in theatre.banks.values():
        bank.refused = lambda error: raised.append(f"{error!r} {error} {error.__cause__!r}")
    secrets = gathered(theatre)
    ATTACKS[name][1](theatre)
    assert raised
    # Not what the server holds: openings are given to it.
    assert_hidden("".join(raised) + caplog.text + repr(theatre.banks), secrets)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_makes_the_app_log_a_secret(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    theatre = Theatre()
    through_the_app(theatre, monkeypatch)
    secrets = gathered(theatre)
    reason, play = ATTACKS[name]
    assert play(theatre) == reason
    assert [record for record in caplog.records if record.name == "fedprune.client"]
    assert_hidden(caplog.text, secrets)


def test_an_error_nobody_foresaw_is_logged_without_secrets(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    theatre = Theatre()
    through_the_app(theatre, monkeypatch)
    secrets = gathered(theatre)
    own = theatre.held(wire.UpdateRequest)["bank-0"]

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(update, "_compute", broken)
    assert theatre.ask(own) == "failed"
    assert "MemoryError" in caplog.text
    assert "Traceback" in caplog.text
    assert_hidden(caplog.text, secrets)


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
    shown += f"{accepted.pair_masks!r}{accepted.pair_masks}"
    assert_hidden(shown, secrets | {party.identity.signing_private})
    assert "bank-0000" in shown


def kept_by(ledger: Ledger) -> str:
    """Return all that a ledger's store holds, as text."""
    store = ledger._store
    assert isinstance(store, MemoryStore)
    return repr([*map(asdict, store.lines), *map(asdict, store.vectors.values())])


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
    vectors = {
        name: bank.institution.standing("run").vector for name, bank in theatre.banks.items()
    }
    for name, request in requests.items():
        with pytest.raises(AssertionError):
            assert_hidden(kept_by(theatre.banks[name].institution.ledger), {vectors[name]})
        assert theatre.ask(request, name) == "unmasked"
    for name, bank in theatre.banks.items():
        assert_hidden(kept_by(bank.institution.ledger), {vectors[name]})
        stored = bank.memory.secrets.decode()
        assert_hidden(stored, spent)
        following = State.from_bytes(bank.memory.secrets).prepared
        assert isinstance(following, Prepared)
        # Only the keys of the next epoch rest here, and the next round spends those.
        assert following.session.epoch == before[name].prepared.session.epoch  # type: ignore[union-attr]
