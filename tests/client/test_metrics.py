import json
from math import inf
from pathlib import Path

import pytest

from client import metrics
from client.budget import FILE, note_budget, of_budget
from client.limits import Limits
from client.metrics import sources
from client.stages import Institution
from common.errors import ConfigError
from common.metrics import Sample
from common.status import Board, Part
from common.trail.events import Charged, Refused, RefusedAgain
from tests.common.trail.logs import HASH, RUN, honest_run
from tests.figures import Values, scrape, values
from tests.ledgers import NOON, TRAIN, at, budget, ledger_on, store_of
from tests.support import small_institution, small_plan

LIMITS = Limits(plan=6, year="none", ever=8, accountant="rdp")


def member(folder: Path, limits: Limits = LIMITS) -> Institution:
    """Return an institution whose ledger has charged the first of its plan's rounds."""
    made = small_institution(small_plan())
    ledger = ledger_on(store_of("sqlite", folder), limits)
    place = at(0, plan=made.plan.digest())
    ledger.charge(place, (TRAIN,), budget(), NOON)
    object.__setattr__(made, "ledger", ledger)
    object.__setattr__(made, "clock", lambda: float(NOON))
    return made


def told(home: Path) -> Values:
    board = Board(lambda: {"executor": Part(True, "is ready")})
    board.renew()
    return values(scrape(sources(home, board)))


def test_a_scrape_tells_of_rounds_refusals_and_the_budget(tmp_path: Path) -> None:
    home = tmp_path / "ash"
    logs = honest_run(tmp_path, rounds=3)
    (home / "state").mkdir()
    charged = {"run": RUN, "plan": HASH, "round": 0, "epoch": 1, "part": "train", "unit": "record"}
    noise = {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 2, "delta": 1e-5}
    logs.members["ash"].append(
        Charged.model_validate(charged | noise | {"epsilon": 0.7}),
        Charged.model_validate(charged | noise | {"epsilon": None}),
        Refused(what="update", told="ledger-behind", because="line 3"),
        Refused(what="update", told="failed", because="ValueError"),
        RefusedAgain(what="update", told="failed", times=4),
    )
    note_budget(lambda: member(tmp_path), home / "state")
    found = told(home)
    expected: Values = {
        ("part_up", ("executor",)): 1,
        ("runs_joined_total", ()): 1,
        ("contributions_total", ("false",)): 3,
        ("openings_total", ()): 3,
        ("round_number", ()): 2,
        ("refusals_total", ("ledger-behind",)): 1,
        ("refusals_total", ("failed",)): 5,
        ("budget_charged_epsilon", ()): 0.7,
        ("budget_limit_epsilon", ("plan",)): 6,
        ("budget_limit_epsilon", ("ever",)): 8,
    }
    assert {key: found.get(key) for key in expected} == expected
    spent, left = found["budget_spent_epsilon", ("plan",)], found["budget_left_epsilon", ("plan",)]
    assert 0 < spent < 6
    assert left == pytest.approx(6 - spent)
    assert ("budget_left_epsilon", ("year",)) not in found, "there is no limit"
    assert all(value == 1 for (name, _), value in found.items() if name == "source_readable")
    known = {f"{one.name}{end}" for one in metrics.METRICS for end in ("", "_count", "_sum")}
    assert {name for name, _ in found} <= known


def test_an_open_run_counts_in_full_and_a_closed_one_with_what_it_charged(tmp_path: Path) -> None:
    institution = member(tmp_path)

    def spent() -> float:
        note_budget(lambda: institution, tmp_path)
        return next(one.value for one in of_budget(tmp_path) if one.labels == ("ever",))  # type: ignore[return-value]

    full = spent()
    charge = at(1, plan=institution.plan.digest())
    institution.ledger.charge(charge, (TRAIN,), budget(), NOON)
    assert spent() == pytest.approx(full)
    institution.ledger.close("run", NOON)
    assert spent() < full / 2


def test_what_has_no_noise_has_no_finite_budget(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"ever": [inf, 8.0]}))
    assert [sample.value for sample in of_budget(tmp_path)] == [inf, 8.0, -inf]


def test_an_institution_that_cannot_be_opened_notes_nothing(tmp_path: Path) -> None:
    def closed() -> Institution:
        raise ConfigError("no plan was approved")

    note_budget(closed, tmp_path)
    assert list[Sample](of_budget(tmp_path)) == []


def test_each_counter_stands_at_nought_before_its_first_event(tmp_path: Path) -> None:
    found = {(one.metric.name, one.labels): one.value for one in metrics.Told(tmp_path / "audit")()}
    counters = {one.name for one in metrics.METRICS if one.kind == "counter"}
    of_the_log = counters - {"audit_lines_total", "received_bytes_total", "sent_bytes_total"}
    assert {name for name, _ in found} == of_the_log
    assert {*found.values()} == {0}
    assert ("refusals_total", ("ledger-behind",)) in found
