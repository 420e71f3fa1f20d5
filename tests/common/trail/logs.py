"""Logs to tamper with: a server's and its institutions', as the writer writes them."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.crypto.keys import verifying_key
from common.entropy import SeededEntropy
from common.trail.events import (
    Arrived,
    Asked,
    Contributed,
    Event,
    Joined,
    Opened,
    RoundOver,
    RunBegan,
    RunEnded,
)
from common.trail.file import FOLDER, FileTrail
from common.trail.lines import Author
from tests.commands import ROOT

HASH = "5a" * 32
NOON = 1_700_000_000
RUN = "run"


def trail_at(
    home: Path, name: str = "ash", role: str = "institution", rotate_bytes: int = 1 << 20
) -> FileTrail:
    """Return a log whose clock goes on by a second a call and whose key is seeded by its name."""
    clock = itertools.count(NOON)
    assert role in ("server", "institution")
    author = Author("server" if role == "server" else "institution", name)
    stream = SeededEntropy(0, name).stream("audit")
    return FileTrail(home / FOLDER, author, stream, lambda: next(clock), rotate_bytes)


def owner_of(name: str) -> bytes:
    """Return the long-lived private key of a log's owner."""
    return SeededEntropy(1, name).stream("owner")(32)


def trusted_of(name: str) -> set[str]:
    return {verifying_key(owner_of(name)).hex()}


def digest(what: str, number: int) -> str:
    """Return something like a hash."""
    return f"{what}{number:04}".encode().hex().ljust(64, "0")[:64]


def said(number: int) -> Event:
    """Return an event that differs from number to number."""
    return Opened(run=RUN, round=number, epoch=number, survivors=("ash", "birch"))


def append_many(home: str, first: int, many: int) -> None:
    """Append events in a process of its own; print the number of each once it is written."""
    trail = trail_at(Path(home))
    for number in range(first, first + many):
        trail.append(said(number))
        print(number, flush=True)


def appending(home: Path, first: int, many: int) -> "subprocess.Popen[str]":
    code = (
        f"from tests.common.trail.logs import append_many; append_many(*{(str(home), first, many)})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@dataclass(frozen=True)
class Logs:
    """The logs of one honest run."""

    server: FileTrail
    members: dict[str, FileTrail]

    def all(self) -> Iterator[FileTrail]:
        yield self.server
        yield from self.members.values()


def honest_run(
    folder: Path, names: tuple[str, ...] = ("ash", "birch"), rounds: int = 3, rotate: bool = False
) -> Logs:
    """Write the logs of a run in which everything went well."""
    server = trail_at(folder / "server", "federation", "server")
    members = {name: trail_at(folder / name, name) for name in names}
    logs = Logs(server, members)
    server.vouch(owner_of("federation"))
    for name, member in members.items():
        member.vouch(owner_of(name))
    server.append(RunBegan(run=RUN, plan=HASH, roster=HASH, round=0))
    for name, member in members.items():
        member.append(Joined(run=RUN, plan=HASH, head=server.head.hex()))
        server.append(Arrived(run=RUN, institution=name, plan=HASH, head=member.head.hex()))
    for number in range(rounds):
        play_round(logs, number)
        if rotate:
            for trail in logs.all():
                trail.rotate()
    server.append(RunEnded(run=RUN, outcome="finished", error=""))
    return logs


def play_round(logs: Logs, number: int) -> None:
    """Add an honest round to all logs."""
    place = {"run": RUN, "round": number, "epoch": number + 1}
    about = {
        "plan": HASH,
        "descriptor": digest("descriptor", number),
        "model": digest("model", number),
        "mask": digest("mask", number),
    }
    names = tuple(logs.members)
    logs.server.append(Asked.model_validate(place | about | {"roster": HASH, "cohort": names}))
    for member in logs.members.values():
        gave = about | {"again": False, "head": logs.server.head.hex()}
        member.append(Contributed.model_validate(place | gave))
        member.append(Opened.model_validate(place | {"survivors": names}))
    over = {
        "survivors": names,
        "model": digest("model", number + 1),
        "mask": digest("mask", number + 1),
        "kept": 10,
        "bytes_up": 100,
        "bytes_down": 200,
        "heads": {name: member.head.hex() for name, member in logs.members.items()},
    }
    logs.server.append(RoundOver.model_validate(place | over))
