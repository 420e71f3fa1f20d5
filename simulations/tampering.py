"""Random edits of what is kept as evidence, and whether its own check finds each of them.

A `Target` is an artefact in bytes: its honest files, another's of its kind to splice from, and the
check that says what is wrong. Manifests and whatever comes later join `TARGETS` the same way.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.entries import Budget, Place, Release, Shrunk
from client.ledger import Ledger
from client.ledger_file import SqliteStore
from common.crypto.keys import verifying_key
from common.entropy import SeededEntropy
from common.errors import FedpruneError
from common.registry import Registry
from common.trail.events import Charged, Contributed, Event, Opened, Refused
from common.trail.examination import CURRENT, examined
from common.trail.file import HEAD, FileTrail, files_of, read_head
from common.trail.lines import Author, Head, parsed, written
from common.trail.refusals import TrailError

Files = dict[str, bytes]
Edit = Callable[[Files, Files, np.random.Generator], Files]
"""From an artefact's files, another's, and chance to the files after the edit."""

NOON = 1_700_000_000
HASH = "5a" * 32


@dataclass(frozen=True)
class Target:
    """An artefact: honest files, another's of the same kind, its check, and its ways to lie.

    ``found`` returns what is wrong with files; ``content`` what they say, where some bytes of a
    file say nothing and an edit of them alone is none.
    """

    files: Files
    others: Files
    found: Callable[[Files], list[str]]
    edits: Mapping[str, Edit]
    content: Callable[[Files], object] = dict


@dataclass(frozen=True)
class Trial:
    """One edit, and what the check said of it."""

    edit: str
    findings: list[str]


TARGETS: Registry[Callable[[int], Target]] = Registry("target")
"""What is tampered with, each made from a seed."""


def tampered(name: str, count: int, seed: int = 0) -> Iterator[Trial]:
    """Yield so many random edits of a target, each of its honest files; those of nothing are not.

    Every way to edit comes as often as any other.
    """
    target = TARGETS.require(name)(seed)
    draw = np.random.default_rng(seed)
    if wrong := target.found(target.files):
        raise AssertionError(f"{name}: the honest files are not: {wrong[0]}")
    said, done, turn = target.content(target.files), 0, 0
    ways = list(target.edits.items())
    while done < count:
        edit, apply = ways[turn % len(ways)]
        turn += 1
        after = apply(dict(target.files), target.others, draw)
        if after == target.files or target.content(after) == said:
            continue
        done += 1
        yield Trial(edit, target.found(after))


def _some(files: Files, draw: np.random.Generator, least: int = 1) -> str:
    """Draw one of the files that have so many lines."""
    names = sorted(name for name, data in files.items() if data.count(b"\n") >= least)
    return str(draw.choice(names))


def _lines(files: Files, name: str) -> list[bytes]:
    return files[name].splitlines(keepends=True)


def flip(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Flip one bit of any file."""
    name = str(draw.choice(sorted(files)))
    data = bytearray(files[name])
    data[draw.integers(len(data))] ^= 1 << int(draw.integers(8))
    return files | {name: bytes(data)}


