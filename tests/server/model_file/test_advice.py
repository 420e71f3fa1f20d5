import csv
from math import sqrt
from pathlib import Path

import pytest

from server.model_file.advice import monitoring
from server.model_file.records import Beside, read_records
from server.model_file.shapes import Grid
from server.model_file.watching import auc_sd
from tests.cards import write_simulated


def _set_last_group(run: Path, **cells: float) -> None:
    with (run / "groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[-1] |= {name: str(value) for name, value in cells.items()}
    with (run / "groups.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[-1].keys())
        writer.writeheader()
        writer.writerows(rows)


def _watched(run: Path) -> tuple[object, ...]:
    found = monitoring(read_records(run, Beside()))["watched"]
    assert isinstance(found, Grid)
    return found.rows[-1]


def test_a_group_of_few_rows_is_not_watched_however_little_its_noise(tmp_path: Path) -> None:
    run = write_simulated(tmp_path)
    _set_last_group(run, auc=0.75, auc_sd=0.01, positives=40, negatives=160)
    group, reach, shows = _watched(run)
    assert (group, shows) == ("pool:south", False)
    # Chance alone, twice over: a release is held against another such one.
    assert auc_sd(0.75, 40, 160) == pytest.approx(0.048, abs=0.002)
    assert reach == pytest.approx(2 * sqrt(2) * sqrt(auc_sd(0.75, 40, 160) ** 2 + 0.01**2))
    _set_last_group(run, positives=40_000, negatives=160_000)
    group, reach, shows = _watched(run)
    assert reach == pytest.approx(2 * sqrt(2) * 0.01, rel=0.02)
    assert shows
