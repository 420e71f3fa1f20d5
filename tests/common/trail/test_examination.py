from pathlib import Path

import pytest

from common.trail.events import Began
from common.trail.examination import Examined, closed_name, examined, read
from common.trail.file import FileTrail, files_of, read_head
from common.trail.refusals import TrailError
from tests.common.trail.logs import owner_of, said, trail_at, trusted_of

Files = dict[str, bytes]


@pytest.fixture
def trail(tmp_path: Path) -> FileTrail:
    """Return a log of nine lines in two files."""
    trail = trail_at(tmp_path)
    trail.vouch(owner_of("ash"))
    trail.append(said(1), said(2), said(3))
    trail.rotate()
    trail.append(said(4), said(5), said(6))
    return trail


def look(trail: FileTrail, files: Files | None = None) -> Examined:
    return examined(files or files_of(trail.folder), read_head(trail.folder), trusted_of("ash"))


def changed(trail: FileTrail, name: str, rows: list[int]) -> Files:
    """Return the log's files, one of which has these of its rows in this order."""
    files = files_of(trail.folder)
    lines = files[name].splitlines(keepends=True)
    return files | {name: b"".join(lines[row] for row in rows)}


FIRST, CURRENT = closed_name(1), "log.jsonl"


def test_an_honest_log_is_whole_as_are_its_files_in_one(trail: FileTrail) -> None:
    found = look(trail)
    found.require_whole()
    assert [line.sequence for line in found.lines] == list(range(1, 10))
    files = files_of(trail.folder)
    joined = {"copy.jsonl": files[FIRST] + files[CURRENT]}
    look(trail, joined).require_whole()
    del files[FIRST]
    assert f"{FIRST} is gone, with 5 lines" in look(trail, files).findings


@pytest.mark.parametrize(
    ("name", "rows", "problem"),
    [
        (CURRENT, [0, 1, 2], "lines 9 to 9 are gone from the end"),
        (CURRENT, [0, 2, 3], "row 2 is line 8, and 7 was due: lines 7 to 7 are gone"),
        (CURRENT, [0, 2, 1, 3], "row 3 is line 7, and 9 was due: out of order"),
        (CURRENT, [0, 1, 1, 2, 3], "row 3 is line 7, and 8 was due: out of order"),
        (CURRENT, [1, 2, 3], "row 1 is line 7, and 6 was due"),
        (FIRST, [1, 2, 3, 4], "begins with line 2: it is misnamed"),
        (FIRST, [0, 1, 2, 3], f"{FIRST} is not the file that was rotated away"),
        (FIRST, [], "lines 1 to 5 are gone"),
    ],
)
def test_lines_that_are_gone_or_out_of_order_are_named(
    trail: FileTrail, name: str, rows: list[int], problem: str
) -> None:
    found = look(trail, changed(trail, name, rows))
    assert any(problem in finding for finding in found.findings), found.findings
    with pytest.raises(TrailError, match="the audit log was altered"):
        found.require_whole()


def test_a_line_of_another_log_is_told_by_whose_it_is(trail: FileTrail, tmp_path: Path) -> None:
    other = trail_at(tmp_path / "other", "oak")
    other.append(said(7))
    files = files_of(trail.folder)
    strange = files_of(other.folder)[CURRENT].splitlines(keepends=True)[1]
    found = look(trail, files | {CURRENT: files[CURRENT] + strange})
    assert any("is of institution 'oak'" in finding for finding in found.findings)


def test_a_log_begun_anew_within_itself_is_found(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(Began(key="5a" * 32))
    assert any("begins a log within it" in one for one in look(trail).findings)


def test_a_log_whose_head_is_gone_or_another_is_not_whole(trail: FileTrail, tmp_path: Path) -> None:
    files = files_of(trail.folder)
    assert "the head is gone" in examined(files, None).findings[0]
    other = trail_at(tmp_path / "other", "oak")
    other.append(said(7))
    head = read_head(other.folder)
    assert examined(files, head).findings == ("the head is not signed by the log's key",)
    text = (trail.folder / "head").read_text()
    for spoiled in (text.upper(), text[:-2], text + "\n", "", "zz"):
        (trail.folder / "head").write_text(spoiled)
        with pytest.raises(TrailError, match="is no head of a log"):
            read_head(trail.folder)


def test_a_log_wiped_out_is_told_by_what_others_noted(trail: FileTrail, tmp_path: Path) -> None:
    noted = [("the line that the ledger notes", look(trail).lines[-1].hash)]
    fresh = trail_at(tmp_path / "fresh")
    fresh.vouch(owner_of("ash"))
    files, head = files_of(fresh.folder), read_head(fresh.folder)
    assert examined(files, head, trusted_of("ash")).findings == ()
    found = examined(files, head, trusted_of("ash"), noted)
    assert found.findings == ("the line that the ledger notes is not in the log",)
    assert examined({}, None).findings == ("there is no log, or its first line is gone",)


def test_findings_are_few_however_much_is_wrong(trail: FileTrail) -> None:
    noise = b"noise\n" * 500
    found = look(trail, files_of(trail.folder) | {CURRENT: noise})
    assert len(found.findings) == 20
    assert len(read({CURRENT: noise}).lines) == 0