def cut(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Cut any file off at any byte."""
    name = str(draw.choice(sorted(files)))
    return files | {name: files[name][: draw.integers(len(files[name]))]}


def add(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Put bytes in anywhere."""
    name = str(draw.choice(sorted(files)))
    data, place = files[name], int(draw.integers(len(files[name]) + 1))
    return files | {name: data[:place] + draw.bytes(int(draw.integers(1, 9))) + data[place:]}


def lose(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Take any file away."""
    gone = str(draw.choice(sorted(files)))
    return {name: data for name, data in files.items() if name != gone}


def drop_line(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Take a line out."""
    name = _some(files, draw)
    lines = _lines(files, name)
    del lines[draw.integers(len(lines))]
    return files | {name: b"".join(lines)}


def drop_end(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Take the last lines of a file."""
    name = _some(files, draw)
    lines = _lines(files, name)
    return files | {name: b"".join(lines[: draw.integers(len(lines))])}


def repeat_line(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Put a line in a second time, at its place or another's."""
    name = _some(files, draw)
    lines = _lines(files, name)
    lines.insert(int(draw.integers(len(lines) + 1)), lines[draw.integers(len(lines))])
    return files | {name: b"".join(lines)}


def swap_lines(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Let two lines of a file change places."""
    name = _some(files, draw, least=2)
    lines = _lines(files, name)
    one, two = draw.choice(len(lines), 2, replace=False)
    lines[one], lines[two] = lines[two], lines[one]
    return files | {name: b"".join(lines)}


def splice_line(files: Files, others: Files, draw: np.random.Generator) -> Files:
    """Put another log's line in the place of one."""
    name = _some(files, draw)
    lines, strange = _lines(files, name), _lines(others, _some(others, draw))
    lines[draw.integers(len(lines))] = strange[draw.integers(len(strange))]
    return files | {name: b"".join(lines)}


def splice_file(files: Files, others: Files, draw: np.random.Generator) -> Files:
    """Put another's file in the place of one."""
    return files | {(name := str(draw.choice(sorted(files)))): others[name]}


def swap_files(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Let two files change names."""
    one, two = map(str, draw.choice(sorted(files), 2, replace=False))
    return files | {one: files[two], two: files[one]}


def _rewritten(
    files: Files, draw: np.random.Generator, private: bytes, *, signs_head: bool
) -> Files:
    """Alter an event and chain and sign all that follow anew, by a key that is not the log's."""
    names = sorted(name for name in files if name != HEAD)
    where = [(name, row) for name in names for row in files[name].splitlines()]
    place = int(draw.integers(1, len(where)))
    before = parsed(where[place - 1][1])
    events: list[Event] = [parsed(row).event for _, row in where[place:]]
    events[0] = Refused(what="other", told="other", because=str(draw.integers(1 << 30)))
    fresh = list(written(events, before.author, NOON, (before.sequence, before.hash), private))
    rows = [row for _, row in where[:place]] + [line.data for line in fresh]
    after: Files = dict.fromkeys(names, b"")
    for (name, _), row in zip(where, rows, strict=True):
        after[name] += row + b"\n"
    head = Head.of(fresh[-1], private).to_bytes().hex().encode() if signs_head else files[HEAD]
    return after | {HEAD: head}


def other_key(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Write history anew under another key, its head too."""
    return _rewritten(files, draw, draw.bytes(32), signs_head=True)


def own_key(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Write history anew under the log's own key, whose head lies elsewhere."""
    return _rewritten(files, draw, _private(), signs_head=False)


LOG_EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (
        flip,
        cut,
        add,
        lose,
        drop_line,
        drop_end,
        repeat_line,
        swap_lines,
        splice_line,
        splice_file,
        swap_files,
        other_key,
        own_key,
    )
}


def _private(name: str = "ash") -> bytes:
    return SeededEntropy(0, name).stream("audit")(32)


def _log(folder: Path, name: str, owner: bytes) -> Files:
    """Return the files of an institution's log of eight rounds, rotated twice."""
    author = Author("institution", name)
    trail = FileTrail(folder / name, author, SeededEntropy(0, name).stream("audit"), lambda: NOON)
    trail.vouch(owner)
    for number in range(8):
        trail.append(*_round(number))
        if number in (2, 5):
            trail.rotate()
    return files_of(folder / name) | {HEAD: (folder / name / HEAD).read_bytes()}


def _round(number: int) -> list[Event]:
    place = {"run": "run", "round": number, "epoch": number + 1}
    return [
        Charged(
            **place,
            plan=HASH,
            part="train",
            unit="record",
            noise_multiplier=1.1,
            sample_rate=0.05,
            steps=5,
            delta=1e-5,
            epsilon=0.1 * number,
        ),
        Contributed(
            **place, plan=HASH, descriptor=HASH, model=HASH, mask=HASH, again=False, head=""
        ),
        Opened(**place, survivors=("ash", "birch", "cedar")),
    ]


@TARGETS.register("audit log")
def audit_log(seed: int) -> Target:
    """Return an institution's audit log, rotated, with another's."""
    owner = SeededEntropy(seed, "owner").stream("keys")(32)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        files = _log(folder, "ash", owner)
        others = _log(folder, "oak", owner)
    trusted = {verifying_key(owner).hex()}

    def found(files: Files) -> list[str]:
        logs = {name: data for name, data in files.items() if name != HEAD}
        try:
            text = files.get(HEAD)
            head = None if text is None else _head(text)
        except TrailError as error:
            return [str(error)]
        return list(examined(logs, head, trusted).findings)

    assert CURRENT in files  # noqa: S101 - what is rotated away leaves one that grows
    return Target(files, others, found, LOG_EDITS)


def _head(text: bytes) -> Head:
    """Read a head as it lies on a disk, by the code that reads it there."""
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / HEAD).write_bytes(text)
        head = read_head(Path(made))
    assert head is not None  # noqa: S101 - it was written just now
    return head


LEDGER = "ledger.sqlite"
_RELEASE = Release("train", 1.1, 0.05, 5, 1e-5)


def _with_database(files: Files, change: Callable[[sqlite3.Connection], None]) -> Files:
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / LEDGER
        path.write_bytes(files[LEDGER])
        # What the tables themselves refuse is no edit.
        database = sqlite3.connect(path, isolation_level=None)
        with closing(database), suppress(sqlite3.IntegrityError):
            change(database)
        return {LEDGER: path.read_bytes()}


def alter_cell(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Give one cell of one table another value."""
    table, column, number, old = _cell(files, draw)
    fresh: object = draw.bytes(16).hex()
    if isinstance(old, float):
        fresh = old * float(draw.uniform(0.1, 0.9)) + 0.01
    elif isinstance(old, int):
        fresh = old + int(draw.integers(1, 9))
    elif isinstance(old, bytes):
        fresh = draw.bytes(len(old) + 1)
    return _with_database(
        files,
        lambda database: database.execute(
            f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?',  # noqa: S608
            (fresh, number),
        ).close(),
    )


def drop_row(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Delete a row of one table."""
    table, _column, number, _old = _cell(files, draw)
    return _with_database(
        files,
        lambda database: database.execute(
            f"DELETE FROM {table} WHERE rowid = ?",  # noqa: S608
            (number,),
        ).close(),
    )


def drop_last(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Delete the last lines, as an old copy lacks them."""
    lines = int(draw.integers(1, 9))
    return _with_database(
        files,
        lambda database: database.execute(
            "DELETE FROM entries WHERE sequence > (SELECT MAX(sequence) FROM entries) - ?",
            (lines,),
        ).close(),
    )


def swap_rows(files: Files, _: Files, draw: np.random.Generator) -> Files:
    """Let two lines change places by their numbers."""
    one, two = (int(number) for number in draw.choice(np.arange(1, 20), 2, replace=False))

    def change(database: sqlite3.Connection) -> None:
        for before, after in ((one, -1), (two, one), (-1, two)):
            database.execute(
                "UPDATE entries SET sequence = ? WHERE sequence = ?", (after, before)
            ).close()

    return _with_database(files, change)


def other_ledger(files: Files, others: Files, draw: np.random.Generator) -> Files:
    """Put lines of another institution's ledger in the place of one's own."""
    number = int(draw.integers(1, 20))

    def rows(files: Files) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        _with_database(
            files,
            lambda database: found.extend(
                database.execute("SELECT * FROM entries WHERE sequence = ?", (number,))
            ),
        )
        return found

    (row,) = rows(others)
    marks = ", ".join("?" for _ in row)
    return _with_database(
        files,
        lambda database: database.execute(
            f"INSERT OR REPLACE INTO entries VALUES ({marks})",  # noqa: S608
            row,
        ).close(),
    )


LEDGER_EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (flip, cut, alter_cell, drop_row, drop_last, swap_rows, other_ledger)
}


def _cell(files: Files, draw: np.random.Generator) -> tuple[str, str, int, object]:
    """Draw a cell: its table, column, row and value."""
    found: list[tuple[str, str, int, object]] = []

    def look(database: sqlite3.Connection) -> None:
        table = str(draw.choice(["entries", "entries", "vectors", "rosters"]))
        rows = database.execute(f"SELECT rowid, * FROM {table}").fetchall()  # noqa: S608
        names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        number, *cells = rows[draw.integers(len(rows))]
        place = int(draw.integers(len(cells)))
        found.append((table, names[place], int(number), cells[place]))

    _with_database(files, look)
    return found[0]


def _dump(files: Files) -> object:
    """Return all that a ledger's tables hold, or its bytes where they cannot be read."""
    found: list[object] = []

    def read(database: sqlite3.Connection) -> None:
        for table in ("entries", "vectors", "rosters"):
            found.append(database.execute(f"SELECT * FROM {table}").fetchall())  # noqa: S608

    try:
        _with_database(files, read)
    except (sqlite3.Error, UnicodeDecodeError):
        return files[LEDGER]
    return found


def _ledger_file(folder: Path, run: str) -> Files:
    path = folder / f"{run}.sqlite"
    ledger = Ledger(SqliteStore(path), "loans")
    budget = Budget("by cells", (Release("train", 1.1, 0.05, 40, 1e-5),))
    ledger.revoke(Place(run, HASH, 0, 0), Shrunk(HASH, b"roster"), NOON)
    for number in range(8):
        place = Place(run, HASH, number, number + 1)
        ledger.mark("epoch", place, NOON, HASH)
        ledger.charge(place, (_RELEASE,), budget, NOON + number)
        ledger.store(place, "binding", b"mask", b"vector", NOON + number)
        ledger.mark("opened", place, NOON, HASH)
    return {LEDGER: path.read_bytes()}


@TARGETS.register("ledger")
def ledger(seed: int) -> Target:
    """Return an institution's privacy ledger, whose length its last advert says."""
    with tempfile.TemporaryDirectory() as made:
        files, others = (_ledger_file(Path(made), f"run-{seed}-{one}") for one in ("a", "b"))
        (Path(made) / LEDGER).write_bytes(files[LEDGER])
        advertised = Ledger(SqliteStore(Path(made) / LEDGER), "loans").sequence

    def found(files: Files) -> list[str]:
        with tempfile.TemporaryDirectory() as made:
            path = Path(made) / LEDGER
            path.write_bytes(files[LEDGER])
            try:
                opened = Ledger(SqliteStore(path), "loans")
                opened.verify()
                opened.require_current(advertised)
            except FedpruneError as error:
                return [f"{type(error).__name__}: {error}"]
        return []

    return Target(files, others, found, LEDGER_EDITS, _dump)
