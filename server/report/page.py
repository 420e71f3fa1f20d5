"""The report as a page: everything inside, nothing fetched, nothing run, light and dark."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.durable import write_atomically
from server.report.drawing import draw
from server.report.shapes import Report
from server.report.story import report_of
from server.tables import REPORT

HERE = Path(__file__).parent

FEW = 12
"""Rows up to which a table is shown at once."""


def html_of(report: Report) -> str:
    """Return the page of a report."""
    return rendered("report.html", HERE, report=report, few=FEW)


def write_report(directory: Path) -> Path:
    """Write ``report.html`` beside what it tells of; return its path.

    Raises:
        ConfigError: the directory holds no run.
        DiskError: it cannot be written.
    """
    path = directory / REPORT
    write_atomically(path, html_of(report_of(directory)).encode())
    return path


def rendered(template: str, folder: Path, **values: Any) -> str:
    """Return a page from a template in ``folder`` that extends ``base.html``.

    Every value is escaped: names in plans are chosen by others.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"style": style(), "style_hash": _digest(style()), "picture": picture}
    environment.filters["draw"] = draw
    return environment.get_template(template).render(**values) + "\n"


def picture(svg: str) -> str:
    """Return an SVG as the address of an image: a document of its own, that can fetch nothing."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


@cache
def style() -> str:
    """Return the style of all pages."""
    return (HERE / "style.css").read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return the source by which the page's policy lets this style alone in."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
