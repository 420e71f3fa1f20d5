"""One way from a configuration file to a validated value, every fault told in one line."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from common.errors import ConfigError

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
        problems = "; ".join(map(_in_words, error.errors(include_url=False)))
        raise kind(f"{source}: {problems}") from error


def _in_words(problem: ErrorDetails) -> str:
    """Name where, which number, and what is wrong; a text may be a secret and is not repeated."""
    # Pydantic names the branches of a union too, which no reader typed.
    parts = [str(part) for part in problem["loc"]]
    where = ".".join(part for part in parts if "[" not in part and "constrained-" not in part)
    number = problem["input"] if isinstance(problem["input"], int | float) else ""
    told = problem["msg"].removeprefix("Value error, ")
    return f"{where} {number}".strip() + ": " * bool(where) + told


def read_bytes(path: Path, kind: type[ConfigError] = ConfigError) -> bytes:
    """Return a file that somebody named; raise ``kind`` naming it, the fault and the remedy."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise kind(f"{path}: no such file: check the path") from error
    except OSError as error:
        raise kind(f"{path}: {error.strerror}: name a file that can be read") from error


def read_toml(parse: Callable[[dict[str, Any]], T], path: Path, kind: type[ConfigError]) -> T:
    """Return what ``parse`` makes of a TOML file; raise ``kind`` naming the file and the fault."""
    return parse_toml(parse, read_bytes(path, kind), str(path), kind)


def parse_toml(
    parse: Callable[[dict[str, Any]], T], data: bytes, source: str, kind: type[ConfigError]
) -> T:
    """Return what ``parse`` makes of TOML; raise ``kind`` naming ``source`` and the fault."""
    try:
        fields = tomllib.loads(data.decode())
    # ValueError: not UTF-8, not TOML, or a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise kind(f"{source}: not readable as TOML: {error}") from error
    return validated(parse, fields, source, kind)
