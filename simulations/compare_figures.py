"""The plots of a comparison: small enough for a telephone, legible on light and dark.

Each is an SVG that draws in the reader's own text colour, with words for those who cannot see it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from server.report.drawing import COLOURS, GREY, INK, drawing
from simulations.compare import DENSE, LOGISTIC, PRUNED, RANDOM, SAME_SIZE
from simulations.ranking import Advice, Entry, RankBy, Standing, curve_of

SHOWN = len(COLOURS)
"""Variants in one plot; more could not be told apart."""


@dataclass(frozen=True)
class Plot:
    """A picture, its title, what it shows, and the same in words."""

    title: str
    caption: str
    alt: str
    svg: str


DASHES: dict[str, Any] = {RANDOM: "-.", SAME_SIZE: (0, (1, 1)), DENSE: "--", LOGISTIC: ":"}


class _Palette:
    """How each variant is drawn, alike in all plots: in colour what prunes, in grey its rivals."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        names = dict.fromkeys(entry.arm.variant for entry in entries if entry.arm.kind == PRUNED)
        self._colours = dict(zip(names, cycle(COLOURS)))

    def of(self, entry: Entry) -> dict[str, Any]:
        """Return the arguments of a line."""
        if entry.arm.kind == PRUNED:
            colour = self._colours[entry.arm.variant]
            return {"color": colour, "ls": "-", "marker": "o", "ms": 4, "lw": 1.6}
        return {"color": GREY, "ls": DASHES[entry.arm.kind], "marker": ".", "ms": 5, "lw": 1.2}


def plots_of(table: Sequence[Standing], advice: Advice, by: RankBy) -> list[Plot]:
    """Return the plots of one budget's table."""
    entries = [standing.entry for standing in table]
    if advice.arm is None:
        sparsity, which = max(entry.arm.sparsity for entry in entries), "the highest"
    else:
        sparsity, which = advice.arm.sparsity, "the recommended one"
    alike = [entry for entry in entries if entry.arm.pruning and entry.arm.sparsity == sparsity]
    controls = [entry for entry in alike if entry.arm.kind == RANDOM]
    masked = [entry for entry in alike if entry.arm.kind == PRUNED][: SHOWN - 1] + controls[:1]
    palette = _Palette(entries)
    at = f"at sparsity {100 * sparsity:g} %, {which}"
    return [
        _against_sparsity(entries, by, palette),
        _bytes(masked, entries, by, at, palette),
        _layers(masked, at, palette),
        _overlaps(masked, at, palette),
    ]


def against_sparsity(table: Sequence[Standing], by: RankBy) -> Figure:
    """Return ROC-AUC against sparsity of one budget's table, to be drawn by whoever asks."""
    entries = [standing.entry for standing in table]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    _lines(axes, entries, _Palette(entries))
    x, y = _sparsity_axes(by)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _sparsity_axes(by: RankBy) -> tuple[str, str]:
    return "weights pruned, %", f"validation ROC-AUC, {by}"


def _against_sparsity(entries: Sequence[Entry], by: RankBy, palette: _Palette) -> Plot:
    with drawing(*_sparsity_axes(by)) as (axes, done):
        told = _lines(axes, entries, palette)
    title = "ROC-AUC against sparsity"
    caption = (
        "Means over seeds on validation rows; bands of pruned models are one standard deviation."
    )
    return Plot(title, caption, f"{title}. {'; '.join(told)}.", done.svg)


def _lines(axes: Axes, entries: Sequence[Entry], palette: _Palette) -> list[str]:
    """Draw a line a variant, by sparsity; return the same in words."""
    (total,) = {entry.outcomes[0].weights for entry in entries if entry.arm.kind == DENSE} or {0}
    lines: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.arm.kind not in (DENSE, LOGISTIC):
            lines.setdefault(entry.arm.variant, []).append(entry)
    told: list[str] = []
    for name, line in lines.items():
        look = palette.of(line[0])
        line.sort(key=lambda entry: -entry.kept)
        x = [100 * (1 - entry.kept / total) for entry in line]
        y = [entry.mean for entry in line]
        axes.plot(x, y, label=name, **look)
        if line[0].arm.kind == PRUNED and line[0].spread is not None:
            low = [entry.mean - (entry.spread or 0) for entry in line]
            high = [entry.mean + (entry.spread or 0) for entry in line]
            axes.fill_between(x, low, high, color=look["color"], alpha=0.13, lw=0)
        told.append(f"{name}: {_told(zip(x, y, strict=True))}")
    for entry in entries:
        if entry.arm.kind in (DENSE, LOGISTIC):
            dashes = "--" if entry.arm.kind == DENSE else ":"
            axes.axhline(entry.mean, color=GREY, ls=dashes, lw=1.2, label=entry.arm.kind)
            told.append(f"{entry.arm.kind}: {entry.mean:.3f}")
    return told


