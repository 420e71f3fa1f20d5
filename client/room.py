"""Whether a run of a plan would fit the institution's own limits: asked before it begins."""

from pathlib import Path

from client.book import Book
from client.config import LedgerConfig
from client.ledger_file import lines_in
from client.refusals import OverLimitError
from common.plan import Plan


def shortage(settings: LedgerConfig, home: Path, plan: Plan, now: int) -> tuple[str, bool]:
    """Return why a new run of ``plan`` would be refused, or nothing, and whether one is open.

    What is open was let in and goes on. ``now`` is in Unix seconds; nothing is written.

    Raises:
        PolicyError: the ledger cannot be read, or was altered.
    """
    # Accountants and pandas cost seconds.
    from client.spending import budget_of  # noqa: PLC0415

    book, plan_hash = Book(settings.table, settings.limits), plan.digest()
    book.add(lines_in(home / settings.file))
    going = any(one.plan_hash == plan_hash and not one.over for one in book.accounts.values())
    try:
        book.affordable(plan_hash, budget_of(plan), now)
    except OverLimitError as error:
        return str(error), going
    return "", going
