"""Why a log is not read or not written further.

FedpruneError
└── TrailError            exit 8   a log was altered, cut, mixed up, or contradicts another
    └── MalformedLineError         a line in no form that `common.trail.lines` writes
"""

from common.errors import FedpruneError


class TrailError(FedpruneError):
    """An audit log is not what was written, or two logs contradict each other."""

    exit_code = 8


class MalformedLineError(TrailError):
    """A line of a log cannot be read, or is not in the only form that it has."""
