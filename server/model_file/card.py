"""The model file as Markdown and as JSON: one value, so both say the same."""

import json
import re
from collections.abc import Iterator, Sequence

from common.console import printable
from server.model_file.catalogue import MAPPING
from server.model_file.shapes import Chapter, Grid, Missing, ModelFile, Value, shown

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
    yield (
        "What the run's records say to each test. Bounds are the program's own unless the owner set"
        " them; no regulator set any. A bound is passed when noise alone may explain the rest."
    )
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
        titles = {key: chapter.title for key, chapter in file.chapters.items()}
        rows = [_told(titles[one.chapter], one.label, one.remedy) for one in file.missing]
        yield _table(("chapter", "fact", "needs"), rows)
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
        head = f"**{told(fact.label)}**"
        if isinstance(fact, Missing):
            lines.append(f"- {head}: *missing*; needs {told(fact.remedy)}")
        elif isinstance(fact.value, Grid):
            rows = [_told(*map(shown, row)) for row in fact.value.rows]
            grids += [head, _table(_told(*fact.value.columns), rows)]
        else:
            lines.append(f"- {head}: {_value(fact.value)}")
    if lines:
        yield "\n".join(lines)
    yield from grids


def _value(value: Value) -> str:
    if isinstance(value, tuple):
        return "".join(f"\n  - {told(one)}" for one in value)
    return told("" if isinstance(value, Grid) else shown(value))


def _told(*cells: str) -> tuple[str, ...]:
    return tuple(map(told, cells))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
