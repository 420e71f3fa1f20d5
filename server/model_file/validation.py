"""What a validator looks at: the tests, then each chapter with its figures and tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from server.evaluation import CONFIDENCE
from server.model_file.catalogue import MAPPING, TESTING
from server.model_file.found import last_counts, last_metric
from server.model_file.records import Records
from server.model_file.shapes import (
    Chapter,
    Check,
    Grid,
    ModelFile,
    Told,
    in_column,
    lacking,
    shown,
)
from server.model_file.study import Study
from server.model_file.watching import ROWS, SHIFTED, bands_of, falls, index_bound
from server.report import quality
from server.report.shapes import Bars, Card, Chart, Figure, Section, Series, Table

DRAWN = {"figures", "models", "fall", "stability_index"}
"""Facts that stand as the tables of their chapter's figures, where it has some."""

LINE = 80
"""Characters up to which a list stands on one line."""


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """All of the validation's page."""

    name: str
    lead: str
    warnings: tuple[str, ...]
    cards: tuple[Card, ...]
    beginning: str
    checks: tuple[Check, ...]
    sections: tuple[Section, ...]


def page_of(file: ModelFile, records: Records) -> Page:
    """Return the page of a model file; its curves are drawn from the same records."""
    drawn = figures_of(records)
    sections = [_section(chapter, drawn.get(key, ())) for key, chapter in file.chapters.items()]
    return Page(
        name=file.name,
        lead=file.lead,
        warnings=file.warnings,
        cards=tuple(_cards(file)),
        beginning=TESTING,
        checks=tuple(file.checks.values()),
        sections=(*sections, _missing(file), _rules(file)),
    )


def figures_of(records: Records) -> dict[str, tuple[Figure, ...]]:
    """Return the figures of each chapter that has some."""
    run = records.run
    found = {
        "pruning": quality.against_sparsity(run).figures if run.rounds else (),
        "performance": quality.probabilities(run).figures,
        "groups": quality.by_group(run).figures,
        "stability": () if records.study is None else (_over_seeds(records.study),),
        "monitoring": _watching(records),
    }
    return {key: figures for key, figures in found.items() if figures}


def _cards(file: ModelFile) -> Iterator[Card]:
    whole = f"of {len(file.checks)}"
    yield Card("tests passed", str(file.count("pass")), whole)
    yield Card("need attention", str(file.count("attention")), whole)
    yield Card("not made", str(file.count("missing")), whole)
    yield Card("facts missing", str(len(file.missing)), "named at the end")
    metrics = file.told("performance", "metrics")
    if isinstance(metrics, Grid):
        _, value, sd = metrics.rows[0]
        yield Card("ROC-AUC", in_column(value), f"sd of noise {in_column(sd)}" if sd else "")
    sparsity = file.told("pruning", "sparsity")
    if isinstance(sparsity, float):
        yield Card("weights gone", f"{sparsity:.1%}", "")
    epsilon = file.told("privacy", "spent_epsilon")
    if isinstance(epsilon, float | str):
        yield Card("epsilon spent", shown(epsilon), "")


def _section(chapter: Chapter, figures: tuple[Figure, ...]) -> Section:
    facts, lists = list[tuple[str, str]](), list[tuple[str, tuple[str, ...]]]()
    tables = list[Table]()
    for key, fact in chapter.facts.items():
        if not isinstance(fact, Told):
            continue
        match fact.value:
            case Grid() as grid:
                # Beneath a figure stands its own table.
                if not (figures and key in DRAWN):
                    tables.append(_table(fact.label, grid))
            case tuple() as items if len(told := ", ".join(items)) > LINE:
                lists.append((_begun(fact.label), items))
            case tuple() as items:
                facts.append((fact.label, told))
            case value:
                facts.append((fact.label, shown(value)))
    return Section(
        chapter.title,
        (chapter.words,),
        tuple(facts),
        tuple(tables),
        figures,
        tuple(f"{', '.join(labels)}: needs {remedy}." for remedy, labels in lacking(chapter)),
        lists=tuple(lists),
    )


