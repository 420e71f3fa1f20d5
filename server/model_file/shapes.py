"""What a model file is made of. Its JSON form is `ModelFile`'s own, under one `FORMAT`."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

FORMAT: Final = 1
"""Of ``model-card.json``; raised whenever a reader of the last one would misread it."""

Number = Annotated[float, Field(allow_inf_nan=False)]
Cell = str | bool | int | Number | None
"""A value of a table; None where there is none."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Grid(_Frozen):
    """A table: a name for each column, and rows of as many cells, the first of which names it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        if len({*self.columns}) < len(self.columns):
            raise ValueError("two columns of a table have one name")
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a row of a table has more cells than it has columns, or fewer")
        return self


Value = str | bool | int | Number | tuple[str, ...] | Grid


class Told(_Frozen):
    """A fact that the run's records, or the model's owner, tell."""

    state: Literal["told"] = "told"
    label: str
    value: Value


class Missing(_Frozen):
    """A fact that nobody recorded, and what would tell it."""

    state: Literal["missing"] = "missing"
    label: str
    remedy: str


Fact = Annotated[Told | Missing, Field(discriminator="state")]


class Rules(_Frozen):
    """What a chapter is for, in the words of two regulators."""

    us: str
    eu: str


class Chapter(_Frozen):
    """Facts by key, always all of those that the catalogue names."""

    title: str
    words: str
    facts: dict[str, Fact]
    rules: Rules


Outcome = Literal["pass", "attention", "missing"]


class Check(_Frozen):
    """A test of the validation: what it asks, what was found, what it is held to."""

    title: str
    asks: str
    outcome: Outcome
    found: str
    threshold: str


class Lacking(_Frozen):
    """A missing fact, and the chapter that lacks it."""

    chapter: str
    key: str
    label: str
    remedy: str


class ModelFile(_Frozen):
    """All of it; the chapters' and facts' keys are those of `server.model_file.catalogue`."""

    format: Literal[1] = FORMAT
    name: str
    lead: str
    warnings: tuple[str, ...]
    chapters: dict[str, Chapter]
    checks: dict[str, Check]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def missing(self) -> tuple[Lacking, ...]:
        """Every fact that nobody recorded, in the order of the chapters."""
        return tuple(self._missing())

    def told(self, chapter: str, key: str) -> Value | None:
        """Return a fact's value; None where it is missing."""
        fact = self.chapters[chapter].facts[key]
        return fact.value if isinstance(fact, Told) else None

    def count(self, outcome: Outcome) -> int:
        """Return how many tests ended so."""
        return sum(check.outcome == outcome for check in self.checks.values())

    def _missing(self) -> Iterator[Lacking]:
        for name, chapter in self.chapters.items():
            for key, fact in chapter.facts.items():
                if isinstance(fact, Missing):
                    yield Lacking(chapter=name, key=key, label=fact.label, remedy=fact.remedy)


def lacking(chapter: Chapter) -> list[tuple[str, list[str]]]:
    """Return what a chapter's missing facts need, each with the labels of those that need it."""
    found: dict[str, list[str]] = {}
    for fact in chapter.facts.values():
        if isinstance(fact, Missing):
            found.setdefault(fact.remedy, []).append(fact.label)
    return list(found.items())


def shown(cell: Cell) -> str:
    """Return a fact's value as people read it, alike on paper and page."""
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return cell


def in_column(cell: Cell) -> str:
    """Return a table's cell as people read it: numbers of a column have as many digits."""
    fits = isinstance(cell, float) and (cell == 0 or 5e-5 <= abs(cell) < 1000)
    return f"{cell:.4f}" if fits else shown(cell)
