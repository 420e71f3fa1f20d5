"""What browsers load: from this package alone, and the chart library as its maker released it."""

import hashlib
import re
from pathlib import Path

import pytest

from server.live.app import KINDS, PAGE
from tests.commands import ROOT

STATIC = ROOT / "server/live/static"
PINNED = {
    "uplot.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot-LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""SHA-256 of uPlot 1.6.32's files."""

OURS = sorted({PAGE, *KINDS} - PINNED.keys())


@pytest.mark.parametrize("name", PINNED)
def test_what_others_wrote_is_as_they_released_it(name: str) -> None:
    assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == PINNED[name]


def test_all_that_lies_there_is_served_and_nothing_else() -> None:
    assert {path.name for path in STATIC.iterdir()} == {PAGE, *KINDS}


@pytest.mark.parametrize("name", OURS)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = (STATIC / name).read_text()
    found = {*re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", text)}
    assert found <= {"http://www.w3.org"}  # The name of SVG, which nobody fetches.


def test_the_page_has_no_code_or_style_of_its_own() -> None:
    text = (STATIC / PAGE).read_text()
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", text) == []


def test_text_is_never_markup() -> None:
    text = (STATIC / "live.js").read_text()
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
    )
    assert re.findall(forbidden, text) == []


def test_the_licence_is_named_where_the_library_is() -> None:
    assert "The MIT License" in (STATIC / "uplot-LICENSE.txt").read_text()
    assert Path(STATIC / "uplot.js").read_text().startswith("/*! https://github.com/leeoniya/uPlot")
    assert "uPlot 1.6.32" in (STATIC.parent / "__init__.py").read_text()
