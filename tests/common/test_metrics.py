import logging

import pytest

from common.metrics import READABLE, Metric, Sample
from common.timings import BUCKETS, Durations
from tests.figures import scrape, values

LEVEL = Metric("level", "gauge", "how high", ("part",))
SEEN = Metric("seen_total", "counter", 'how often, with a "quote"')
TOOK = Metric("took_seconds", "histogram", "how long", ("stage",))


def test_a_scrape_shows_every_kind_of_figure() -> None:
    took = Durations()
    for seconds in (0.02, 0.02, 7.0):
        took.add(seconds)
    samples = [Sample(LEVEL, 0.5, ("a",)), Sample(LEVEL, 2, ("b",)), Sample(SEEN, 3)]
    found = scrape({"one": lambda: [*samples, Sample(TOOK, took, ("x",))]})
    assert {family.name: family.type for family in found} == {
        "fedprune_level": "gauge",
        "fedprune_seen": "counter",
        "fedprune_took_seconds": "histogram",
        READABLE.full_name: "gauge",
    }
    assert found[1].documentation == SEEN.meaning
    told = values(found)
    assert told["level", ("a",)] == 0.5
    assert told["level", ("b",)] == 2
    assert told["seen_total", ()] == 3
    assert told["took_seconds_count", ("x",)] == 3
    assert told["took_seconds_sum", ("x",)] == pytest.approx(7.04)
    buckets = [told["took_seconds_bucket", (str(bound), "x")] for bound in (*BUCKETS, "+Inf")]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[1], buckets[-1]) == (0, 2, 3)


def test_a_source_that_fails_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def away() -> list[Sample]:
        raise OSError("Miller, born 1970")

    with caplog.at_level(logging.WARNING):
        told = values(scrape({"away": away, "here": lambda: [Sample(SEEN, 1)]}))
    assert told == {
        ("seen_total", ()): 1,
        ("source_readable", ("away",)): 0,
        ("source_readable", ("here",)): 1,
    }
    assert "no figures of away: OSError" in caplog.text
    assert "Miller" not in caplog.text
