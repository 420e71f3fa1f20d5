"""What an institution's home consists of: its settings, keys, consent and ledger.

Nothing of its table goes in. What the ledger stores does, the vector of a round that was not
opened yet among it, which only masks would hide: a backup is as secret as the keys in it.
"""

from pathlib import Path

from client.config import load_config
from client.consent import (
    AUTHORITY,
    BUNDLE,
    COMING,
    KEYS,
    NODE_KEY,
    PENDING,
    PIN,
    PLAN,
    PUBLIC,
    REQUEST,
    ROSTER,
)
from client.databases import Database
from common.archive import Archive
from common.backup import copied_database, copied_log, gathered, read_file
from common.errors import ConfigError
from common.release.folder import CHARTERS, RELEASES

_FILES = (
    *("client.toml", PIN, PLAN, ROSTER, AUTHORITY, BUNDLE, PENDING),
    *(
        f"{begin}{name}"
        for begin in ("", COMING)
        for name in (KEYS, NODE_KEY, NODE_KEY + PUBLIC, REQUEST)
    ),
    *(f"{CHARTERS}/*", f"{RELEASES}/*/*"),
)


def archived(home: Path, now: int) -> Archive:
    """Return all that an institution cannot make anew but its table, while it runs or not.

    Raises:
        ConfigError: ``client.toml`` cannot be read, names something outside the home, or a link
            stands in place of a file.
    """
    home = home.resolve()
    config = load_config(home / "client.toml")
    named = [config.plan]
    if config.membership is not None:
        named += [config.membership.keys, config.membership.roster]
    if isinstance(config.data, Database):
        named.append(config.data.ca)
    files = gathered(home, _FILES)
    files |= {_inside(home, path): read_file(home / path) for path in named if path is not None}
    ledger = _inside(home, config.ledger.file)
    if (home / ledger).exists():
        files[ledger] = copied_database(home / ledger)
    # Last: it must hold all lines that the ledger notes.
    return Archive("client", now, files | copied_log(home))


def _inside(home: Path, path: Path) -> str:
    """Return the path of a file below ``home``, to which it may be relative."""
    found = (home / path).resolve()
    if not found.is_relative_to(home):
        raise ConfigError(
            f"{found}: lies outside {home}: move it there, so that a backup holds all of it"
        )
    return found.relative_to(home).as_posix()
