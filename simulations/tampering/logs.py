"""Tampering with an institution's audit log."""

import tempfile
from pathlib import Path

import numpy as np

from common.crypto.keys import verifying_key
from common.entropy import SeededEntropy
from common.trail.events import Charged, Contributed, Event, Opened, Refused
from common.trail.examination import examined
from common.trail.file import HEAD, FileTrail, files_of, read_head
from common.trail.lines import Author, Head, parsed, written
from common.trail.refusals import TrailError
from simulations.tampering import edits
from simulations.tampering.edits import TARGETS, Edit, Files, Target

NOON = 1_700_000_000
HASH = "5a" * 32


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
        edits.flip,
        edits.cut,
        edits.add,
        edits.lose,
        edits.drop_line,
        edits.drop_end,
        edits.repeat_line,
        edits.swap_lines,
        edits.splice_line,
        edits.splice_file,
        edits.swap_files,
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
    mechanism = {"noise_multiplier": 1.1, "sample_rate": 0.05, "steps": 5, "delta": 1e-5}
    charged = {"plan": HASH, "part": "train", "unit": "record", "epsilon": 0.1 * number}
    about = dict.fromkeys(("plan", "descriptor", "model", "mask"), HASH)
    return [
        Charged.model_validate(place | charged | mechanism),
        Contributed.model_validate(place | about | {"again": False, "head": ""}),
        Opened.model_validate(place | {"survivors": ("ash", "birch", "cedar")}),
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

    return Target(files, others, found, LOG_EDITS)


def _head(text: bytes) -> Head:
    """Read a head as it lies on a disk, by the code that reads it there."""
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / HEAD).write_bytes(text)
        head = read_head(Path(made))
    assert head is not None  # noqa: S101 - it was written just now
    return head
