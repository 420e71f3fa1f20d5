"""Whom a run waits for before its first round, and why: noted by its process, told by `status`."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from common.errors import DiskError
from common.processes import write_secret

log = logging.getLogger("fedprune.server")

FILE: Final = "awaited.json"
"""In ``state/``: the run, and why each institution that it waits for is not there, by name."""

Awaits = Callable[[Mapping[str, str]], None]
"""Takes why each institution that is waited for is not there, by name; of nobody, at the end."""


def noting(state: Path, run: str) -> Awaits:
    """Return what notes in the folder ``state`` whom ``run`` waits for, whenever that changes."""
    noted: dict[str, str] | None = None

    def note(missing: Mapping[str, str]) -> None:
        nonlocal noted
        if noted == missing:
            return
        noted = dict(missing)
        if missing:
            log.info("waiting for: %s", _in_words(missing))
        try:
            write_secret(state / FILE, json.dumps({"run": run, "missing": noted}).encode())
        except DiskError as error:
            log.debug("who is waited for was not noted: %s", error)

    return note


def awaited(state: Path, run: str) -> str:
    """Return whom ``run`` waits for, as a person reads it; nothing if it waits for nobody."""
    try:
        noted = json.loads((state / FILE).read_bytes())
    except (OSError, ValueError):
        return ""
    return _in_words(noted["missing"]) if noted["run"] == run else ""


def _in_words(missing: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in sorted(missing.items()))
