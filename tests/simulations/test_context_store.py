"""A ledger that travels: who gets the state goes on where the last one stopped."""

import pickle

import pytest
from flwr.app import RecordDict

from client.memory import Memory
from client.policy import EpochReplayedError, RoundChargedError
from client.refusals import LedgerAlteredError
from simulations.context_store import LINES, ContextStore
from tests.ledgers import NOON, TRAIN, at, budget, ledger_on


def travelled(state: RecordDict) -> RecordDict:
    """Return a copy as Ray carries it."""
    copy: RecordDict = pickle.loads(pickle.dumps(state))
    return copy


def test_two_processes_in_turn_keep_one_ledger() -> None:
    here, there = ContextStore(), ContextStore()
    ledgers = ledger_on(here), ledger_on(there)
    ledgers[0].charge(at(0), (TRAIN,), budget(), NOON)
    ledgers[0].store(at(0), "binding", b"mask", b"vector", NOON)
    there.state = travelled(here.state)
    with pytest.raises(RoundChargedError):
        ledgers[1].charge(at(0), (TRAIN,), budget(), NOON)
    assert ledgers[1].standing("run", "aa").vector == b"vector"
    ledgers[1].mark("epoch", at(1, epoch=2), NOON)
    here.state = travelled(there.state)
    # It knew the lines up to its own, and takes in those that were written meanwhile.
    with pytest.raises(EpochReplayedError):
        ledgers[0].mark("epoch", at(1, epoch=2), NOON)
    assert ledgers[0].read()[1] == ledgers[1].read()[1]
    assert ledgers[0].verify() == ledgers[1].verify() == 5


def test_a_line_that_changed_on_the_way_is_found() -> None:
    store = ContextStore()
    ledger_on(store).charge(at(0), (TRAIN,), budget(), NOON)
    record = store.state.config_records[LINES]
    lines = record[LINES]
    assert isinstance(lines, list)
    record[LINES] = [str(lines[0]).replace('"time": 17', '"time": 16'), *map(str, lines[1:])]
    with pytest.raises(LedgerAlteredError):
        ledger_on(store).verify()


def test_the_ledger_and_the_memory_share_a_state() -> None:
    store = ContextStore()
    ledger_on(store).charge(at(0), (TRAIN,), budget(), NOON)
    Memory("run", b"secrets").save(store.state)
    ledger_on(store).store(at(0), "binding", b"", b"vector", NOON)
    state = travelled(store.state)
    assert Memory.load(state) == Memory("run", b"secrets")
    assert ledger_on(ContextStore(state)).standing("run", "aa").vector == b"vector"
