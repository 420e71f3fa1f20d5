import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.plan import Plan, plan_from_dict
from common.schema import EMBEDDED
from common.segments import count_names
from server.report.files import read_run
from server.report.shapes import Bars, Chart, Report, Section
from server.report.story import CUT_SHORT, SIMULATED, _again, report_of
from tests.reports import write_run
from tests.support import grouped_plan, small_plan

PLAN = small_plan()
EXACT: dict[str, Any] = {
    "seed": 3,
    "auc": 0.81,
    "pr_auc": 0.6,
    "ks": 0.5,
    "weights_kept": 25,
    "auc_dense": 0.82,
    "pr_auc_dense": 0.61,
    "ks_dense": 0.51,
    "weights_dense": 85,
}


def told(directory: Path, plan: Plan = PLAN, rounds: int | None = None, **summary: Any) -> Report:
    return report_of(write_run(directory, plan, rounds, **summary))


def part(report: Report, title: str) -> Section:
    (found,) = (section for section in report.sections if section.title == title)
    return found


def figure(report: Report, title: str) -> Chart | Bars:
    (found,) = (one for section in report.sections for one in section.figures if one.title == title)
    return found


def chart(report: Report, title: str) -> Chart:
    found = figure(report, title)
    assert isinstance(found, Chart)
    return found


def bars(report: Report, title: str) -> Bars:
    found = figure(report, title)
    assert isinstance(found, Bars)
    return found


def missing(report: Report) -> str:
    return " ".join(line for section in report.sections for line in section.missing)


def test_headline_of_a_simulation_stands_beside_its_rivals(tmp_path: Path) -> None:
    report = told(tmp_path, **EXACT)
    assert SIMULATED in report.warnings
    cards = {card.name: card for card in report.cards}
    auc = cards["ROC-AUC, exact on simulated test rows"]
    assert auc.value == "0.8100"
    assert auc.beside.startswith("dense 0.8200; by the test counts 0.")
    assert cards["KS, exact on simulated test rows"].beside.startswith("dense 0.5100; ")
    assert cards["sparsity"].value == "70.6 %"
    assert cards["epsilon a record"].value == "1.000"
    assert cards["epsilon a record"].beside == "1.000 if all others collude"
    # Round 1 was lost: 8500 + 6500 + ... + 3500 of five times 8500.
    assert cards["bytes saved"].value == "33 %"
    assert cards["latency of 256 records"].value == "2 ms"
    rows = part(report, "Against dense and logistic").tables[0].rows
    assert rows[1] == ("dense, exact", "0.8200", "0.6100", "0.5100", "85")
    assert rows[2][0] == "pruned, test counts of round 6"


def test_a_deployed_run_says_what_nobody_knows(tmp_path: Path) -> None:
    report = told(tmp_path)
    assert SIMULATED not in report.warnings
    assert report.cards[0].name == "ROC-AUC, test counts"
    assert "nobody trained them" in missing(report)
    assert "exact" not in " ".join(words for section in report.sections for words in section.words)
    again = part(report, "How to reproduce")
    assert "no seed" in again.words[0]
    assert dict(again.facts).keys() >= {"fedprune", "torch", "python"}
    assert {row[0] for row in again.tables[0].rows} >= {"model.safetensors", "counts.csv"}


@pytest.mark.parametrize("summary", [{}, EXACT])
def test_commands_name_the_table_that_the_plan_needs(
    tmp_path: Path, summary: dict[str, Any]
) -> None:
    again = part(told(tmp_path / "own", **summary), "How to reproduce")
    assert "fedprune-sim run plan.toml --data YOUR_TABLE --" in again.texts[0].lines
    assert "--partition" in again.missing[-1]
    embedded = plan_from_dict(PLAN.to_dict() | {"schema": EMBEDDED})
    again = _again(replace(read_run(tmp_path / "own"), plan=embedded))
    assert "--data" not in again.texts[0].lines
    assert "without --data it is the embedded consortium" in again.missing[-1]


def test_curves_hold_the_tables_numbers(tmp_path: Path) -> None:
    noised = small_plan(evaluation={"noise": "gaussian", "epsilon": 20.0})
    report = told(tmp_path, noised, **EXACT)
    auc = chart(report, "ROC-AUC by round")
    validation, test, exact, dense = auc.series
    assert validation.x.tolist() == [2, 4, 6]
    assert test.x.tolist() == [6]
    assert (exact.kind, exact.y.tolist()) == ("mark", [0.81])
    assert (dense.kind, dense.y.tolist()) == ("level", [0.82])
    assert validation.low is not None
    assert (validation.low < validation.y).all()
    assert auc.table.rows[0][2].startswith(f"{validation.y[0]:.4f} ± ")
    assert "dense, exact 0.8200" in auc.alt
    sparsity = chart(report, "ROC-AUC against sparsity").series[0]
    assert sparsity.x == pytest.approx(100 * np.array([20, 40, 60]) / 85)
    course = chart(report, "Survivors by round")
    assert course.series[0].y.tolist() == [4, 0, 4, 4, 4, 4, 4]
    assert "1 round lost" in course.alt


