"""Why an institution refuses for the sake of what it spent and promised before.

PolicyError
├── RunReopenedError        a run that ended, or gave way to a later one of its plan
├── OverLimitError          more than the institution's own limits allow
├── OverdrawnError          more than the plan reserved when its run began
├── ClockSetBackError       a clock behind the ledger's last entry
├── LedgerBehindError       a ledger that lost lines since the institution signed an advert
├── LedgerAlteredError      a ledger whose chain or content does not fit together
└── LedgerUnavailableError  a ledger that cannot be read or written now
"""

from common.errors import PolicyError


class RunReopenedError(PolicyError):
    """A run that was closed, or that a later run of the same plan has replaced."""

    reason = "run is over"


class OverLimitError(PolicyError):
    """The run would pass what the institution allows a plan, a year or for ever."""

    reason = "privacy budget"


class OverdrawnError(PolicyError):
    """A round asks for more than its run reserved."""

    reason = "privacy budget"


class ClockSetBackError(PolicyError):
    """The clock shows a time before the ledger's last entry."""


class LedgerBehindError(PolicyError):
    """The ledger holds fewer entries than an advert of this institution says: an old copy."""

    reason = "ledger-behind"


class LedgerAlteredError(PolicyError):
    """An entry does not follow from the one before it, or what is stored is not what it noted."""


class LedgerUnavailableError(PolicyError):
    """The ledger is locked, or its disk is full or gone."""
