"""The model file as Markdown and as JSON: one value, so both say the same."""

import json
import re
from collections.abc import Iterator, Sequence

from common.console import printable
from server.model_file.catalogue import MAPPING, TESTING
from server.model_file.shapes import (
    Chapter,
    Grid,
    ModelFile,
    Told,
    in_column,
    lacking,
    shown,
)

SPECIAL = re.compile(r"([\\`*\[\]<>|#~])")
"""What Markdown would take for its own; names in plans and facts are chosen by others."""

OUTCOMES = {"pass": "pass", "attention": "**attention**", "missing": "*missing*"}


def json_of(file: ModelFile) -> bytes:
    """Return ``model-card.json``."""
    return (json.dumps(file.model_dump(mode="json"), indent=1, allow_nan=False) + "\n").encode()


def markdown_of(file: ModelFile) -> str:
    """Return ``model-card.md``."""
    return "\n\n".join(_parts(file)) + "\n"


def told(text: str) -> str:
    """Return a text as Markdown that shows it, on one line."""
    return SPECIAL.sub(r"\\\1", printable(text))


def _parts(file: ModelFile) -> Iterator[str]:
    yield f"# {told(file.name)}: model card"
    yield told(file.lead)
    for warning in file.warnings:
        yield f"> **Warning.** {told(warning)}"
    yield f"Validation: {_counted(file)}. Missing facts: {len(file.missing)}."
    for chapter in file.chapters.values():
        yield from _chapter(chapter)
    yield "## Validation"
    yield TESTING
    yield _table(
        ("test", "asks", "outcome", "found", "held to"),
        [
            (
                told(one.title),
                told(one.asks),
                OUTCOMES[one.outcome],
                *_told(one.found, one.threshold),
            )
            for one in file.checks.values()
        ],
    )
    yield "## What is missing"
    yield (
        "Nothing." if not file.missing else "Facts that no record tells, and what would tell them."
    )
    if file.missing:
        rows = [
            _told(chapter.title, ", ".join(labels), remedy)
            for chapter in file.chapters.values()
            for remedy, labels in lacking(chapter)
        ]
        yield _table(("chapter", "facts", "need"), rows)
    yield "## Which rule each chapter serves"
    yield MAPPING
    rules = [_told(one.title, one.rules.us, one.rules.eu) for one in file.chapters.values()]
    yield _table(("chapter", "US model risk guidance", "EU AI Act"), rules)


def _counted(file: ModelFile) -> str:
    return (
        f"{file.count('pass')} tests passed, {file.count('attention')} need attention,"
        f" {file.count('missing')} could not be made"
    )


def _chapter(chapter: Chapter) -> Iterator[str]:
    yield f"## {told(chapter.title)}"
    yield told(chapter.words)
    lines, grids = list[str](), list[str]()
    for fact in chapter.facts.values():
        if not isinstance(fact, Told):
            continue
        head = f"**{told(fact.label)}**"
        match fact.value:
            case Grid() as grid:
                rows = [_told(*map(in_column, row)) for row in grid.rows]
                grids += [head, _table(_told(*grid.columns), rows)]
            case tuple() as items:
                lines += [f"- {head}:", *(f"  - {told(item)}" for item in items)]
            case value:
                lines.append(f"- {head}: {told(shown(value))}")
    for remedy, labels in lacking(chapter):
        lines.append(f"- *missing*: {told(', '.join(labels))}; needs {told(remedy)}")
    if lines:
        yield "\n".join(lines)
    yield from grids


def _told(*cells: str) -> tuple[str, ...]:
    return tuple(map(told, cells))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
