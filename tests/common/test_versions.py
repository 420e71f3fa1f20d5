import tomllib
from pathlib import Path

import pytest

from common import __version__
from common.errors import ProtocolError
from common.versions import OURS, PROTOCOL_VERSION, OtherProtocolError, Speaker, require_ours

ROOT = Path(__file__).parents[2]


def test_one_release_is_told_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__ == OURS.release


def test_our_protocol_is_taken_whatever_the_release() -> None:
    require_ours({"version": PROTOCOL_VERSION, "release": "9.9", "name": "ash"})


@pytest.mark.parametrize("body", [{}, {"version": "4"}, {"version": True}, {"version": 4.0}])
def test_a_body_of_no_version_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="does not say which version") as caught:
        require_ours(body)
    assert not isinstance(caught.value, OtherProtocolError)


def test_who_speaks_another_protocol_is_read() -> None:
    body = {"version": 7, "release": "1.4.0", "name": "ash", "kind": "new", "more": [1.5]}
    with pytest.raises(OtherProtocolError, match=r"the other side speaks protocol 7") as caught:
        require_ours(body)
    assert caught.value.speaker == Speaker(7, "1.4.0", "ash")


@pytest.mark.parametrize("said", ["", "ash\nbirch", "a" * 101, " ash", "\x1b[2J", 3, b"ash", ["a"]])
def test_what_a_stranger_says_of_itself_is_not_taken_as_it_is(said: object) -> None:
    with pytest.raises(OtherProtocolError) as caught:
        require_ours({"version": 7, "release": said, "name": said})
    assert caught.value.speaker == Speaker(7)


def test_who_is_behind_is_to_upgrade() -> None:
    said = Speaker(PROTOCOL_VERSION - 1, "0.0.9").against("the server", "this institution")
    assert said == (
        f"the server speaks protocol {PROTOCOL_VERSION - 1} (fedprune 0.0.9), this institution"
        f" {OURS}: upgrade the server"
    )
    said = Speaker(PROTOCOL_VERSION + 1).against("ash", "this server")
    assert said == (
        f"ash speaks protocol {PROTOCOL_VERSION + 1}, this server {OURS}: upgrade this server"
    )
