"""What an institution spent and promised, noted before anything that depends on it leaves.

`Ledger` is the one way in; where its lines lie is a `Store`'s business: memory for simulations,
which must not wait for disks, and `client.ledger_file` for institutions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, get_args

from client.book import Book
from client.entries import Budget, Draft, Entry, Kept, Mark, Place, Release, Shrunk, Standing
from client.limits import UNLIMITED, Epsilon, Limits, Spent, table_epsilon, windows


class Transaction(Protocol):
    """A ledger that nobody else changes meanwhile; durable when its context ends without error."""

    def entries(self, after: int) -> Iterable[Entry]:
        """Return the lines after a sequence number, in order."""
        ...

    def append(self, entries: Iterable[Entry]) -> None:
        """Write the next lines."""
        ...

    def kept(self) -> Mapping[str, Kept]:
        """Return the last stored vector of each plan hash."""
        ...

    def keep(self, plan_hash: str, kept: Kept) -> None:
        """Replace the stored vector of a plan."""
        ...

    def shrunk(self) -> Mapping[str, Shrunk]:
        """Return the roster after revocations of each plan hash that had any."""
        ...

    def shrink(self, plan_hash: str, shrunk: Shrunk) -> None:
        """Replace the roster of a plan."""
        ...


class Store(Protocol):
    """Where the lines of a ledger lie."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Return a transaction that excludes all others, of other processes too."""
        ...


@dataclass
class MemoryStore:
    """A store that lasts as long as the process: for simulations and tests."""

    lines: list[Entry] = field(default_factory=list)
    vectors: dict[str, Kept] = field(default_factory=dict)
    rosters: dict[str, Shrunk] = field(default_factory=dict)

    @contextmanager
    def transaction(self) -> Iterator["MemoryStore"]:
        """Return itself: nobody else has it."""
        yield self

    def entries(self, after: int) -> Iterable[Entry]:
        """Return the lines after a sequence number."""
        return self.lines[after:]

    def append(self, entries: Iterable[Entry]) -> None:
        """Add lines."""
        self.lines.extend(entries)

    def kept(self) -> Mapping[str, Kept]:
        """Return the stored vectors."""
        return self.vectors

    def keep(self, plan_hash: str, kept: Kept) -> None:
        """Replace a stored vector."""
        self.vectors[plan_hash] = kept

    def shrunk(self) -> Mapping[str, Shrunk]:
        """Return the rosters after revocations."""
        return self.rosters

    def shrink(self, plan_hash: str, shrunk: Shrunk) -> None:
        """Replace a roster."""
        self.rosters[plan_hash] = shrunk


