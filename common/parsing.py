"""One way from a configuration file to a validated value, every fault told in one line."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

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
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: ".removeprefix(": ")
            + problem["msg"].removeprefix("Value error, ")
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise kind(f"{source}: {problems}") from error


def read_toml(parse: Callable[[dict[str, Any]], T], path: Path, kind: type[ConfigError]) -> T:
    """Return what ``parse`` makes of a TOML file; raise ``kind`` naming the file and the fault."""
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise kind(f"{path}: no such file: check the path") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise kind(f"{path}: not readable as TOML: {error}") from error
    return validated(parse, fields, str(path), kind)
