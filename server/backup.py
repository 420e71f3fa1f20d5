"""What a server's home consists of: keys, members, what was published, adverts, runs.

SuperLink's database is not among it: it holds messages on their way, and the nodes' keys, which
`up` tells a new one. Nor is what `up` makes anew whenever it starts.
"""

from pathlib import Path
from typing import Final

from common.archive import Archive, File
from common.backup import copied_log, gathered
from common.errors import ConfigError
from common.release.folder import CHARTERS, RELEASES
from server.home import (
    AUTHORITY,
    AUTHORITY_KEY,
    BUNDLE,
    CERTIFICATE,
    FORMER,
    MEMBERS,
    OPERATOR_KEY,
    PLAN,
    PROPOSALS,
    ROSTER,
    SERVER_KEY,
    SETTINGS,
)
from server.record import CHECKPOINT
from server.store import ADVERTS

RUNS: Final = "runs"
ATTEMPTS: Final = 20
"""At a copy of a run between two of its rounds."""

_FILES = (
    *(SETTINGS, PLAN, ROSTER, BUNDLE, AUTHORITY, AUTHORITY_KEY),
    *(CERTIFICATE, SERVER_KEY, OPERATOR_KEY),
    *(f"{folder}/*" for folder in (MEMBERS, FORMER, PROPOSALS, CHARTERS, f"{RELEASES}/*")),
)


def archived(home: Path, now: int) -> Archive:
    """Return all that a server cannot make anew, while it runs or not.

    Raises:
        ConfigError: there is nothing, or a link.
    """
    files = gathered(home, _FILES)
    if not files:
        raise ConfigError(f"{home}: no server was founded here: name its --home")
    for folder in sorted((home / RUNS).glob("*/")):
        files |= _run(home, folder.relative_to(home).as_posix())
    # Last: they must not be older than what the runs say was sent.
    files |= gathered(home, [f"state/{ADVERTS}*.json"])
    return Archive("server", now, files | copied_log(home))


def _run(home: Path, folder: str) -> dict[str, File]:
    """Return a run's files as of one moment between two rounds."""
    # The checkpoint is replaced first and the journal grows after it, so what is read while the
    # checkpoint stays the same fits together.
    for _ in range(ATTEMPTS):
        before = gathered(home, [f"{folder}/{CHECKPOINT}"])
        files = gathered(home, [f"{folder}/*"])
        if {**files, **before} == files and gathered(home, [f"{folder}/{CHECKPOINT}"]) == before:
            return files
    raise ConfigError(f"{home / folder}: finishes rounds faster than it is copied: try once more")
