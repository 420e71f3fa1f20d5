"""What the functions share: arguments to options, a place for results, one thread of torch."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch

from common.errors import ConfigError
from common.plan import Plan
from common.schema import FeatureSchema
from simulations.inputs import Options

R = TypeVar("R")
PathLike = Path | str


def settings_of(
    settings: Mapping[str, object] | None, **shorthand: object
) -> dict[tuple[str, str], Any]:
    """Return settings by plan section and key, from names such as ``pruning.score``.

    An argument of its own goes before the same setting; its name has ``__`` for the dot.
    """
    named = {name.replace("__", "."): value for name, value in shorthand.items()}
    given = {name: value for name, value in named.items() if value is not None}
    found = {}
    for name, value in {**(settings or {}), **given}.items():
        section, dot, key = name.partition(".")
        if not (section and dot and key):
            raise ConfigError(f"setting {name!r} has no section: name it as in 'pruning.score'")
        found[section, key] = value
    return found


def options_of(  # noqa: PLR0913, PLR0917  (what `Options` holds)
    plan: Plan | PathLike | None,
    data: pd.DataFrame | PathLike | None,
    schema: FeatureSchema | PathLike | None,
    institutions: int | None,
    partition: str | None,
    seed: int,
    settings: Mapping[tuple[str, str], Any],
) -> Options:
    """Return options whose files are paths, as the command line has them."""
    return Options(
        Path(plan) if isinstance(plan, str) else plan,
        Path(data) if isinstance(data, str) else data,
        str(schema) if isinstance(schema, Path) else schema,
        institutions,
        partition,
        seed,
        settings,
    )


def placed(out: PathLike | None) -> Path:
    """Return the directory of results: the one that is named, or a new temporary one."""
    return Path(tempfile.mkdtemp(prefix="fedprune-")) if out is None else Path(out)


@contextmanager
def unnamed_removed(out: PathLike | None, place: Path) -> Iterator[None]:
    """Remove a temporary directory when the block fails: nobody would know of it."""
    try:
        yield
    except BaseException:
        if out is None:
            shutil.rmtree(place, ignore_errors=True)
        raise


def lent(result: R, out: PathLike | None, place: Path) -> R:
    """Return a result that takes its temporary directory with it when it goes."""
    if out is None:
        weakref.finalize(result, shutil.rmtree, place, ignore_errors=True)
    return result


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch work in one thread: results must not depend on how a sum is divided."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
