"""Pictures that a telephone shows and both themes suit: SVG in the reader's own text colour."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator

from common.console import printable
from server.report.shapes import Bars, Chart, Figure, Series

INK = "#010203"
"""Drawn nowhere else, so that it can stand for the reader's text colour."""

THEMED = (
    "<style>svg{color:#1c2024}@media screen and (prefers-color-scheme:dark){svg{color:#e4e7eb}}"
    "</style>"
)
COLOURS = ("#3b82c4", "#d9731a", "#2f9e6e", "#b65fb0", "#b8921f", "#d1495b", "#3aa6b9", "#8c6d46")
GREY = "#868d97"

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fedprune",
    "svg.fonttype": "path",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.framealpha": 0,
}

WIDTH, HEIGHT = 4.9, 4.0
"""Inches: at this size 11 points are legible on a telephone and beside another figure."""

LEFT, RIGHT, TOP, LINE = 0.78, 0.12, 0.1, 0.23
"""Inches around the axes, and of a line of text."""

SHARE = (-0.02, 1.02)
"""The axis of what lies between 0 and 1."""

BAND = 0.16
"""Opacity of a band."""


class Drawn:
    """What a block drew."""

    svg = ""


@contextmanager
def drawing(
    x: str, y: str, height: float = HEIGHT, left: float = LEFT
) -> Iterator[tuple[Axes, Drawn]]:
    """Give axes to draw on; the picture is in the second value after the block.

    ``left`` inches are for the labels of y. The layout is reckoned, not solved for: matplotlib's
    own draws everything three times.
    """
    drawn = Drawn()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A name in letters that the font lacks is in the table all the same.
        warnings.filterwarnings("ignore", "Glyph")
        sheet = Sheet(figsize=(WIDTH, height))
        axes = sheet.subplots()
        yield axes, drawn
        axes.set(xlabel=x, ylabel=y)
        axes.grid(visible=True, alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        below = LINE * (1.3 + bool(x))
        if entries := len(axes.get_legend_handles_labels()[1]):
            lines = (entries + 1) // 2
            sheet.legend(loc="lower center", ncols=2, fontsize=10.5, borderaxespad=0)
            below += LINE * (0.5 + lines)
            height += LINE * max(0, lines - 2)
            sheet.set_figheight(height)
        sheet.subplots_adjust(left / WIDTH, below / height, 1 - RIGHT / WIDTH, 1 - TOP / height)
        text = StringIO()
        sheet.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue().replace(INK, "currentColor")
    head = svg.index(">", svg.index("<svg")) + 1
    drawn.svg = svg[:head] + THEMED + svg[head:]


def draw(figure: Figure) -> str:
    """Return a figure's SVG."""
    return _bars(figure) if isinstance(figure, Bars) else _chart(figure)


def _chart(chart: Chart) -> str:
    with drawing(chart.x, chart.y) as (axes, drawn):
        base = np.zeros(0)
        for series in chart.series:
            if series.kind == "area":
                base = base if base.size else np.zeros(len(series.y))
                _area(axes, series, base)
                base = base + np.nan_to_num(series.y)
            else:
                _series(axes, series)
        axes.set_xlim(*chart.x_limits)
        axes.set_ylim(*chart.y_limits)
        if chart.share:
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, SHARE[0]), min(high, SHARE[1]))
        if chart.whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return drawn.svg


def _area(axes: Axes, series: Series, base: np.ndarray[Any, Any]) -> None:
    top = base + np.nan_to_num(series.y)
    axes.fill_between(
        series.x, base, top, color=_colour(series), lw=0, alpha=0.85, label=series.label
    )


def _series(axes: Axes, series: Series) -> None:
    colour = _colour(series)
    if series.kind == "level":
        value = float(series.y[0])
        axes.axhline(value, color=colour, ls=series.dash, lw=1.2, label=series.label)
        return
    if series.kind == "points":
        error = None
        if series.low is not None and series.high is not None:
            error = np.array([series.y - series.low, series.high - series.y])
        axes.errorbar(
            series.x,
            series.y,
            error,
            color=colour,
            ls=series.dash,
            marker="o",
            ms=4,
            lw=1.6,
            capsize=3,
            label=series.label,
        )
        return
    if series.kind == "mark":
        axes.plot(series.x, series.y, "D", color=colour, ms=7, label=series.label)
        return
    style = "steps-post" if series.kind == "step" else "default"
    axes.plot(
        series.x,
        series.y,
        color=colour,
        ls=series.dash,
        lw=1.6,
        drawstyle=style,
        label=series.label,
    )
    if series.low is not None and series.high is not None:
        axes.fill_between(series.x, series.low, series.high, color=colour, alpha=BAND, lw=0)


def _bars(bars: Bars) -> str:
    places = np.arange(len(bars.names))
    names = [shortened(name) for name in bars.names]
    left = 0.25 + CHARACTER * max(map(len, names), default=0)
    with drawing(bars.x, "", 1.3 + 0.27 * len(places), left) as (axes, drawn):
        if bars.low is not None and bars.high is not None:
            error = np.array([bars.values - bars.low, bars.high - bars.values])
            axes.errorbar(bars.values, places, xerr=error, fmt="o", color=COLOURS[0], capsize=3)
        else:
            axes.barh(places, np.nan_to_num(bars.values), 0.7, color=COLOURS[0])
        if bars.level is not None:
            name, value = bars.level
            axes.axvline(value, color=GREY, ls="--", lw=1.2, label=name)
        axes.set_yticks(places, names)
        axes.set_xlim(*bars.limits)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    return drawn.svg


LONGEST, CHARACTER = 22, 0.09
"""Characters of a name in a figure, whose table has all of it, and inches that one takes."""


def shortened(name: str) -> str:
    """Return a name that leaves room for what it names; ``$`` would begin a formula."""
    name = printable(name)
    cut = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    return cut.replace("$", r"\$")


def _colour(series: Series) -> str:
    return GREY if series.colour is None else COLOURS[series.colour % len(COLOURS)]
