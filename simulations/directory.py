"""The directory of a simulated run: one run at a time, nothing of others overwritten."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.durable import PARTIAL, write_atomically
from common.errors import ConfigError
from common.export.forms import COMPACT
from common.export.onnx_file import ONNX
from common.export.sparse_file import SPARSE
from server.journal import JOURNAL
from server.tables import (
    CARD,
    CARD_FACTS,
    COLUMNS_OF,
    FACTS,
    MODEL,
    REPORT,
    SHRINKAGE,
    VALIDATION_PAGE,
)

LOCK = ".lock"
MODELS = (MODEL, ONNX, SPARSE, COMPACT, SHRINKAGE, FACTS)
COMPARED = ("compare.csv", "compare.json", "compare.html", "recommended.toml", "tune.json")
RESULTS = (
    *("summary.json", "plan.toml", "curves.svg", "audit.json", JOURNAL),
    *(REPORT, CARD, CARD_FACTS, VALIDATION_PAGE),
    *COLUMNS_OF,
    *MODELS,
    *COMPARED,
)
OURS = {LOCK, *RESULTS, *(name + PARTIAL for name in RESULTS)}
"""What a run may write; a killed one leaves a partial file behind."""


@contextmanager
def claimed(directory: Path, kept: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Hold ``directory`` for one run, emptied of an earlier run's results but for ``kept``.

    Raises `ConfigError` when it is a file, holds anything but results, or another run writes there.
    """
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"{directory}: is a file: name another directory with --out")
    directory.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in directory.iterdir()}
    # Without a lock no run was here: a plan.toml is then the researcher's own.
    if strangers := sorted(names - OURS - kept if LOCK in names else names):
        raise ConfigError(
            f"{directory}: holds {strangers[0]!r}, which no run wrote:"
            " name an empty directory with --out"
        )
    with (directory / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{directory}: another run writes here: name another directory with --out"
            ) from error
        for name in OURS - {LOCK}:
            (directory / name).unlink(missing_ok=True)
        yield directory


def write_results(directory: Path, summary: dict[str, Any], drawing: str) -> None:
    """Write ``summary.json`` and ``curves.svg``."""
    text = json.dumps(summary, indent=2, allow_nan=False)
    write_atomically(directory / "curves.svg", drawing.encode())
    write_atomically(directory / "summary.json", (text + "\n").encode())
