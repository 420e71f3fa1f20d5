"""What pydantic finds wrong with a configuration, in words that name the remedy.

A text may be a secret: of what was typed only keys, numbers and the names and kinds of entries are
repeated.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import groupby
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

WORDS = {
    "missing": "is missing: add it",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "literal_error": "must be {expected}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be text, in quotes",
    "string_too_short": "is too short: {min_length} characters at least",
    "string_too_long": "is too long: {max_length} characters at most",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "too_short": "must hold at least {min_length}",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "union_tag_not_found": "its kind is missing: add it",
    "union_tag_invalid": "unknown kind {tag!r}; known: {expected_tags}",
}
"""By pydantic's kind of error, what to say of it; another kind is told in pydantic's words."""

PATTERNS = {
    r"^[a-z0-9][a-z0-9_-]{0,62}$": "lower-case letters, digits, '-' and '_', 63 at most",
    r"^\S(.*\S)?$": "one line without blanks at its ends",
    "^[0-9a-f]{64}$": "64 digits of 0-9 and a-f, as they were printed",
}

DATE = ": a date is no feature: turn it into days, or list the column in ignored"


def in_words(
    problems: Iterable[ErrorDetails], fields: object, model: type[BaseModel] | None
) -> str:
    """Return all problems in one line, each with its place; ``model`` says which keys there are."""
    # A union complains once a branch, of one place.
    placed = groupby(problems, lambda problem: (_typed(problem["loc"]), _number(problem)))
    return "; ".join(
        _told(place, number, list(found), fields, model) for (place, number), found in placed
    )


def _told(
    place: Sequence[int | str],
    number: str,
    problems: Sequence[ErrorDetails],
    fields: object,
    model: type[BaseModel] | None,
) -> str:
    where, entry = _where(place, fields)
    told = [_sentence(problem, model).removeprefix(f"{entry}: ") for problem in problems]
    told = list(dict.fromkeys(told))
    first, *others = told
    line = " or ".join([first, *(other.removeprefix("must be ") for other in others)])
    return f"{where} {number}".strip() + ": " * bool(where) + line + _percent(problems)


def _typed(loc: Sequence[int | str]) -> tuple[int | str, ...]:
    """Return a place without the branches of unions, which no reader typed."""
    return tuple(
        part
        for part in loc
        if isinstance(part, int)
        or not ("[" in part or "constrained-" in part or part in {"int", "float", "str"})
    )


def _number(problem: ErrorDetails) -> str:
    value = problem["input"]
    return str(value) if isinstance(value, int | float) else ""


def _where(place: Sequence[int | str], fields: object) -> tuple[str, str]:
    """Return a place as a reader knows it, and the last entry's name that it holds.

    An entry of a list is known by its name where it has one: column 'age', low.
    """
    told: list[str] = []
    entry = ""
    for part in place:
        if isinstance(fields, Mapping) and part in fields:
            fields = fields[part]
        elif isinstance(part, int) and isinstance(fields, Sequence) and part < len(fields):
            fields = fields[part]
            name = fields.get("name") if isinstance(fields, Mapping) else None
            if isinstance(name, str) and told:
                entry = name
                told = [f"{told[-1].removesuffix('s')} {name!r},"]
                continue
        elif entry and isinstance(fields, Mapping) and part == fields.get("kind"):
            continue
        told.append(str(part))
    if not entry:
        return ".".join(told), entry
    return " ".join([told[0], ".".join(told[1:])]).strip().removesuffix(","), entry


def _sentence(problem: ErrorDetails, model: type[BaseModel] | None) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        *place, key = problem["loc"]
        return f"unknown key: {_likely(str(key), keys_at(model, place))}"
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return f"must be {PATTERNS.get(pattern, f'text like {pattern}')}"
    if kind == "union_tag_invalid" and "date" in str(context["tag"]):
        return WORDS[kind].format(**context) + DATE
    if kind in WORDS:
        return WORDS[kind].format(**context)
    return problem["msg"].removeprefix("Value error, ")


def _likely(key: str, known: Iterable[str]) -> str:
    close = get_close_matches(key, list(known), n=1)
    return f"did you mean {close[0]}?" if close else "remove it"


def _percent(problems: Iterable[ErrorDetails]) -> str:
    """Return the advice for a share that was typed in percent."""
    for problem in problems:
        context, value = problem.get("ctx", {}), problem["input"]
        most = context.get("lt", context.get("le"))
        if most == 1 and isinstance(value, int | float) and 1 < value <= 100:
            return f" (a share: {value / 100:g}, not {value:g})"
    return ""


def keys_at(model: type[BaseModel] | None, place: Sequence[int | str]) -> list[str]:
    """Return the keys that a table at a place of a model may have, as they are typed."""
    models = [] if model is None else [model]
    for part in place:
        below = [
            inner
            for held in models
            for name, field in held.model_fields.items()
            if part in (name, field.alias)
            for inner in _models(field.annotation)
        ]
        # What is no key is an index, or which model of several it is.
        tagged = [held for held in models if part in _tags(held)]
        models = below or tagged or models
    return [field.alias or name for held in models for name, field in held.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _tags(model: type[BaseModel]) -> list[object]:
    return [tag for field in model.model_fields.values() for tag in get_args(field.annotation)]
