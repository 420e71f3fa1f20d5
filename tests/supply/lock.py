"""What requirements.lock installs on this machine, held against what is installed."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.bill import Bill, Component, components_of
from common.errors import ConfigError
from tests.commands import ROOT

LOCK, PROJECT = ROOT / "requirements.lock", ROOT / "pyproject.toml"


def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads(PROJECT.read_text())


def pinned(lock: Path = LOCK) -> dict[str, Requirement]:
    """Return the lines of a lock that apply to this Python and machine, by canonical name."""
    lines = map(Requirement, filter(_says_something, lock.read_text().splitlines()))
    return {
        canonicalize_name(line.name): line
        for line in lines
        if line.marker is None or line.marker.evaluate()
    }


def locked_bill(pins: Mapping[str, Requirement]) -> Bill:
    """Return the bill of the project over what a lock pins.

    Raises:
        ConfigError: another version is installed, or none. A build of one version ("+cpu") is it.
    """
    parts = components_of(pins)
    for part in parts:
        if not pins[part.name].specifier.contains(part.version, prereleases=True):
            raise ConfigError(
                f"{part.name} {part.version} is installed, and the lock says"
                f" {pins[part.name].specifier}: run `make setup`"
            )
    about = project()["project"]
    needs = sorted(canonicalize_name(Requirement(line).name) for line in about["dependencies"])
    return Bill(Component(about["name"], about["version"], needs=tuple(needs)), parts)


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")
