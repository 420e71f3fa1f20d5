import logging
from pathlib import Path

import pytest

from server.awaited import FILE, awaited, noting

MISSING = {"cedar": "not connected", "ash": "privacy budget"}


def test_whom_a_run_waits_for_is_told_until_they_are_there(tmp_path: Path) -> None:
    assert awaited(tmp_path, "loans") == ""
    note = noting(tmp_path, "loans")
    note(MISSING)
    assert awaited(tmp_path, "loans") == "ash (privacy budget), cedar (not connected)"
    assert awaited(tmp_path, "cards") == ""
    note({})
    assert awaited(tmp_path, "loans") == ""


def test_what_stays_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    note = noting(tmp_path, "loans")
    for _ in range(3):
        note(MISSING)
    note({"ash": "privacy budget"})
    assert caplog.text.count("waiting for: ash (privacy budget), cedar") == 1
    assert caplog.text.count("waiting for") == 2


def test_a_torn_note_and_a_folder_that_is_gone_end_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"run"')
    assert awaited(tmp_path, "loans") == ""
    noting(tmp_path / "gone" / "gone", "loans")(MISSING)
