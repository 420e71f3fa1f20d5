import base64
import hashlib
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from common.errors import ConfigError
from server.report.page import html_of, style, write_report
from server.report.story import report_of
from simulations.cli import app
from tests.pages import Page
from tests.reports import write_run
from tests.support import FIELDS, PROTECTED, grouped_plan, small_plan

START = "data:image/svg+xml;base64,"
HOSTILE = 'x<script>alert("1")</script>&$y$'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, grouped_plan(evaluation={"noise": "gaussian", "epsilon": 20.0}), seed=1)
    return write_report(folder).read_text(encoding="utf-8")


def test_page_fetches_and_runs_nothing(page: str) -> None:
    tags = Page(page)
    assert not any(tags.all(tag) for tag in ("script", "link", "iframe", "object", "base", "form"))
    for name, attributes in tags.tags:
        assert not any(one.startswith("on") for one in attributes)
        assert "style" not in attributes
        source, target = attributes.get("src"), attributes.get("href")
        assert source is None or (name == "img" and source.startswith(START))
        assert target is None or target.startswith("#")
    assert "://" not in re.sub(r'src="[^"]+"', "", page)
    assert "url(" not in page
    assert "@import" not in page


def test_policy_lets_in_this_style_and_pictures_alone(page: str) -> None:
    (policy,) = (meta["content"] for meta in Page(page).all("meta") if "http-equiv" in meta)
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none';"
        " form-action 'none'"
    )
    assert f"<style>{style()}</style>" in page


def test_every_figure_has_words_a_caption_and_its_table(page: str) -> None:
    tags = Page(page)
    images = tags.all("img")
    assert len(images) == len(tags.all("figure")) == len(tags.all("figcaption")) == 16
    assert all(len(image["alt"] or "") > 30 for image in images)
    for image in images:
        svg = base64.b64decode((image["src"] or "").removeprefix(START)).decode()
        ET.fromstring(svg)
        assert "prefers-color-scheme:dark" in svg
        assert "currentColor" in svg
        assert "nan" not in svg.lower()
    assert page.count("</figure>") == len(re.findall(r"</details>\s*</figure>", page))
    regions = [one for one in tags.all("div") if one.get("class") == "table"]
    assert all(one["tabindex"] == "0" and one["role"] == "region" for one in regions)
    assert {one["scope"] for one in tags.all("th")} == {"col", "row"}


def test_headings_go_down_one_at_a_time(page: str) -> None:
    levels = [int(tag[1]) for tag, _ in Page(page).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    targets = {one["href"] for one in Page(page).all("a")}
    assert targets == {f"#part-{number}" for number in range(1, 12)}


def test_names_of_others_are_text(tmp_path: Path) -> None:
    columns = [{"name": HOSTILE, "kind": "numeric", "lo": 0, "hi": 1}, *PROTECTED]
    institutions = [{"name": name, "size": 200} for name in "abc"]
    plan = small_plan(
        schema=FIELDS["schema"] | {"columns": columns, "name": "<b>"}, institutions=institutions
    )
    text = html_of(report_of(write_run(tmp_path, plan)))
    assert "<script" not in text
    assert "<b>" not in text
    assert "x&lt;script&gt;" in text


def test_same_run_same_page(tmp_path: Path) -> None:
    write_run(tmp_path, small_plan())
    first = html_of(report_of(tmp_path))
    assert html_of(report_of(tmp_path)) == first
    assert write_report(tmp_path).read_text(encoding="utf-8") == first
    # What it wrote itself is no part of what it tells.
    assert html_of(report_of(tmp_path)) == first


def test_command_writes_the_page_and_says_where(tmp_path: Path) -> None:
    write_run(tmp_path, small_plan(), rounds=3)
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    file = tmp_path / "report.html"
    assert json.loads(done.stdout) == {"report": str(file), "bytes": file.stat().st_size}
    failed = CliRunner().invoke(app, ["report", str(tmp_path / "nothing")])
    assert isinstance(failed.exception, ConfigError)
    assert "holds no plan.toml" in str(failed.exception)


def test_report_needs_no_torch() -> None:
    program = "import sys, server.report.page, simulations.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
