"""Whose folder a command was pointed at: each side's has a settings file of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.errors import ConfigError


@dataclass(frozen=True)
class Side:
    """One of both sides: whose folder it is, its settings there, and its command."""

    whose: str
    settings: str
    command: str


SERVER: Final = Side("a server's", "server.toml", "fedprune-server")
INSTITUTION: Final = Side("an institution's", "client.toml", "fedprune-client")


def require_own(home: Path, side: Side) -> None:
    """Raise `ConfigError` if ``home`` is the other side's, where remedies of ours do harm."""
    other = INSTITUTION if side is SERVER else SERVER
    if not (home / side.settings).is_file() and (home / other.settings).is_file():
        raise ConfigError(
            f"{home}: this is {other.whose} folder: use {other.command}, or name {side.whose}"
            " folder by --home"
        )


def require_home(home: Path, side: Side) -> None:
    """Raise `ConfigError` unless ``home`` is a folder of this side."""
    require_own(home, side)
    if not (home / side.settings).is_file():
        raise ConfigError(
            f"{home / side.settings}: no such file: go to {side.whose} folder, or name the folder"
            " by --home"
        )
