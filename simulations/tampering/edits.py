"""Ways to tamper with files, whatever they hold: an artefact's files in, those after it out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from common.registry import Registry

Files = dict[str, bytes]
Edit = Callable[[Files, Files, np.random.Generator], Files]
"""From an artefact's files, another's, and chance to the files after the edit."""


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


TARGETS: Registry[Callable[[int], Target]] = Registry("target")
"""What is tampered with, each made from a seed."""


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
