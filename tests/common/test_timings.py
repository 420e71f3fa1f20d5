from pathlib import Path

import pytest

from common.errors import DiskError
from common.timings import BUCKETS, FILE, STAGES, Tally, Timings, read_tally
from server.exchange import TRIPS


def test_durations_outlive_the_process_that_took_them(tmp_path: Path) -> None:
    now = [0.0]
    for took in (0.02, 5000.0):
        timings = Timings(tmp_path, lambda: now[0])
        timings.moved(received=10, sent=3)
        with timings.timed("update"):
            now[0] += took
    tally = read_tally(tmp_path)
    assert (tally.received, tally.sent) == (20, 6)
    update = tally.stages["update"]
    assert update.seconds == pytest.approx(5000.02)
    assert update.counts == [0, 1, *([0] * (len(BUCKETS) - 2)), 1]
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_stage_that_fails_is_timed_and_an_unknown_one_is_not(tmp_path: Path) -> None:
    timings = Timings(tmp_path, lambda: 0.0)
    with pytest.raises(ValueError, match="spoiled"), timings.timed("unmask"):
        raise ValueError("spoiled")
    with timings.timed("Miller"):
        pass
    assert read_tally(tmp_path).stages.keys() == {"unmask"}


def test_every_trip_is_a_stage() -> None:
    rounds = {name.rpartition(".")[2] for name in TRIPS.values()} - {"offer", "deliver"}
    assert rounds < set(STAGES), "only a release's trips are not timed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"stages": {"update": {"counts": [1], "seconds": 1.0}}, "received": 0, "sent": 0}',
        '{"stages": {"update": {"counts": 3}}, "received": 0, "sent": 0}',
        '{"stages": {"Miller": {}}, "received": 0, "sent": 0}',
    ],
)
def test_a_file_that_cannot_be_read_begins_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert read_tally(tmp_path) == Tally()
    Timings(tmp_path, lambda: 0.0).note("round", 1.0)
    assert read_tally(tmp_path).stages["round"].seconds == 1.0


def test_work_goes_on_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskError("no room")

    timings = Timings(tmp_path)
    monkeypatch.setattr("common.timings.write_secret", full)
    timings.note("round", 1.0)
    assert not (tmp_path / FILE).exists()
