import hashlib
import os
import stat
from pathlib import Path

import pytest

from common.crypto.keys import verifying_key
from common.errors import ConfigError, DiskError
from common.trail import file
from common.trail.events import Continued, Healed, Opened, Refused
from common.trail.examination import Examined, examined, read
from common.trail.file import FileTrail, files_of, read_head
from common.trail.interface import Untold, refusals_noted
from common.trail.lines import GENESIS, Author, Head
from common.trail.refusals import TrailError
from tests.common.trail.logs import NOON, appending, owner_of, said, trail_at, trusted_of


def look(trail: FileTrail, name: str = "") -> Examined:
    trusted = trusted_of(name) if name else None
    return examined(files_of(trail.folder), read_head(trail.folder), trusted)


def kinds(trail: FileTrail) -> list[str]:
    found = look(trail)
    found.require_whole()
    return [line.event.kind for line in found.lines]


def test_a_log_begins_with_its_first_event_and_its_key_is_its_owners_alone(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    assert trail.head == b""
    assert not trail.folder.exists()
    trail.append(said(1), said(2))
    trail.append(said(3))
    assert kinds(trail) == ["began", "opened", "opened", "opened"]
    assert stat.S_IMODE((trail.folder / "key").stat().st_mode) == 0o600
    assert len(trail.head) == 104
    private = (trail.folder / "key").read_bytes()
    assert private not in b"".join(files_of(trail.folder).values())
    assert private.hex().encode() not in b"".join(files_of(trail.folder).values())


def test_a_key_that_is_none_writes_nothing(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    before = files_of(trail.folder)
    (trail.folder / "key").write_bytes(b"half")
    with pytest.raises(TrailError, match="key: holds no key of a log"):
        trail.append(said(2))
    assert files_of(trail.folder) == before


def test_an_owner_signs_for_the_key_once(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    assert "no key that is known here has signed for" in look(trail, "ash").findings[0]
    for _ in range(2):
        trail.vouch(owner_of("ash"))
    look(trail, "ash").require_whole()
    assert kinds(trail) == ["began", "opened", "vouched"]
    assert look(trail, "birch").findings
    trail.vouch(owner_of("birch"))
    look(trail, "ash").require_whole()
    look(trail, "birch").require_whole()


def cut(trail: FileTrail, lines: int) -> dict[str, bytes]:
    """Set a log back to its first lines, head and all; return what it was."""
    files = files_of(trail.folder)
    log = trail.folder / "log.jsonl"
    log.write_bytes(b"".join(files["log.jsonl"].splitlines(keepends=True)[:lines]))
    private = (trail.folder / "key").read_bytes()
    head = Head.of(read(files_of(trail.folder)).lines[-1], private)
    (trail.folder / "head").write_bytes(head.to_bytes().hex().encode())
    return files


def noted_at(trail: FileTrail) -> list[str]:
    return [line.hash for line in look(trail).lines]


def test_what_was_noted_is_asked_for_whatever_the_clock_said(tmp_path: Path) -> None:
    """A clock that was ahead when the key was signed for excuses nothing that is noted since."""
    ahead = FileTrail(
        tmp_path / "audit", Author("institution", "ash"), bytes, clock=lambda: NOON + 10**6
    )
    ahead.vouch(owner_of("ash"))
    trail = FileTrail(ahead.folder, Author("institution", "ash"), bytes, clock=lambda: NOON)
    trail.append(said(1), said(2))
    noted = noted_at(trail)
    trail.vouch(owner_of("ash"), noted)
    cut(trail, 3)
    with pytest.raises(TrailError, match="lacks 1 lines that were noted elsewhere"):
        trail.vouch(owner_of("ash"), noted)
    # Nor has a person who signs for it as it is to wait until the clock is there.
    trail.vouch(owner_of("ash"), noted, anew=True)
    assert kinds(trail)[3:] == ["vouched", "vouched_as_it_is"]
    trail.vouch(owner_of("ash"), noted)
    trail.append(said(3))
    noted += noted_at(trail)[-1:]
    trail.vouch(owner_of("ash"), noted)
    cut(trail, 5)
    with pytest.raises(TrailError, match="lacks 1 lines that were noted elsewhere"):
        trail.vouch(owner_of("ash"), noted)


def test_nobody_but_the_owner_does_without_what_was_noted(tmp_path: Path) -> None:
    """Whoever cuts the log can copy an earlier word of the owner's, with any time."""
    trail = trail_at(tmp_path)
    trail.append(said(1))
    trail.vouch(owner_of("ash"))
    noted = noted_at(trail)
    cut(trail, 1)
    trail.vouch(owner_of("ash"), noted, anew=True)
    word = files_of(trail.folder)["log.jsonl"].splitlines()[-1]
    trail.append(said(2))
    noted += noted_at(trail)[-1:]
    cut(trail, 3)
    log = trail.folder / "log.jsonl"
    forged = [
        word.replace(b'"time":"2023', b'"time":"2123'),
        word.replace(b'"noted":3', b'"noted":4').replace(noted[2].encode(), noted[3].encode()),
        word.replace(b'"noted":3', b'"noted":4'),
    ]
    log.write_bytes(log.read_bytes() + b"".join(line + b"\n" for line in forged))
    with pytest.raises(TrailError, match="lacks 1 lines that were noted elsewhere"):
        trail.require_noted(noted, verifying_key(owner_of("ash")))
    # Of other notes, as of a ledger that was begun anew, it says nothing.
    assert trail.given_up(noted, verifying_key(owner_of("ash"))) == 3
    assert trail.given_up(["5a" * 32] * 9, verifying_key(owner_of("ash"))) == 0
    assert trail.given_up(noted[:2], verifying_key(owner_of("ash"))) == 0
    assert trail.given_up(noted, verifying_key(owner_of("birch"))) == 0


def test_an_owner_who_signs_for_a_whole_log_does_without_nothing(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    trail.vouch(owner_of("ash"), noted_at(trail), anew=True)
    assert kinds(trail) == ["began", "opened", "vouched"]


def test_rotation_keeps_the_chain(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    assert trail.rotate() is None
    trail.append(said(1))
    closed = trail.rotate()
    assert closed is not None
    assert closed.name == "log-000000000001.jsonl"
    trail.append(said(2))
    assert kinds(trail) == ["began", "opened", "continued", "opened"]
    assert look(trail).lines[2].event == Continued(
        file=closed.name, sha256=file._continued(closed).sha256, lines=2
    )
    closed.unlink()
    assert any(
        "log-000000000001.jsonl is gone, with 2 lines" in one for one in look(trail).findings
    )


def test_a_log_rotates_by_itself(tmp_path: Path) -> None:
    trail = trail_at(tmp_path, rotate_bytes=2000)
    for number in range(20):
        trail.append(said(number))
    assert len(files_of(trail.folder)) > 3
    assert all(len(data) < 3000 for data in files_of(trail.folder).values())
    assert kinds(trail).count("opened") == 20


def test_a_crash_between_the_steps_of_a_rotation_is_made_up_for(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    (trail.folder / "log.jsonl").rename(trail.folder / "log-000000000001.jsonl")
    trail.append(said(2))
    assert kinds(trail) == ["began", "opened", "continued", "opened"]


@pytest.mark.parametrize("step", ["vouch", "rotate"])
def test_no_step_heals_a_log_silently(tmp_path: Path, step: str) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    with (trail.folder / "log.jsonl").open("ab") as log:
        log.write(b"torn")
    if step == "vouch":
        trail.vouch(owner_of("ash"))
        assert kinds(trail) == ["began", "opened", "healed", "vouched"]
    else:
        trail.rotate()
        assert kinds(trail) == ["began", "opened", "healed", "continued"]


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_cut_off_and_that_is_said(tmp_path: Path, kept: int) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    before = files_of(trail.folder)["log.jsonl"]
    torn = before.splitlines()[-1][:kept]
    (trail.folder / "log.jsonl").write_bytes(before + torn)
    assert f"ends in {len(torn)} bytes that are no line" in look(trail).findings[0]
    trail.append(said(2))
    assert kinds(trail) == ["began", "opened", "healed", "opened"]
    healed = look(trail).lines[2].event
    assert isinstance(healed, Healed)
    assert healed.removed == len(torn)


def test_a_line_that_was_written_and_not_signed_off_stays(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    head = (trail.folder / "head").read_bytes()
    trail.append(said(2))
    (trail.folder / "head").write_bytes(head)
    trail.append(said(3))
    assert kinds(trail) == ["began", "opened", "opened", "opened"]


def before_all(trail: FileTrail) -> bytes:
    """Return the head that lies there before a log's first line."""
    private = (trail.folder / "key").read_bytes()
    return Head.before(Author("institution", "ash"), private).to_bytes().hex().encode()


def test_a_first_line_that_was_not_signed_off_stays_and_a_second_does_not(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append()
    (trail.folder / "head").write_bytes(before_all(trail))
    trail.append(said(1))
    (trail.folder / "head").write_bytes(before_all(trail))
    with pytest.raises(TrailError, match="its head says line 0: lines are gone or altered"):
        trail.append(said(2))


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_log_that_was_cut_and_has_no_head_is_refused(tmp_path: Path, kept: int) -> None:
    """No key is needed for that."""
    trail = trail_at(tmp_path)
    trail.append(said(1), said(2))
    path = trail.folder / "log.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    (trail.folder / "head").unlink()
    with pytest.raises(TrailError, match="its head says nothing: lines are gone or altered"):
        trail.append(said(3))


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_head_that_the_key_has_not_signed_is_refused(tmp_path: Path, kept: int) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1), said(2))
    path = trail.folder / "log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)[:kept]
    path.write_bytes(b"".join(lines))
    digest = hashlib.sha256(lines[-1][:-1]).hexdigest() if lines else GENESIS
    forged = Head(kept, digest, bytes(64)).to_bytes().hex().encode()
    (trail.folder / "head").write_bytes(forged)
    with pytest.raises(TrailError, match="head: is not signed by the log's key"):
        trail.append(said(3))


def test_a_crash_before_the_key_or_the_first_line_costs_nothing(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    first = before_all(trail)
    for gone in ("key", ""):
        (trail.folder / "log.jsonl").unlink()
        (trail.folder / "head").write_bytes(first)
        (trail.folder / (gone or "lock")).unlink()
        assert trail.head == b""
        trail.append(said(2))
        assert kinds(trail) == ["began", "opened"]
        first = before_all(trail)


def test_a_log_that_lost_lines_is_not_written_further(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1), said(2))
    path = trail.folder / "log.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(TrailError, match="ends with line 2, and its head says line 3"):
        trail.append(said(3))
    path.unlink()
    with pytest.raises(TrailError, match="ends with line 0, and its head says line 3"):
        trail.append(said(3))
    path.write_bytes(whole)
    (trail.folder / "key").unlink()
    with pytest.raises(TrailError, match="gone, and the log goes on by no other"):
        trail.append(said(3))
    with pytest.raises(TrailError, match="is the log of institution 'ash'"):
        _restored(trail).append(said(3))


def _restored(trail: FileTrail) -> FileTrail:
    """Return the log of another institution in the same folder, its key put back."""
    other = trail_at(trail.folder.parent, "birch")
    (trail.folder / "key").write_bytes(trail._stream(0) or bytes(32))
    (trail.folder / "key").chmod(0o600)
    return other


def test_a_full_disk_is_one_line_and_leaves_the_log_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    write = os.pwrite
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda handle, data, at: write(handle, data[:100], at))
        with pytest.raises(DiskError, match=r"log\.jsonl: cannot be written: no room"):
            trail.append(said(2))
    trail.append(said(3))
    assert kinds(trail) == ["began", "opened", "opened"]
    # What was torn stays until it can be told that it was.
    with (trail.folder / "log.jsonl").open("ab") as log:
        log.write(b"torn" * 300)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda handle, data, at: write(handle, data[:0], at))
        with pytest.raises(DiskError, match="no room"):
            trail.append(said(4))
    trail.append(said(5))
    assert kinds(trail) == ["began", "opened", "opened", "healed", "opened"]
    assert [line.event.removed for line in look(trail).lines if isinstance(line.event, Healed)] == [
        1200
    ]


def test_a_line_torn_and_one_not_signed_off_are_made_up_for_at_once(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    head = (trail.folder / "head").read_bytes()
    trail.append(said(2))
    (trail.folder / "head").write_bytes(head)
    with (trail.folder / "log.jsonl").open("ab") as log:
        log.write(b"torn")
    trail.append(said(3))
    assert kinds(trail) == ["began", "opened", "opened", "healed", "opened"]


@pytest.mark.parametrize("begins", ["a log", "a file"])
def test_a_first_line_that_was_torn_is_told_after_another_first_line(
    tmp_path: Path, begins: str
) -> None:
    trail = trail_at(tmp_path)
    if begins == "a file":
        trail.append(said(1))
        (trail.folder / "log.jsonl").rename(trail.folder / "log-000000000001.jsonl")
    trail.folder.mkdir(exist_ok=True)
    (trail.folder / "log.jsonl").write_bytes(b"torn")
    if begins == "a log":
        (trail.folder / "key").write_bytes(bytes(32))
        (trail.folder / "key").chmod(0o600)
        (trail.folder / "head").write_bytes(before_all(trail))
    trail.append(said(2))
    lead = ["began", "opened", "continued"] if begins == "a file" else ["began"]
    assert kinds(trail) == [*lead, "healed", "opened"]


def test_processes_write_one_log_at_once(tmp_path: Path) -> None:
    writers = [appending(tmp_path, 100 * n, 25) for n in range(3)]
    for writer in writers:
        told, _ = writer.communicate(timeout=60)
        assert (writer.returncode, len(told.splitlines())) == (0, 25)
    assert kinds(trail_at(tmp_path)).count("opened") == 75


def test_what_was_written_outlasts_a_process_that_is_killed(tmp_path: Path) -> None:
    written: list[int] = []
    for first in (0, 1000, 2000):
        writer = appending(tmp_path, first, 1000)
        assert writer.stdout is not None
        with writer.stdout:
            written += [int(writer.stdout.readline()) for _ in range(7)]
            writer.kill()
            # Told just before it died.
            written += [int(line) for line in writer.stdout if line.endswith("\n")]
        writer.wait(60)
    trail_at(tmp_path).append(said(9999))
    found = look(trail_at(tmp_path))
    found.require_whole()
    there = [line.event.round for line in found.lines if isinstance(line.event, Opened)]
    assert {*written, 9999} <= {*there}
    assert there == sorted({*there})
    # One that nobody was told of may stand there, of each that was killed.
    assert len(there) <= len(written) + 1 + 3


def test_a_refusal_is_noted_and_goes_on(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    with pytest.raises(ValueError, match="4711"), refusals_noted(trail, "update"):
        raise ValueError("row 4711")
    with pytest.raises(ConfigError), refusals_noted(trail, "join"):
        raise ConfigError("own words")
    with pytest.raises(DiskError), refusals_noted(trail, "join"):
        raise DiskError("has no room for a line either")
    told = [line.event for line in look(trail).lines if isinstance(line.event, Refused)]
    # The text of an exception that is not ours may hold a record.
    assert told == [
        Refused(what="update", told="failed", because="ValueError"),
        Refused(what="join", told="failed", because="own words"),
    ]


def test_a_refusal_stays_one_where_nothing_can_be_noted(tmp_path: Path) -> None:
    trail = trail_at(tmp_path)
    trail.append(said(1))
    (trail.folder / "log.jsonl").unlink()
    with pytest.raises(ValueError, match="refused"), refusals_noted(trail, "update"):
        raise ValueError("refused")
    with pytest.raises(ValueError, match="refused"), refusals_noted(Untold(), "update"):
        raise ValueError("refused")