def _begun(title: str) -> str:
    return title[0].upper() + title[1:]


def _table(title: str, grid: Grid) -> Table:
    rows = tuple(tuple(map(in_column, row)) for row in grid.rows)
    words = any(isinstance(cell, str) for row in grid.rows for cell in row[1:])
    return Table(_begun(title), grid.columns, rows, words)


def _missing(file: ModelFile) -> Section:
    rows = tuple(
        (chapter.title, ", ".join(labels), remedy)
        for chapter in file.chapters.values()
        for remedy, labels in lacking(chapter)
    )
    table = Table("Facts that no record tells", ("chapter", "facts", "need"), rows, words=True)
    return Section("What is missing", tables=(table,) * bool(rows))


def _rules(file: ModelFile) -> Section:
    rows = tuple((one.title, one.rules.us, one.rules.eu) for one in file.chapters.values())
    heads = ("chapter", "US model risk guidance", "EU AI Act")
    table = Table("Chapters and rules", heads, rows, words=True)
    return Section("Which rule each chapter serves", (MAPPING,), tables=(table,))


def _over_seeds(study: Study) -> Bars:
    names = tuple(study.models)
    spreads = [study.spread(name) for name in names]
    mean, sd = (np.array(one) for one in zip(*spreads, strict=True))
    cells = tuple(
        (name, f"{one:.4f}", f"{spread:.4f}")
        for name, (one, spread) in zip(names, spreads, strict=True)
    )
    title = "ROC-AUC over seeds"
    return Bars(
        title,
        f"Means of {len(study.seeds)} seeds, exact on test rows; bars are {CONFIDENCE:g} standard"
        " deviations over seeds.",
        f"{title}: "
        + "; ".join(f"{one} {value}, sd {spread}" for one, value, spread in cells)
        + ".",
        "ROC-AUC",
        names,
        mean,
        Table(title, ("model", "mean", "sd"), cells),
        mean - CONFIDENCE * sd,
        mean + CONFIDENCE * sd,
    )


def _watching(records: Records) -> tuple[Figure, ...]:
    """Draw what more rows can tell; the chapter's tables hold the same numbers."""
    counted = last_counts(records.run)
    if counted is None or not (bands := bands_of(counted)):
        return ()
    seen = list(falls(counted, last_metric(records.run, "auc", counted.part)[1] or 0.0))
    rest = list(falls(counted, 0.0))
    shift = [(rows, index_bound(bands, rows)) for rows in ROWS]
    least = index_bound(bands, inf)
    return (
        _by_rows(
            "Smallest fall of ROC-AUC that shows",
            "The line ends above zero: that much is the chance and the noise of the figures here.",
            "fall of ROC-AUC",
            "labelled rows",
            (("as counted here", seen), ("had the counts no noise", rest)),
        ),
        _by_rows(
            "Stability index by chance alone",
            f"Chance passes the line once in 20; {SHIFTED:g} is by custom a shift, so fewer rows"
            f" than where they cross cannot tell one. With endless rows it is {least:.2g}.",
            "population stability index",
            "new rows",
            (("by chance", shift), ("a shift, by custom", [(rows, SHIFTED) for rows in ROWS])),
        ),
    )


def _by_rows(
    title: str, caption: str, y: str, x: str, lines: tuple[tuple[str, list[tuple[int, float]]], ...]
) -> Chart:
    cells = tuple(
        (f"{number[0][0]:,}", *(f"{one[1]:.4f}" for one in number))
        for number in zip(*(points for _, points in lines), strict=True)
    )
    return Chart(
        title,
        caption,
        f"{title}: " + "; ".join(f"{row[1]} with {row[0]} rows" for row in cells) + ".",
        f"{x}, thousands",
        y,
        tuple(
            Series(
                name,
                np.array([rows / 1000 for rows, _ in points]),
                np.array([value for _, value in points]),
                colour=at if at == 0 else None,
                dash="-" if at == 0 else "--",
            )
            for at, (name, points) in enumerate(lines)
        ),
        Table(title, (x, *(name for name, _ in lines)), cells),
        y_limits=(0, None),
    )
