"""The rules of the ledger: its lines folded into what they mean, and what may follow them.

Pure: a `Book` is built from entries and answers with drafts of further ones, or refuses.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from client.entries import (
    GENESIS,
    Budget,
    Draft,
    Entry,
    Kept,
    Mark,
    Part,
    Place,
    Release,
    Shrunk,
    chained,
)
from client.limits import Limits, Spent
from client.policy import (
    EpochReplayedError,
    RoundChargedError,
    RoundOpenedError,
    SignedTwiceError,
)
from client.refusals import (
    ClockSetBackError,
    LedgerAlteredError,
    LedgerBehindError,
    OverdrawnError,
    RunReopenedError,
)
from common.crypto.refusals import MaskedTwiceError
from common.errors import PolicyError

CLOCK_SLACK = 300
"""Seconds a clock may go back: enough for time servers to correct it."""

_SECOND_USE: Final[dict[Mark, type[PolicyError]]] = {
    "epoch": EpochReplayedError,
    "masked": MaskedTwiceError,
    "signed": SignedTwiceError,
    "opened": RoundOpenedError,
}


@dataclass
class Account:
    """One run on one table: what it reserved when it began, what it charged since."""

    plan_hash: str
    table: str
    split: str
    began: int
    reserved: dict[Part, Release] = field(default_factory=dict)
    charged: list[Entry] = field(default_factory=list)
    over: bool = False

    @property
    def last_round(self) -> int:
        """The last round charged, or -1."""
        return max((entry.round for entry in self.charged), default=-1)

    @property
    def released(self) -> list[Spent]:
        """What was charged so far."""
        return [(entry.time, self.plan_hash, self.split, entry.release) for entry in self.charged]

    def left(self, release: Release) -> int:
        """Return how many steps of a reserved release are not charged yet."""
        used = sum(entry.steps for entry in self.charged if entry.part == release.part)
        return release.steps - used

    def spent(self, now: int) -> Iterable[Spent]:
        """Yield what was charged, each when it was, and what an open run may still charge, now."""
        yield from self.released
        for release in () if self.over else self.reserved.values():
            if left := self.left(release):
                yield now, self.plan_hash, self.split, replace(release, steps=left)


@dataclass
class Book:
    """What the entries of a ledger mean, to who works on ``table`` under ``limits``.

    ``head`` is the hash of the last entry.
    """

    table: str
    limits: Limits
    sequence: int = 0
    head: str = GENESIS
    time: int = 0
    accounts: dict[str, Account] = field(default_factory=dict)
    stored: dict[str, Entry] = field(default_factory=dict)
    revoked: dict[str, Entry] = field(default_factory=dict)
    _marks: dict[tuple[Mark, str], int] = field(default_factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        """Take in the next lines; raise `LedgerAlteredError` where one does not follow."""
        for entry in entries:
            if (entry.sequence, entry.previous) != (self.sequence + 1, self.head):
                raise LedgerAlteredError(
                    f"line {entry.sequence} of the ledger does not follow line {self.sequence}:"
                    " it was altered; restore it from a copy that verifies"
                )
            self._fold(entry)
            self.sequence, self.head = entry.sequence, entry.hash
            # The latest, not the last: small steps back must not add up.
            self.time = max(self.time, entry.time)

    def draft(self, drafts: Iterable[Draft], now: int) -> list[Entry]:
        """Return drafts as the next lines; raise `ClockSetBackError` on an earlier clock."""
        if now < self.time - CLOCK_SLACK:
            raise ClockSetBackError(
                f"the clock is {self.time - now} s behind the ledger's last entry, more than"
                f" {CLOCK_SLACK}: set the clock"
            )
        return list(chained(drafts, self.table, now, self.sequence, self.head))

    def last(self, mark: Mark, place: Place) -> int:
        """Return the last epoch or, for "opened", the last round that was marked; or -1."""
        return self._marks.get((mark, _scope(mark, place.run, place.plan_hash)), -1)

    def marked(self, mark: Mark, place: Place, digest: str = "") -> list[Draft]:
        """Return the draft that marks a place; refuse a second use, by its own error."""
        value, last = (place.round if mark == "opened" else place.epoch), self.last(mark, place)
        if value <= last:
            raise _SECOND_USE[mark](f"{mark}: {value} is in the past, the last was {last}")
        return [Draft(mark, place, digest=digest)]

    def charge(
        self, place: Place, releases: tuple[Release, ...], budget: Budget, now: int
    ) -> list[Draft]:
        """Return the drafts that charge a round, and reserve the run's whole budget if it is new.

        Raises:
            RunReopenedError: the run is over, or was of another plan or table.
            OverLimitError: its whole budget would pass a limit.
            OverdrawnError: the round releases what was not reserved.
            RoundChargedError: this round or a later one was charged.
        """
        account, drafts = self.accounts.get(place.run), list[Draft]()
        if account is None:
            drafts = [Draft("reserved", place, budget.split, part) for part in budget.releases]
            account = self.affordable(place.plan_hash, budget, now)
        elif account.over:
            raise RunReopenedError(f"run {place.run!r} is over: begin a new one")
        elif (account.plan_hash, account.table) != (place.plan_hash, self.table):
            raise RunReopenedError(f"run {place.run!r} was of another plan or table: begin a new")
        if place.round <= account.last_round:
            raise RoundChargedError(
                f"round {place.round} was charged before and its vector is lost: sit it out"
            )
        for release in releases:
            _require_reserved(account, release)
        return drafts + [Draft("charged", place, account.split, release) for release in releases]

    def closed(self, run: str) -> list[Draft]:
        """Return the draft that ends a run; raise `RunReopenedError` for one that is not open."""
        account = self.accounts.get(run)
        if account is None or account.over:
            raise RunReopenedError(f"run {run!r} is not open: see the ledger for those that are")
        return [Draft("closed", Place(run, account.plan_hash, -1, -1))]

    def require_charged(self, place: Place) -> None:
        """Raise `OverdrawnError` unless the last round charged is this one."""
        account = self.accounts.get(place.run)
        if account is None or account.over or account.last_round != place.round:
            raise OverdrawnError(f"round {place.round} was not charged: charge it before its work")

    def require_current(self, advertised: int) -> None:
        """Raise `LedgerBehindError` if this institution signed a later sequence number."""
        if advertised > self.sequence:
            raise LedgerBehindError(
                f"the ledger ends at line {self.sequence}, but an advert of this institution was"
                f" signed at line {advertised}: it was restored from an old copy; find the later"
                " one, or count every plan that ran since as spent"
            )

    def verify_vectors(self, kept: Mapping[str, Kept]) -> None:
        """Raise `LedgerAlteredError` unless each stored vector is the noted one."""
        _require_noted("vector", kept, self.stored)

    def verify_rosters(self, shrunk: Mapping[str, Shrunk]) -> None:
        """Raise `LedgerAlteredError` unless each roster after revocations is the noted one."""
        _require_noted("roster", shrunk, self.revoked)

    def spent(self, table: str, now: int) -> list[Spent]:
        """Return what all runs on a table charged, or may still charge."""
        accounts = [account for account in self.accounts.values() if account.table == table]
        return [item for account in accounts for item in account.spent(now)]

    def affordable(self, plan_hash: str, budget: Budget, now: int) -> Account:
        """Return the account of a new run; raise `OverLimitError` if it would pass a limit."""
        reserved = {release.part: release for release in budget.releases}
        account = Account(plan_hash, self.table, budget.split, now, reserved)
        # Earlier runs of the plan end with this one, so that only what they charged counts.
        accounts = [
            replace(other, over=other.over or other.plan_hash == account.plan_hash)
            for other in self.accounts.values()
            if other.table == account.table
        ]
        spent = [item for other in (*accounts, account) for item in other.spent(now)]
        self.limits.require(spent, account.plan_hash, now)
        return account

    def _fold(self, entry: Entry) -> None:
        match entry.kind:
            case "reserved":
                self._reserve(entry)
            case "charged":
                self._begun(entry).charged.append(entry)
            case "closed":
                self._begun(entry).over = True
            case "stored":
                self.stored[entry.plan_hash] = entry
            case "revoked":
                self.revoked[entry.plan_hash] = entry
            case mark:
                scope = _scope(mark, entry.run, entry.plan_hash)
                self._marks[mark, scope] = entry.round if mark == "opened" else entry.epoch

    def _begun(self, entry: Entry) -> Account:
        if entry.run not in self.accounts:
            raise LedgerAlteredError(f"line {entry.sequence} is of a run that never began")
        return self.accounts[entry.run]

    def _reserve(self, entry: Entry) -> None:
        if entry.run not in self.accounts:
            for account in self.accounts.values():
                account.over |= account.plan_hash == entry.plan_hash
            account = Account(entry.plan_hash, entry.table, entry.split, entry.time)
            self.accounts[entry.run] = account
        self.accounts[entry.run].reserved[entry.part] = entry.release


def _scope(mark: Mark, run: str, plan_hash: str) -> str:
    """Epochs count over all runs of a plan, rounds within one."""
    return run if mark == "opened" else plan_hash


def _require_noted(
    what: str, found: Mapping[str, Kept] | Mapping[str, Shrunk], noted: Mapping[str, Entry]
) -> None:
    if unknown := found.keys() - noted.keys():
        raise LedgerAlteredError(f"a {what} of plan {min(unknown)[:12]} was never noted")
    for plan_hash, entry in noted.items():
        if plan_hash not in found:
            raise LedgerAlteredError(f"the {what} of line {entry.sequence} is gone")
        found[plan_hash].require(entry.digest)


def _require_reserved(account: Account, release: Release) -> None:
    reserved = account.reserved.get(release.part)
    if reserved is None or release != replace(reserved, steps=release.steps):
        raise OverdrawnError(f"{release.part} rows: not the mechanism that the run reserved")
    if (over := release.steps - account.left(reserved)) > 0:
        raise OverdrawnError(
            f"{release.part} rows: {reserved.steps + over} steps are more than the"
            f" {reserved.steps} reserved when the run began"
        )
