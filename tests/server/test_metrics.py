import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from common import __version__
from common.figures import ROUND_TIME
from common.processes import STANDINGS
from common.reasons import OTHER, REASONS
from common.status import Board, Part
from common.timings import Timings
from common.trail.events import Admitted, Published, RunBegan, WasRefused, WasRefusedAgain
from common.trail.lines import Line
from server import metrics
from server.metrics import NODES_SECONDS, Members, sources
from tests.common.consent.test_acts import GOOD, LATER
from tests.common.trail.logs import HASH, NOON, Logs, honest_run, play_round, trail_at
from tests.deployment.federation import Authority
from tests.figures import Values, scrape, values

ENDS = 2_000_000_000


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return honest_run(tmp_path, rounds=3)


@pytest.fixture
def home(tmp_path: Path, logs: Logs) -> Path:
    home = tmp_path / "server"
    Authority.make().issue(home)
    (home / "state").mkdir()
    (home / "bundle.json").write_bytes(GOOD.to_bytes())
    runs = {"process": os.getsid(0), "failures": 2, "started": 0.0}
    (home / "state" / STANDINGS).write_text(json.dumps({"gateway": runs}))
    Timings(home / "state").note("round", 1.5)
    return home


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Return what SuperLink says of its nodes."""
    found = [SimpleNamespace(name="ash", status="online"), SimpleNamespace(name="elm", status="")]
    control = SimpleNamespace(
        ListNodes=lambda _: SimpleNamespace(nodes_info=found),
    )

    class Desk:
        def control(self) -> "Desk":
            return self

        def __enter__(self) -> SimpleNamespace:
            return control

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(metrics, "find_desk", lambda home: Desk())
    return found


def told(home: Path) -> Values:
    board = Board(lambda: {"gateway": Part(False, "is away")})
    board.renew()
    return values(scrape(sources(home, board)))


def test_a_scrape_tells_of_runs_rounds_and_members(
    home: Path, logs: Logs, online: list[SimpleNamespace]
) -> None:
    late = {"number": 1, "charter": HASH, "plan": HASH, "roster": HASH, "members": ("ash",)}
    logs.server.append(
        WasRefused(institution="ash", what="update", told="privacy budget"),
        WasRefused(institution="", what="join", told="Miller, born 1970"),
        WasRefusedAgain(institution="elm", what="join", told="other", times=3),
        Published.model_validate(late | {"expires": ENDS, "signers": (HASH,)}),
        RunBegan(run="next", plan=HASH, roster=HASH, round=0),
    )
    found = told(home)
    expected: Values = {
        ("part_up", ("gateway",)): 0,
        ("runs_begun_total", ()): 2,
        ("runs_ended_total", ("finished",)): 1,
        ("run_active", ()): 1,
        ("rounds_total", ("kept",)): 3,
        ("round_attempts_total", ()): 3,
        ("round_cohort", ()): 2,
        ("round_survivors", ()): 2,
        ("round_number", ()): 2,
        ("weights_kept", ()): 10,
        ("refusals_total", ("privacy budget",)): 1,
        ("refusals_total", ("other",)): 4,
        ("institution_refusals_total", ("elm",)): 3,
        ("institution_refusals_total", ("ash",)): 1,
        ("institution_refusals_total", ("",)): 1,
        ("institution_online", ("ash",)): 1,
        ("institution_online", ("elm",)): 0,
        ("consent_expiry_timestamp_seconds", ()): LATER,
        # Members that the log names and what never happened stand at 0.
        ("institution_refusals_total", ("birch",)): 0,
        ("refusals_total", ("ledger-behind",)): 0,
        ("runs_ended_total", ("failed",)): 0,
        ("rounds_total", ("lost",)): 0,
        ("process_early_ends", ("gateway",)): 2,
        ("stage_duration_seconds_count", ("round",)): 1,
        ("stage_duration_seconds_sum", ("round",)): 1.5,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["round_timestamp_seconds", ()] > NOON
    assert found["certificate_expiry_timestamp_seconds", ()] > NOON
    assert found["disk_free_bytes", ()] > 0
    assert next(labels for name, labels in found if name == "build_info")[1] == __version__
    assert all(value == 1 for (name, _), value in found.items() if name == "source_readable")
    assert not [one for one in found if "Miller" in str(one)]
    known = {f"{name}{end}" for name in _names() for end in ("", "_bucket", "_count", "_sum")}
    assert {name for name, _ in found} <= known


def _names() -> set[str]:
    return {metric.name for metric in metrics.METRICS}


def test_a_superlink_that_is_away_costs_its_own_figures_alone(home: Path) -> None:
    found = told(home)
    assert found["source_readable", ("members",)] == 0
    assert found["rounds_total", ("kept",)] == 3
    assert "institution_online" not in {name for name, _ in found}


def test_superlink_is_asked_seldom(home: Path, online: list[SimpleNamespace]) -> None:
    now = [0.0]
    members = Members(home, lambda: now[0])
    assert [sample.value for sample in members()] == [1, 0]
    online[1].status = "online"
    assert [sample.value for sample in members()] == [1, 0]
    now[0] += NODES_SECONDS
    assert [sample.value for sample in members()] == [1, 1]


def test_a_second_scrape_reads_only_what_is_new(
    home: Path, logs: Logs, online: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    told_by, taken = metrics.Told(home / "audit"), list[Line]()
    take = metrics.Told.take

    def counted(self: metrics.Told, line: Line) -> None:
        taken.append(line)
        take(self, line)

    monkeypatch.setattr(metrics.Told, "take", counted)
    first = {(one.metric.name, one.labels): one.value for one in told_by()}
    assert len(taken) > 8
    taken.clear()
    play_round(logs, 3)
    second = {(one.metric.name, one.labels): one.value for one in told_by()}
    assert len(taken) == 2, "what was asked, and that the round is over"
    kept = "rounds_total", ("kept",)
    assert (first[kept], second[kept]) == (3, 4)


def test_each_counter_stands_at_nought_before_its_first_event(tmp_path: Path) -> None:
    found = {(one.metric.name, one.labels): one.value for one in metrics.Told(tmp_path / "audit")()}
    counters = {one.name for one in metrics.METRICS if one.kind == "counter"}
    of_the_log = counters - {"audit_lines_total", "received_bytes_total", "sent_bytes_total"}
    assert {name for name, _ in found} == of_the_log
    assert {*found.values()} == {0}
    assert {labels for name, labels in found if name == "refusals_total"} == {
        (reason,) for reason in (*REASONS, OTHER)
    }


def test_a_member_that_was_admitted_or_published_counts_from_nought(tmp_path: Path) -> None:
    trail = trail_at(tmp_path, "federation", "server")
    fields = {"signing_public": HASH, "replaces": "", "signers": (HASH,)}
    charter = {"charter": HASH, "plan": HASH, "roster": HASH}
    ends = {"number": 1, "members": ("oak",), "expires": ENDS, "signers": (HASH,)}
    trail.append(
        Admitted.model_validate(fields | {"institution": "elm"}),
        Published.model_validate(charter | ends),
    )
    told_by = metrics.Told(trail.folder)
    found = {one.labels: one.value for one in told_by() if one.metric == metrics.REFUSED_BY}
    assert found == {("",): 0, ("elm",): 0, ("oak",): 0}


def test_a_run_that_begins_does_not_stand_still_since_the_one_before(logs: Logs) -> None:
    told_by = metrics.Told(logs.server.folder)

    def when() -> float:
        return next(one.value for one in told_by() if one.metric == ROUND_TIME)  # type: ignore[return-value]

    before = when()
    logs.server.append(RunBegan(run="next", plan=HASH, roster=HASH, round=0))
    assert when() > before


def test_nothing_published_has_no_end(home: Path, online: list[SimpleNamespace]) -> None:
    (home / "bundle.json").unlink()
    found = told(home)
    assert found["source_readable", ("consent",)] == 1
    assert ("consent_expiry_timestamp_seconds", ()) not in found
