import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import ConfigError
from server.model_file.catalogue import CHAPTERS, MAPPING
from server.model_file.checks import TESTS
from server.model_file.page import write_model_file
from server.model_file.records import Beside
from server.report.files import read_run
from simulations.cli import app, main
from tests.cards import FACTS, write_seeds, write_simulated
from tests.commands import invoke, trial_file
from tests.reports import write_run
from tests.support import FIELDS, PROTECTED, small_plan

HOSTILE = 'x<script>alert("1")</script>&$y$'
FILES = ("model-card.md", "model-card.json", "validation.html")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    (folder / "facts.toml").write_text(FACTS)
    beside = Beside(facts=folder / "facts.toml", seeds=write_seeds(folder / "seeds"))
    *_, path = write_model_file(write_simulated(folder / "run"), beside).paths
    return path.read_text(encoding="utf-8")


def test_page_fetches_and_runs_nothing_and_is_small(page: str) -> None:
    assert not re.search(r"<(script|link|iframe|object|base|form)\b", page)
    assert all(source.startswith("data:image/svg") for source in re.findall(r'src="([^"]*)"', page))
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))
    assert "://" not in re.sub(r'src="[^"]+"', "", page)
    assert "default-src 'none'" in page
    assert len(page) < 1_000_000


def test_page_has_each_test_each_chapter_and_the_rules(page: str) -> None:
    outcomes = re.findall(r'class="outcome is-(pass|attention|missing)">(\w+)<', page)
    assert len(outcomes) == len(TESTS)
    assert all(kind == word for kind, word in outcomes)
    assert {"pass", "attention", "missing"} == {kind for kind, _ in outcomes}
    heads = re.findall(r"<h2[^>]*>([^<]+)</h2>", page)
    assert len(heads) == len(CHAPTERS) + 4
    assert MAPPING.partition(",")[0] in page
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets <= set(re.findall(r'id="([^"]+)"', page))


def test_each_figure_has_words_a_caption_and_its_table(page: str) -> None:
    alts = re.findall(r'<img alt="([^"]*)"', page)
    assert len(alts) == page.count("<figcaption>") == page.count("</figure>") == 9
    assert all(len(alt) > 30 for alt in alts)
    assert len(re.findall(r"</details>\s*</figure>", page)) == 9


def test_names_of_others_are_text(tmp_path: Path) -> None:
    columns = [{"name": HOSTILE, "kind": "numeric", "lo": 0, "hi": 1}, *PROTECTED]
    plan = small_plan(schema=FIELDS["schema"] | {"columns": columns, "name": "<b>"})
    *_, path = write_model_file(write_simulated(tmp_path, plan)).paths
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>" not in text
    assert "x&lt;script&gt;" in text


def test_same_records_same_files_whatever_stood_there(tmp_path: Path) -> None:
    run = write_simulated(tmp_path)
    first = [path.read_bytes() for path in write_model_file(run).paths]
    hashes = read_run(run).hashes
    assert [path.read_bytes() for path in write_model_file(run).paths] == first
    # What is told of a run is no part of it.
    assert not {*FILES} & {*hashes}


def test_a_run_under_way_has_its_model_file(tmp_path: Path) -> None:
    for rounds in (0, 1, 3):
        run = write_run(tmp_path / str(rounds), small_plan(), rounds)
        assert [path.name for path in write_model_file(run).paths] == [*FILES]


def test_a_real_small_run_ends_with_every_section(tmp_path: Path) -> None:
    run = ("run", trial_file(tmp_path), "--rounds", "2", "--out", tmp_path / "run")
    assert invoke(main, *run).code == 0
    text = (tmp_path / "run" / "model-card.md").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "run" / "model-card.json").read_text(encoding="utf-8"))
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    rest = ["Validation", "What is missing", "Which rule each chapter serves"]
    assert heads == [part.title for part in CHAPTERS] + rest
    assert [*found["chapters"]] == [part.key for part in CHAPTERS]
    exact = json.loads((tmp_path / "run" / "summary.json").read_text())["auc"]
    rows = found["chapters"]["performance"]["facts"]["metrics"]["value"]["rows"]
    assert ["ROC-AUC, exact on test rows", exact, None] in rows
    rivals = found["chapters"]["pruning"]["facts"]["rivals"]["value"]["rows"]
    assert [row[0] for row in rivals] == ["pruned", "dense", "logistic"]


def test_command_says_what_it_wrote_and_what_is_missing(tmp_path: Path) -> None:
    write_simulated(tmp_path / "run")
    done = CliRunner().invoke(app, ["model-file", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["files"] == [str(tmp_path / "run" / name) for name in FILES]
    assert {*said["tests"]} == {*TESTS}
    assert "purpose.owner" in said["missing"]
    (tmp_path / "facts.toml").write_text(FACTS)
    arguments = ["model-file", str(tmp_path / "run"), "--facts", str(tmp_path / "facts.toml")]
    assert CliRunner().invoke(app, arguments).stdout.split() == said["files"]
    found = json.loads((tmp_path / "run" / "model-card.json").read_text())
    assert found["chapters"]["purpose"]["facts"]["owner"]["value"] == "Retail risk"
    failed = CliRunner().invoke(app, ["model-file", str(tmp_path / "nothing")])
    assert isinstance(failed.exception, ConfigError)


def test_model_file_needs_no_torch() -> None:
    program = "import sys, server.model_file.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