class Ledger:
    """An institution's own account of one table, and of the runs it takes part in.

    Times are Unix seconds. Every refusal stands in `client.refusals`.
    """

    def __init__(self, store: Store, table: str, limits: Limits = UNLIMITED) -> None:
        """Open the ledger; ``table`` is the institution's lasting name for its rows."""
        self._store, self._table, self._limits = store, table, limits
        self._forget()

    def standing(self, run: str, plan_hash: str) -> Standing:
        """Return what is noted of a run."""
        place = Place(run, plan_hash, -1, -1)
        with self._open() as (transaction, book):
            epoch, opened = book.last("epoch", place), book.last("opened", place)
            noted = book.stored.get(plan_hash)
            if noted is None or noted.run != run:
                return Standing(run, epoch=epoch, opened=opened)
            vectors = transaction.kept()
            book.verify_vectors(vectors)
            kept = vectors[plan_hash]
            return Standing(run, kept.round, epoch, opened, kept.binding, kept.mask, kept.vector)

    def require_room(self, place: Place, budget: Budget, now: int) -> None:
        """Refuse a new run that would pass a limit, before it has begun; note nothing."""
        with self._open() as (_, book):
            if place.run not in book.accounts:
                book.affordable(place.plan_hash, budget, now)

    def charge(self, place: Place, releases: tuple[Release, ...], budget: Budget, now: int) -> None:
        """Charge a round before its work; see `client.book.Book.charge` for what is refused."""
        with self._open() as (transaction, book):
            drafts = book.charge(place, releases, budget, now)
            self._append(transaction, drafts, now)

    def store(self, place: Place, binding: str, mask: bytes, vector: bytes, now: int) -> None:
        """Keep the encoded vector of a charged round, before anything of it leaves."""
        kept = Kept.of(place, binding, mask, vector)
        with self._open() as (transaction, book):
            book.require_charged(place)
            transaction.keep(place.plan_hash, kept)
            self._append(transaction, [Draft("stored", place, digest=kept.digest)], now)

    def revoke(self, place: Place, shrunk: Shrunk, now: int) -> None:
        """Note a plan's roster after revocations, before anything is done under it."""
        with self._open() as (transaction, _):
            transaction.shrink(place.plan_hash, shrunk)
            self._append(transaction, [Draft("revoked", place, digest=shrunk.digest)], now)

    def roster(self, plan_hash: str, approved: str) -> bytes:
        """Return what revocations left of the approved roster of this hash, or nothing."""
        with self._open() as (transaction, book):
            shrunk = transaction.shrunk()
            book.verify_rosters(shrunk)
            found = shrunk.get(plan_hash)
            return found.roster if found is not None and found.approved == approved else b""

    def released(self) -> list[Spent]:
        """Return what all runs on the table charged so far."""
        with self._open() as (_, book):
            accounts = [one for one in book.accounts.values() if one.table == self._table]
            return [item for account in accounts for item in account.released]

    def balance(self, plan_hash: str, now: int) -> dict[str, tuple[float, Epsilon]]:
        """Return epsilon and limit of each window: of this plan, within a year, for ever.

        An open run counts with all that it reserved.
        """
        with self._open() as (_, book):
            spent = book.spent(self._table, now)
        accountant = self._limits.accountant
        return {
            name: (table_epsilon(window, accountant), getattr(self._limits, name))
            for name, window in windows(spent, plan_hash, now).items()
        }

    def mark(self, mark: Mark, place: Place, now: int, digest: str = "") -> int:
        """Note that keys were made for an epoch, used in it, or a round was opened: once each.

        ``digest`` is the hash of the audit log's last line: who cuts it must set the ledger back.
        A vector whose round was opened is never sent again, so it is erased. Returns the number of
        the line.
        """
        with self._open() as (transaction, book):
            self._append(transaction, book.marked(mark, place, digest), now)
            kept = transaction.kept().get(place.plan_hash) if mark == "opened" else None
            if kept is not None and (kept.run, kept.round) == (place.run, place.round):
                transaction.keep(place.plan_hash, kept.erased())
            return book.sequence

    def close(self, run: str, now: int) -> None:
        """End a run for good: what it reserved and did not charge is free again."""
        with self._open() as (transaction, book):
            self._append(transaction, book.closed(run), now)

    def require_current(self, advertised: int) -> None:
        """Refuse a ledger older than the sequence number of this institution's last advert."""
        with self._open() as (_, book):
            book.require_current(advertised)

    @property
    def sequence(self) -> int:
        """Number of lines so far."""
        with self._open() as (_, book):
            return book.sequence

    def verify(self) -> int:
        """Return the number of lines once the chain and all that is stored are proved whole."""
        self._forget()
        with self._open() as (transaction, book):
            book.verify_vectors(transaction.kept())
            book.verify_rosters(transaction.shrunk())
            return book.sequence

    def read(self) -> tuple[Book, list[Entry]]:
        """Return all lines, and what they mean."""
        with self._open() as (transaction, book):
            return book, list(transaction.entries(0))

    def marked(self) -> list[Entry]:
        """Return the lines that note the last line of the audit log."""
        _, entries = self.read()
        return [entry for entry in entries if entry.kind in get_args(Mark) and entry.digest]

    def _append(self, transaction: Transaction, drafts: Iterable[Draft], now: int) -> None:
        entries = self._book.draft(drafts, now)
        transaction.append(entries)
        self._book.add(entries)

    @contextmanager
    def _open(self) -> Iterator[tuple[Transaction, Book]]:
        """Yield a transaction, and the book with what other processes wrote meanwhile."""
        try:
            with self._store.transaction() as transaction:
                self._catch_up(transaction)
                yield transaction, self._book
        except BaseException:
            # What was folded in may not be on the disk: read it again.
            self._forget()
            raise

    def _catch_up(self, transaction: Transaction) -> None:
        """Take in what was written since; begin anew where the last known line is not there."""
        known = self._book.sequence
        found = list(transaction.entries(max(0, known - 1)))
        if known and (not found or found[0].hash != self._book.head):
            # A backup was put in place meanwhile: what was read before says nothing of it.
            self._forget()
            known, found = 0, list(transaction.entries(0))
        self._book.add(found[1:] if known else found)

    def _forget(self) -> None:
        self._book = Book(self._table, self._limits)


def memory_ledger() -> Ledger:
    """Return a ledger without limits that dies with the process: for simulations."""
    return Ledger(MemoryStore(), "simulated")


Clock = Callable[[], float]
"""Unix seconds."""
