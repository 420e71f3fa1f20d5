"""One way from a configuration file to a validated value, every fault told in one line."""

import os
import stat
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ELOOP
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from common.errors import ConfigError
from common.wording import in_words

T = TypeVar("T")


def validated(
    parse: Callable[[dict[str, Any]], T],
    fields: dict[str, Any],
    source: str,
    kind: type[ConfigError],
) -> T:
    """Return ``parse(fields)``; raise ``kind`` naming ``source`` and each problem, no values."""
    try:
        return parse(fields)
    except ValidationError as error:
        # Only the model that parses knows which keys were meant.
        model = getattr(parse, "__self__", None)
        model = model if isinstance(model, type) and issubclass(model, BaseModel) else None
        problems = in_words(error.errors(include_url=False), fields, model)
        raise kind(f"{source}: {problems}") from error


def read_bytes(path: Path, kind: type[ConfigError] = ConfigError) -> bytes:
    """Return a file that somebody named; raise ``kind`` naming it, the fault and the remedy."""
    with _reading(path, kind):
        return path.read_bytes()


def read_foreign(path: Path, most: int) -> bytes:
    """Return a regular file of at most ``most`` bytes in a folder that others filled.

    It is looked at once it is open, so that nothing takes its place in between; raise `ConfigError`
    naming it, the fault and the remedy.
    """
    with _reading(path, ConfigError), open(path, "rb", opener=_no_link) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError(f"{path}: is no regular file: put the file itself there")
        data = file.read(most + 1)
    if len(data) > most:
        raise ConfigError(
            f"{path}: more than {most} bytes, the most that it may have: have it sent again"
        )
    return data


@contextmanager
def _reading(path: Path, kind: type[ConfigError]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise kind(f"{path}: no such file: check the path") from error
    except OSError as error:
        if error.errno == ELOOP:
            raise kind(f"{path}: is a symbolic link: put the file itself there") from error
        raise kind(f"{path}: {error.strerror}: name a file that can be read") from error


def _no_link(path: str, flags: int) -> int:
    # Without waiting: a pipe that nobody writes to would hold whoever opens it.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def read_toml(parse: Callable[[dict[str, Any]], T], path: Path, kind: type[ConfigError]) -> T:
    """Return what ``parse`` makes of a TOML file; raise ``kind`` naming the file and the fault."""
    return parse_toml(parse, read_bytes(path, kind), str(path), kind)


def parse_toml(
    parse: Callable[[dict[str, Any]], T], data: bytes, source: str, kind: type[ConfigError]
) -> T:
    """Return what ``parse`` makes of TOML; raise ``kind`` naming ``source`` and the fault."""
    return validated(parse, fields_of(data, source, kind), source, kind)


def fields_of(data: bytes, source: str, kind: type[ConfigError]) -> dict[str, Any]:
    """Return what stands in TOML; raise ``kind`` naming ``source`` and the fault."""
    try:
        return tomllib.loads(data.decode())
    # ValueError: not UTF-8, not TOML, or a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise kind(f"{source}: not readable as TOML: {error}") from error