def test_rounds_whose_figure_is_lost_in_noise_are_named(tmp_path: Path) -> None:
    write_run(tmp_path, PLAN)
    assert "No point" not in chart(report_of(tmp_path), "ROC-AUC by round").caption
    for lost, named in ((["2"], "round 2"), (["2", "4"], "rounds 2 and 4")):
        with (tmp_path / "rounds.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            if row["round"] in lost:
                row["auc_validation"] = ""
        with (tmp_path / "rounds.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        report = report_of(tmp_path)
        for title in ("ROC-AUC by round", "ROC-AUC against sparsity"):
            assert f"No point at {named}: the noise on the valid" in chart(report, title).caption
        # Another metric of the same counts was not lost; a lost round was never counted.
        assert "No point" not in chart(report, "KS by round").caption


def test_bars_end_where_a_metric_can_be(tmp_path: Path) -> None:
    noised = small_plan(evaluation={"noise": "gaussian", "epsilon": 0.05})
    for metric in ("ROC-AUC", "PR-AUC", "Brier score", "Calibration error"):
        drawn = chart(told(tmp_path, noised), f"{metric} by round")
        assert drawn.share
        series = drawn.series[0]
        assert series.low is not None
        assert series.high is not None
        assert (series.low <= series.y).all()
        assert (series.y <= series.high).all()
        assert min(series.low) >= min(0, *series.y)
        assert max(series.high) <= max(1, *series.y)


def test_exact_counts_have_no_bars(tmp_path: Path) -> None:
    assert chart(told(tmp_path), "ROC-AUC by round").series[0].low is None


def test_seconds_are_split_by_trip_and_the_rest_is_the_servers(tmp_path: Path) -> None:
    timings = chart(told(tmp_path), "Seconds by round")
    assert [series.label for series in timings.series] == ["update", "unmask", "server itself"]
    assert timings.series[-1].y.tolist()[:2] == [0.25, 1.5]
    assert timings.table.rows[0] == ("0", "1.500", "1.000", "0.250", "0.250")


def test_every_layer_and_input_is_counted(tmp_path: Path) -> None:
    report = told(tmp_path)
    layers = bars(report, "Sparsity by layer")
    # The first 60 weights are gone: all of the first layer, biases, a part of the second.
    assert layers.names == ("hidden.0", "hidden.1", "output", "linear")
    assert layers.values.tolist() == [100, 62.5, 0, 0]
    inputs = bars(report, "Weights that read each input")
    assert inputs.names == ("x0", "x1", "x2", "x3")
    assert inputs.values.tolist() == [1, 1, 1, 1]
    assert [row[:2] for row in inputs.table.rows] == [(f"x{at}", "0") for at in range(4)]


def test_groups_and_pools_are_told_apart_and_the_unread_named(tmp_path: Path) -> None:
    plan = grouped_plan()
    report = told(tmp_path / "grouped", plan)
    found = bars(report, "ROC-AUC of each group and pool")
    assert len(found.names) == len(count_names(plan, "test")) - 1
    assert "pool north" in found.names
    assert found.level is not None
    text = (tmp_path / "grouped" / "groups.csv").read_text().splitlines()
    cut = [line if "pool:north" not in line else _emptied(line) for line in text]
    (tmp_path / "grouped" / "groups.csv").write_text("\n".join(cut) + "\n")
    report = report_of(tmp_path / "grouped")
    assert "pool north: too few took part" in missing(report)
    assert "pool north" not in bars(report, "ROC-AUC of each group and pool").names
    assert "the plan counts nobody apart" in missing(told(tmp_path / "alone"))


def _emptied(line: str) -> str:
    cells = line.split(",")
    return ",".join(cells[:3] + [""] * (len(cells) - 3))


def test_attendance_is_told_by_name_from_the_journal(tmp_path: Path) -> None:
    write_run(tmp_path, PLAN)
    events = [
        {"event": "kept", "round": 0, "survivors": ["ash", "birch", "elm"]},
        {"event": "kept", "round": 1, "survivors": []},
        {"event": "kept", "round": 2, "survivors": ["ash", "birch", "cedar"]},
    ]
    lines = [json.dumps(event) for event in events]
    (tmp_path / "journal.jsonl").write_text("\n".join(lines) + "\n")
    (table,) = part(report_of(tmp_path), "Bytes, survivors and time").tables
    assert table.rows[0] == ("ash", "2", "0")
    assert table.rows[2] == ("cedar", "1", "1")
    assert "by name" in missing(told(tmp_path / "simulated"))


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_run_that_was_cut_short_has_its_report(tmp_path: Path, rounds: int) -> None:
    report = told(tmp_path, rounds=rounds)
    assert CUT_SHORT in report.warnings
    assert "Epsilon spent so far" in missing(report)
    assert "What shrank" in missing(report) or rounds == 0
    assert ("no evaluation was finished" in missing(report)) is (rounds < 3)
    assert {card.name: card.value for card in report.cards}["latency"] == "not recorded"


def test_budget_is_planned_and_spent(tmp_path: Path) -> None:
    rows = part(told(tmp_path), "Privacy budget").tables[0].rows
    assert rows[0] == ("training rows", "1", "1.000", "1.000", "6 rounds of 2 steps")
    assert rows[1] == ("validation rows", "none", "3 of 3 releases", "", "3 rounds")
    assert rows[2] == ("test rows", "none", "1 of 1 releases", "", "1 round")
    open_plan = small_plan(privacy={"epsilon": "none"})
    report = told(tmp_path / "open", open_plan)
    assert part(report, "Privacy budget").tables[0].rows[0][1:4] == ("none", "none", "none")
    assert any("NO differential privacy" in warning for warning in report.warnings)


def test_privacy_statement_says_what_leaves_and_who_sees(tmp_path: Path) -> None:
    facts = dict(part(told(tmp_path), "Privacy statement").facts)
    assert facts["leaves an institution"].startswith("one vector a round, at most ")
    assert "No row, no column" in facts["leaves an institution"]
    assert "the sum over 3 institutions or more" in facts["server sees"]
    plain = small_plan(aggregation={"kind": "plain"})
    facts = dict(part(told(tmp_path / "plain", plain), "Privacy statement").facts)
    assert facts["server sees"] == "EVERY institution's vector"
