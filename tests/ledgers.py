"""What the tests of the ledger share: a plan's budget, rounds, and a ledger on any store."""

from pathlib import Path

from client.entries import Budget, Place, Release
from client.ledger import Ledger, MemoryStore, Store
from client.ledger_file import SqliteStore
from client.limits import UNLIMITED, Limits
from simulations.context_store import ContextStore

NOON = 1_700_000_000
TRAIN = Release("train", 1.1, 0.05, 5, 1e-5)
COUNT = Release("validation", 9.2, 1.0, 1, 1e-5)
STORES = ("memory", "sqlite", "context")


def budget(rounds: int = 60, split: str = "by cells") -> Budget:
    """Return the budget of a plan that trains 5 steps a round and counts six times."""
    trained = Release("train", 1.1, 0.05, 5 * rounds, 1e-5)
    counted = Release("validation", 9.2, 1.0, 6, 1e-5)
    return Budget(split, (trained, counted))


def at(round_number: int, epoch: int = 1, run: str = "run", plan: str = "aa") -> Place:
    """Return a place in a run."""
    return Place(run, plan, round_number, epoch)


def store_of(kind: str, folder: Path) -> Store:
    """Return an empty store of a kind."""
    if kind == "sqlite":
        return SqliteStore(folder / "ledger.sqlite")
    return MemoryStore() if kind == "memory" else ContextStore()


def ledger_on(store: Store, limits: Limits = UNLIMITED, table: str = "loans") -> Ledger:
    """Return a ledger that reads what the store holds, as after a restart."""
    return Ledger(store, table, limits)