def _bytes(
    masked: Sequence[Entry], entries: Sequence[Entry], by: RankBy, at: str, palette: _Palette
) -> Plot:
    baselines = [entry for entry in entries if entry.arm.kind in (DENSE, LOGISTIC)]
    told = []
    with drawing("kB up per institution, so far", f"validation ROC-AUC, {by}") as (axes, done):
        for entry in (*masked, *baselines):
            points = [(sent / 1000, auc) for sent, auc in curve_of(entry, by)]
            axes.plot(*zip(*points, strict=True), label=entry.arm.variant, **palette.of(entry))
            told.append(f"{entry.arm.variant}: {points[-1][1]:.3f} after {points[-1][0]:,.0f} kB")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    title = "Bytes to reach a ROC-AUC"
    caption = f"Masked vectors sent before each evaluation, means over seeds, {at}."
    return Plot(title, caption, f"{title}, {at}. {'; '.join(told)}.", done.svg)


def _layers(masked: Sequence[Entry], at: str, palette: _Palette) -> Plot:
    names = [layer.name for layer in masked[0].outcomes[0].layers if layer.name.endswith("weight")]
    told = []
    with drawing("", "weights pruned, %") as (axes, done):
        width = 0.8 / len(masked)
        for index, entry in enumerate(masked):
            gone = [
                100 * fmean(1 - layer.kept / layer.size for layer in layers)
                for layers in zip(*(outcome.layers for outcome in entry.outcomes), strict=True)
                if layers[0].name in names
            ]
            places = [at_ + (index - (len(masked) - 1) / 2) * width for at_ in range(len(names))]
            colour = palette.of(entry)["color"]
            axes.bar(places, gone, width * 0.9, color=colour, label=entry.arm.variant)
            shares = (f"{name} {share:.0f} %" for name, share in zip(names, gone, strict=True))
            told.append(f"{entry.arm.variant}: {', '.join(shares)}")
        axes.set_xticks(range(len(names)), [name.removesuffix(".weight") for name in names])
        axes.set_ylim(0, 102)
        axes.grid(visible=False, axis="x")
    title = "Sparsity by layer"
    caption = f"Weights pruned in each tensor, means over seeds, {at}."
    return Plot(title, caption, f"{title}, {at}. {'; '.join(told)}.", done.svg)


def _overlaps(masked: Sequence[Entry], at: str, palette: _Palette) -> Plot:
    told = []
    with drawing("round", "Jaccard index") as (axes, done):
        for entry in masked:
            rounds, previous, initial = zip(
                *(
                    (
                        each[0].round,
                        fmean(overlap.previous for overlap in each),
                        fmean(overlap.initial for overlap in each),
                    )
                    for each in zip(*(one.overlaps for one in entry.outcomes), strict=True)
                ),
                strict=True,
            )
            plain = palette.of(entry) | {"marker": "", "ls": "-"}
            axes.plot(rounds, previous, **(plain | {"lw": 1.0, "alpha": 0.75}))
            axes.plot(rounds, initial, label=entry.arm.variant, **(plain | {"ls": "--"}))
            told.append(
                f"{entry.arm.variant}: {min(previous):.2f} at least with the round before,"
                f" {initial[-1]:.2f} at the end with the initial weights' mask"
            )
        axes.plot([], [], color=INK, lw=1.0, label="with the round before")
        axes.plot([], [], color=INK, ls="--", label="with the initial weights' mask")
        axes.set_ylim(0, 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    title = "Mask overlap"
    caption = (
        "Surviving units in common. Solid: with the round before; dashed: with the mask that the"
        f" magnitudes of the initial weights alone give at the same sparsity. Means over seeds,"
        f" {at}."
    )
    return Plot(title, caption, f"{title}, {at}. {'; '.join(told)}.", done.svg)


def _told(points: Iterable[tuple[float, float]]) -> str:
    return ", ".join(f"{auc:.3f} at {share:.0f} %" for share, auc in points)
