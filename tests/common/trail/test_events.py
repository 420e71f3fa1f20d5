"""The README's tables are those of the code."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

import common.trail
from common.trail.events import EVENTS, Opened
from common.trail.lines import MEMBERS

README = Path(common.trail.__path__[0]) / "README.md"


def test_the_readme_tells_of_every_event_and_field() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", README.read_text(), re.MULTILINE)
    told = {name: (re.findall(r"`(\w+)`", fields), said) for name, fields, said in rows}
    events = {name: EVENTS.require(name) for name in EVENTS.names}
    assert told == {
        name: ([*event.model_fields], str(event.__doc__).splitlines()[0])
        for name, event in events.items()
    }


def test_the_readme_tells_of_the_fields_that_all_lines_have() -> None:
    section = README.read_text().partition("## Lines")[2].partition("## Events")[0]
    rows = re.findall(r"^\| (`.*?) \| ", section, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(rows)) == [*MEMBERS]


def test_every_event_says_what_it_is_in_one_line() -> None:
    for name in EVENTS.names:
        assert str(EVENTS.require(name).__doc__).splitlines()[0].endswith((".", ":"))


def test_an_event_is_what_it_says_and_no_more() -> None:
    fields = {"run": "run", "round": 1, "epoch": 1, "survivors": ("ash",)}
    event = Opened.model_validate(fields)
    with pytest.raises(ValidationError, match="frozen"):
        event.round = 2
    for wrong in ({"round": -1}, {"round": "1"}, {"run": "r" * 1001}, {"extra": 1}):
        with pytest.raises(ValidationError):
            Opened.model_validate(fields | wrong)
