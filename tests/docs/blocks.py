"""What a page of docs/ has people type: its console blocks, and the files it has them write."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.commands import ROOT

DOCS = ROOT / "docs"
PARSED = "*Not run by the tests, only checked"
"""Begins the line above a block whose commands need what the tests do not have, and says what."""

_BLOCK = re.compile(
    r"(?:^<!-- step (?P<step>\d+)(?P<each>, each bank)? -->\n)?"
    r"(?:^(?P<before>\S[^\n]*)\n\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"(?P<how>Write|Add to) `(?P<path>[\w./-]+)`:$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    ``step`` is its place in a story that several pages tell; ``each`` repeats it for each bank.
    ``file`` is what it is written or added to, for a block that is no command.
    """

    page: str
    language: str
    text: str
    step: int | None
    each: bool
    parsed: bool
    file: tuple[str, str] | None

    @property
    def commands(self) -> list[list[str]]:
        """Return the words of each command, without comments."""
        if self.language != ("" if self.page == "README.md" else "console"):
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        typed = [words for line in lines if (words := shlex.split(line, comments=True))]
        return [[Path(program).name, *rest] for program, *rest in typed]


def blocks_of(path: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = []
    for match in _BLOCK.finditer(path.read_text()):
        before = match["before"] or ""
        file = _FILE.search(before)
        step = match["step"]
        found.append(
            Block(
                path.name,
                match["language"],
                match["text"],
                int(step) if step else None,
                bool(match["each"]),
                before.startswith(PARSED),
                (file["how"], file["path"]) if file else None,
            )
        )
    return found


def pages() -> list[Path]:
    """Return the pages that people wrote and the tests therefore read."""
    written = [path for path in sorted(DOCS.rglob("*.md")) if not made(path)]
    return [*written, ROOT / "README.md"]


def made(path: Path) -> bool:
    """Tell a page that is made from the code."""
    return path.parent.name == "reference" or path.name == "commands.md"
