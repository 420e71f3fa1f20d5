"""What is left of the budget, for the institution's own monitor: on its machine and nowhere else.

Composing epsilon takes Opacus, which the executor has loaded and the process that tells figures
would load for nothing else; so the executor notes the balance, and the other reads it.
"""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from client.stages import Institution
from common.errors import FedpruneError
from common.metrics import Metric, Sample
from common.processes import write_secret

log = logging.getLogger("fedprune.client")

FILE: Final = "budget.json"
"""In ``state/``: epsilon spent and its limit, by window."""

SPENT = Metric(
    "budget_spent_epsilon",
    "gauge",
    "epsilon of the table, open runs in full, in a window: of the plan, a year, ever",
    ("window",),
)
LIMIT = Metric("budget_limit_epsilon", "gauge", "`[ledger.limits]` of it, if there is", ("window",))
LEFT = Metric("budget_left_epsilon", "gauge", "the limit less what is spent", ("window",))

METRICS: Final = (SPENT, LIMIT, LEFT)


def note_budget(approved: Callable[[], Institution], state: Path) -> None:
    """Note how the ledger stands; work goes on where that cannot be done."""
    try:
        institution = approved()
        balance = institution.ledger.balance(institution.plan.digest(), institution.now)
        write_secret(state / FILE, json.dumps(balance).encode())
    except (FedpruneError, OSError) as error:
        log.debug("the budget was not noted: %s", error)


def of_budget(state: Path) -> Iterator[Sample]:
    """Yield the balance, if one was noted; an epsilon may be infinite."""
    if not (state / FILE).exists():
        return
    for window, (spent, limit) in json.loads((state / FILE).read_bytes()).items():
        yield Sample(SPENT, spent, (window,))
        if limit != "none":
            yield Sample(LIMIT, limit, (window,))
            yield Sample(LEFT, limit - spent, (window,))
