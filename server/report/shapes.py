"""What a report is made of, before anything is drawn."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they are shown; the first of each row is its head. Those of ``words`` may break."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Points [n] by their x, and a band from ``low`` to ``high``; NaN is left out.

    ``colour`` counts in the palette; None is the grey of what something is held against. An
    ``area`` stands on those before it, a ``level`` is one number over all of x.
    """

    label: str
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None
    kind: Literal["line", "points", "step", "area", "level", "mark"] = "line"
    colour: int | None = 0
    dash: str = "-"


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """Series over one axis, in words for those who cannot see it, and as a table."""

    title: str
    caption: str
    alt: str
    x: str
    y: str
    series: tuple[Series, ...]
    table: Table
    x_limits: tuple[float | None, float | None] = (None, None)
    y_limits: tuple[float | None, float | None] = (None, None)
    whole: bool = False
    """Whether x counts rounds."""
    share: bool = False
    """Whether y lies between 0 and 1, and the axis with it."""


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """A value a name, from the top down; with ``low`` and ``high`` a point between them."""

    title: str
    caption: str
    alt: str
    x: str
    names: tuple[str, ...]
    values: Array
    table: Table
    low: Array | None = None
    high: Array | None = None
    limits: tuple[float | None, float | None] = (None, None)
    level: tuple[str, float] | None = None
    """What all are held against, and its value."""


Figure = Chart | Bars


@dataclass(frozen=True, slots=True)
class Card:
    """A number of the headline, and what it stands beside."""

    name: str
    value: str
    beside: str


@dataclass(frozen=True, slots=True)
class Text:
    """Lines that are shown as they are: a plan, commands."""

    title: str
    lines: str


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A part of the report; ``missing`` names what nobody recorded, ``lists`` have a title."""

    title: str
    words: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    missing: tuple[str, ...] = ()
    texts: tuple[Text, ...] = ()
    lists: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All of a report."""

    name: str
    lead: str
    warnings: tuple[str, ...]
    cards: tuple[Card, ...]
    sections: tuple[Section, ...] = field(default=())
