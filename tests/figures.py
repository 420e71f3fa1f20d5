"""Scrapes as a monitor sees them, and the table of figures in the documentation.

python -m tests.figures     # writes the table anew
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import httpx
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from client import metrics as client_metrics
from common.figures import SHARED
from common.metrics import PATH, Metric, Source, pages
from common.status import http
from server import metrics as server_metrics
from server.desk import free_port
from tests.commands import ROOT

DOCUMENT = ROOT / "docs" / "monitoring.md"
RULES = ROOT / "deploy" / "alerts.yml"

SECTIONS: Mapping[str, tuple[Metric, ...]] = {
    "Both": SHARED,
    "The server": tuple(one for one in server_metrics.METRICS if one not in SHARED),
    "An institution": tuple(one for one in client_metrics.METRICS if one not in SHARED),
}
ALL = tuple(metric for section in SECTIONS.values() for metric in section)

Values = dict[tuple[str, tuple[str, ...]], float]
"""Values by the sample's name and its labels' values, in the order of the labels' names."""


def tables() -> str:
    """Return what stands in the documentation of all figures."""
    return "\n".join(f"### {name}\n\n{table_of(metrics)}" for name, metrics in SECTIONS.items())


def table_of(metrics: Iterable[Metric]) -> str:
    """Return a table of Markdown, a row a metric."""
    rows = [
        f"| `{metric.full_name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.meaning} |"
        for metric in metrics
    ]
    return "\n".join(["| metric | kind | labels | what it is |", "|---|---|---|---|", *rows, ""])


def documented(text: str) -> str:
    """Return the part of a document that holds the tables."""
    return text[text.index("### Both") : text.index("## Alerts")].rstrip() + "\n"


def names_of(metric: Metric) -> set[str]:
    """Return the names under which a metric's samples are queried."""
    if metric.kind != "histogram":
        return {metric.full_name}
    return {f"{metric.full_name}_{end}" for end in ("bucket", "count", "sum")}


def mentioned(text: str) -> set[str]:
    """Return the names of our figures in a text."""
    return set(re.findall(r"fedprune_[a-z_]+", text))


def scrape(sources: Mapping[str, Source]) -> list[Family]:
    """Serve sources as a role does, and read them by HTTP once."""
    address = f"127.0.0.1:{free_port()}"
    with http(address, pages(sources)):
        reply = httpx.get(f"http://{address}{PATH}", trust_env=False)
    assert (reply.status_code, reply.headers["content-type"][:10]) == (200, "text/plain")
    return list(text_string_to_metric_families(reply.text))


def values(families: Iterable[Family]) -> Values:
    """Return samples by name and labels' values."""
    return {
        (
            one.name.removeprefix("fedprune_"),
            tuple(value for _, value in sorted(one.labels.items())),
        ): one.value
        for family in families
        for one in family.samples
    }


def main(document: Path = DOCUMENT) -> None:
    """Write the tables into the documentation."""
    text = document.read_text()
    document.write_text(text.replace(documented(text), tables()))


if __name__ == "__main__":
    main()
