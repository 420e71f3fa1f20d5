import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import fedprune
from common.errors import ConfigError
from common.plan import Plan
from server.report.drawing import INK
from simulations.cells import Layer, Outcome, Overlap, Stop
from simulations.compare import Arm, Grid, arms_of
from simulations.compare_figures import plots_of
from simulations.compare_report import (
    HEADS,
    Budget,
    Comparison,
    cells_of,
    csv_of,
    html_of,
    rows_of,
    summary_of,
)
from simulations.compare_run import write
from simulations.ranking import Entry, RankBy, advise, entry_of, rank
from tests.commands import trial_plan
from tests.pages import Page

GRID = Grid(
    (1.0, "none"),
    (0.5, 0.75),
    {"score": ("magnitude", "displacement"), "granularity": ("weight", "neuron")},
)


def outcome(arm: Arm, seed: int) -> Outcome:
    """Return what a cell might find: the smaller, the worse."""
    auc = 0.78 - 0.01 * arm.sparsity + 0.001 * seed
    kept = round(250 * (1 - arm.sparsity))
    return Outcome(
        learning_rate=0.1,
        weights=250,
        kept=kept,
        test=auc - 0.01,
        test_pr=0.4,
        bytes_first=750,
        bytes_last=3 * kept,
        stops=tuple(
            Stop(
                round=at,
                bytes_up=700 * at,
                private=auc - 0.01 / at,
                private_sd=0.02,
                exact=auc - 0.02 / at,
            )
            for at in (2, 4)
        ),
        overlaps=tuple(Overlap(round=at, previous=0.8, initial=0.5) for at in range(1, 5)),
        layers=(
            Layer(name="hidden.0.weight", kept=kept // 2, size=208),
            Layer(name="hidden.0.bias", kept=8, size=8),
            Layer(name="output.weight", kept=4, size=8),
            Layer(name="linear.weight", kept=26, size=26),
        ),
    )


def comparison(by: RankBy = "private", seeds: int = 3, plan: Plan | None = None) -> Comparison:
    base = plan or trial_plan()
    entries: list[Entry] = []
    for arm in arms_of(GRID, base)[0]:
        entry = entry_of(arm, [outcome(arm, seed) for seed in range(seeds)], by)
        assert entry is not None
        entries.append(entry)
    budgets = []
    for epsilon in GRID.epsilons:
        table = rank([entry for entry in entries if entry.arm.epsilon == epsilon])
        budgets.append(Budget(epsilon, table, advise(table, by, 0.005)))
    left_out = {"magnitude block 60 %": "sparsity <0.6> leaves & lacks"}
    return Comparison(base, tuple(range(seeds)), by, budgets, left_out, {})


@pytest.fixture(scope="module")
def page() -> str:
    return html_of(comparison())


@pytest.fixture(scope="module")
def exact() -> str:
    return html_of(comparison("exact", seeds=1))


def pictures(page: str) -> list[str]:
    found = [image["src"] or "" for image in Page(page).all("img")]
    start = "data:image/svg+xml;base64,"
    assert all(source.startswith(start) for source in found)
    return [base64.b64decode(source.removeprefix(start)).decode() for source in found]


def test_page_needs_no_network(page: str) -> None:
    tags = Page(page)
    assert not any(tags.all(tag) for tag in ("script", "link", "iframe", "object", "base"))
    for _, attributes in tags.tags:
        for name, value in attributes.items():
            assert name != "href"
            assert name != "src" or (value or "").startswith("data:image/svg+xml;base64,")
    assert "://" not in re.sub(r'src="[^"]+"', "", page)
    assert "@import" not in page
    assert "url(" not in page
    for picture in pictures(page):
        # References within a drawing are to itself; names of its dialect are never fetched.
        assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', picture))
        assert "<image" not in picture


def test_every_figure_has_words_with_its_numbers(page: str) -> None:
    images = Page(page).all("img")
    assert len(images) == 2 * 4
    assert len(Page(page).all("figcaption")) == len(images)
    words = [image["alt"] or "" for image in images]
    assert "magnitude weight: 0.7" in words[0]
    assert "at 75 %" in words[0]
    assert "dense: 0.7" in words[0]
    assert "logistic: 0.7" in words[0]
    assert "kB" in words[1]
    assert "hidden.0.weight" in words[2]
    assert "bias" not in words[2]
    assert "0.80 at least with the round before, 0.50 at the end" in words[3]


def test_pictures_take_the_readers_colours(page: str) -> None:
    for picture in pictures(page):
        ET.fromstring(picture)
        assert INK not in picture
        assert "currentColor" in picture
        assert "prefers-color-scheme:dark" in picture
    assert "prefers-color-scheme:dark" in page
    assert 'name="viewport"' in page


def test_page_says_how_it_was_ranked_and_what_is_missing(page: str, exact: str) -> None:
    for told in (
        "Ranked by private validation ROC-AUC, as the server would see it",
        "Test rows were read once",
        "seeds 0 to 2",
        "summed in the plain for speed",
        "Simulated from seeds, so it protects nobody",
        "<h2>Epsilon 1.0</h2>",
        "<h2>Epsilon none</h2>",
        # Names and reasons are text, whatever is in them.
        "magnitude block 60 %: sparsity &lt;0.6&gt; leaves &amp; lacks",
    ):
        assert told in page
    assert "Ranked by exact validation ROC-AUC, which only a simulator sees" in exact
    assert "seeds 0," in exact
    assert "One seed has no spread" in exact


def test_same_comparison_same_page(exact: str, page: str) -> None:
    assert html_of(comparison("exact", seeds=1)) == exact != page


def test_one_recommended_row_a_budget() -> None:
    compared = comparison("exact")
    for budget in compared.budgets:
        assert budget.advice.arm is not None
        rows = rows_of(compared, budget)
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
        (taken,) = (row for row in rows if row["recommended"])
        assert taken["model"] == budget.advice.arm.name
        # Half or three quarters gone cost .0025 apart, within the tolerance.
        assert (taken["sparsity_asked"], taken["weights_kept"]) == (0.75, 62)
        for row in rows:
            assert len(cells_of(row)) == len(HEADS)
    dense = next(row for row in rows if row["kind"] == "dense")
    assert (dense["to_dense"], dense["to_dense_p"]) == (0, None)
    assert dense["auc_test"] == pytest.approx(0.771)
    assert dense["auc_test_spread"] == pytest.approx(0.001)


def test_where_noise_hides_all_no_model_is_recommended(tmp_path: Path, page: str) -> None:
    compared = comparison()
    assert not any(row["recommended"] for one in compared.budgets for row in rows_of(compared, one))
    for taken in summary_of(compared)["recommended"]:
        assert (taken["model"], taken["sparsity"], taken["score"]) == (None, None, None)
        assert "--rank exact" in taken["reason"]
    assert "<strong>Recommended: none.</strong>" in page
    write(compared, tmp_path)
    assert not (tmp_path / "recommended.toml").exists()
    with pytest.raises(ConfigError, match=r"^epsilon none: recommended: none: "):
        fedprune.Comparison(tmp_path, compared).recommended_at("none")
    write(comparison("exact"), tmp_path)
    assert (tmp_path / "recommended.toml").exists()


def test_bytes_are_counted_until_an_auc_near_that_of_dense() -> None:
    compared = comparison("exact")
    rows = {row["model"]: row for row in rows_of(compared, compared.budgets[0])}
    # The last evaluation is .005 above the one before: just within the tolerance of dense.
    assert rows["dense"]["bytes_to_dense"] in (1400, 2800)
    strict = trial_plan(pruning={"tolerance": 0.0})
    none = comparison("exact", plan=strict)
    rows = {row["model"]: row for row in rows_of(none, none.budgets[0])}
    assert rows["dense"]["bytes_to_dense"] == 2800
    assert rows["magnitude weight 75 %"]["bytes_to_dense"] is None
    assert cells_of(rows["magnitude weight 75 %"])[-1] == "never"


def test_csv_and_json_hold_the_same_table() -> None:
    compared = comparison()
    read = list(csv.DictReader(io.StringIO(csv_of(compared))))
    summary: dict[str, Any] = json.loads(json.dumps(summary_of(compared), allow_nan=False))
    assert len(read) == len(summary["table"]) == sum(len(one.table) for one in compared.budgets)
    for line, row in zip(read, summary["table"], strict=True):
        assert line["model"] == row["model"]
        assert float(line["auc_validation"]) == row["auc_validation"]
        assert len(row["auc_validation_by_seed"]) == 3
        assert (line["score"] == "") == (row["score"] is None)
    assert [one["epsilon"] for one in summary["recommended"]] == [1.0, "none"]
    assert summary["ranked_by"].startswith("private validation")
    assert summary["aggregation"] == "secure"
    assert "summed in the plain" in summary["summed"]


def test_one_seed_has_plots_without_bands() -> None:
    def bands(seeds: int) -> int:
        compared = comparison("exact", seeds)
        first = plots_of(compared.budgets[0].table, compared.budgets[0].advice, "exact")[0]
        return first.svg.count("FillBetweenPolyCollection")

    assert bands(1) == 0
    assert bands(2) == 4
