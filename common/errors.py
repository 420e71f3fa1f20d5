"""Every error a person or a peer can meet, in one tree.

FedpruneError                 exit 1
├── ConfigError               exit 3   a plan, schema or client file is wrong
│   ├── PlanError
│   ├── SchemaError
│   ├── ModelError
│   └── NoServerError                  no server runs in a folder (`server.desk`)
├── DataError                 exit 4   an institution's table does not fit
│   └── TableError                     in one or more ways, all of which it knows
├── PolicyError               exit 5   the institution refuses what it is asked
│   └── ProtocolError                  a message breaks the protocol
├── AggregationError          exit 6   a round cannot be completed
│   └── TooFewSurvivorsError
├── BudgetError               exit 7   a privacy budget does not allow it
├── AuditError                exit 8   an attack refutes the privacy that is claimed
├── TrailError                exit 8   an audit log was altered (`common.trail.refusals`)
└── DiskError                 exit 1   a disk is full or gone; what was finished before is kept

Every message names the value, the bound and the remedy in one line. Messages never
hold a record's contents: what is raised on an institution may reach the server, so only
the ``reason`` of a `PolicyError` does.
"""

from collections.abc import Sequence


class FedpruneError(Exception):
    """Root of the tree; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class ConfigError(FedpruneError):
    """A configuration file holds something that cannot be used."""

    exit_code = 3


class PlanError(ConfigError):
    """The federation plan is wrong or contradicts itself."""


class SchemaError(ConfigError):
    """The feature schema is wrong or contradicts itself."""


class ModelError(ConfigError):
    """The files of a model are damaged, or do not belong together."""


class DataError(FedpruneError):
    """A table does not fit its schema, or is too small to train on."""

    exit_code = 4


class TableError(DataError):
    """A table's columns or cells do not fit its schema; ``problems`` has a line for each way."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        """Tell the first problem, and how many others there are."""
        self.source, self.problems = source, tuple(problems)
        first, *others = problems
        ending = "problem" if len(others) == 1 else "problems"
        more = f" ({len(others)} more {ending}: fedprune-client check lists all)" if others else ""
        super().__init__(f"{source}: {first}{more}")


class PolicyError(FedpruneError):
    """An institution refuses a request; ``reason`` is safe to tell the server."""

    exit_code = 5
    reason = "refused"


class ProtocolError(PolicyError):
    """A message is malformed, out of order, or breaks the aggregation protocol."""

    reason = "protocol"


class AggregationError(FedpruneError):
    """The sum of a round cannot be opened or is out of range."""

    exit_code = 6


class TooFewSurvivorsError(AggregationError):
    """Fewer institutions are left than the threshold allows; the round is repeated."""


class BudgetError(FedpruneError):
    """A privacy budget is exceeded or cannot be met."""

    exit_code = 7


class AuditError(FedpruneError):
    """An attack shows that more leaks than the claim allows."""

    exit_code = 8


class DiskError(FedpruneError):
    """A file cannot be written; the one that stood there before is whole."""
