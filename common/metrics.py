"""Figures for Prometheus: what there is, declared once, and the page that shows it.

Nothing is counted here. At each scrape the sources look at what is on the disk, so that figures
outlive the processes that work, and a page is as true as the log behind it. Labels take values
from fixed lists and members' names alone, and nothing of a record is behind any of them.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Literal, final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from common.timings import BUCKETS, Durations

log = logging.getLogger("fedprune.status")

PREFIX: Final = "fedprune_"
PATH: Final = "/metrics"


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure: its name without the prefix, what it means, and its labels."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name that Prometheus knows."""
        return PREFIX + self.name


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a metric, for these values of its labels."""

    metric: Metric
    value: float | Durations
    labels: tuple[str, ...] = ()


Source = Callable[[], Iterable[Sample]]

READABLE = Metric(
    "source_readable",
    "gauge",
    "1 if what these figures come from could be read at this scrape; else they are left out",
    ("source",),
)

_FAMILIES: Final = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}


@final
class Exhibit(Collector):
    """All figures of a role, looked up in its sources one scrape at a time."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        """Take sources by name."""
        self._sources = sources
        self._one_at_a_time = threading.Lock()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def page(self) -> tuple[int, str, bytes]:
        """Return the page for a scrape."""
        with self._one_at_a_time:
            return 200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)

    def collect(self) -> Iterator[Any]:
        """Yield each metric of which there is anything to say, as `prometheus_client` has it."""
        families: dict[str, Any] = {}
        for sample in self._samples():
            metric = sample.metric
            if metric.name not in families:
                family = _FAMILIES[metric.kind]
                made = family(metric.full_name, metric.meaning, labels=metric.labels)
                families[metric.name] = made
            _add(families[metric.name], sample)
        yield from families.values()

    def describe(self) -> list[Any]:
        """Say nothing beforehand: what there is depends on the disk."""
        return []

    def _samples(self) -> Iterator[Sample]:
        for name, source in self._sources.items():
            try:
                samples = list(source())
            # A source that is away must not take the others with it.
            except Exception as error:
                log.warning("no figures of %s: %s", name, type(error).__name__)
                yield Sample(READABLE, 0, (name,))
            else:
                yield from samples
                yield Sample(READABLE, 1, (name,))


def pages(sources: Mapping[str, Source]) -> dict[str, Callable[[], tuple[int, str, bytes]]]:
    """Return the page of these sources under its path."""
    return {PATH: Exhibit(sources).page}


def _add(family: Any, sample: Sample) -> None:
    if isinstance(sample.value, Durations):
        bounds = (*map(str, BUCKETS), "+Inf")
        counts = accumulate(sample.value.counts)
        family.add_metric(
            sample.labels, list(zip(bounds, counts, strict=True)), sample.value.seconds
        )
    else:
        family.add_metric(sample.labels, sample.value)
