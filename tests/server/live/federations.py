"""A server's directory as a run of many rounds leaves it: plan, tables, journal, audit log."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from math import exp
from pathlib import Path

from common.crypto.keys import KEY_SIZE
from common.plan import Plan, plan_from_dict
from common.trail.events import Arrived, Asked, Began, Event, RoundOver, RunBegan, WasRefused
from common.trail.file import FOLDER
from common.trail.lines import GENESIS, Author, written
from server.journal import JOURNAL, line_of
from server.live.watch import PLAN, ROUNDS
from tests.support import FIELDS

RUN, HASH, PRIVATE = "ab" * 16, "c" * 64, bytes(range(KEY_SIZE))
COLUMNS = (
    *("round", "epoch", "survivors", "weights_kept", "sparsity", "auc_validation", "auc_test"),
    *("bytes_up", "bytes_down", "seconds", "auc_validation_sd"),
)
NOON = 1_800_000_000


def plan_of(names: Sequence[str], rounds: int) -> Plan:
    """Return a plan of these institutions."""
    institutions = [{"name": name, "size": 200} for name in names]
    training = FIELDS["training"] | {"rounds": rounds}
    return plan_from_dict(FIELDS | {"institutions": institutions, "training": training})


@dataclass
class Federation:
    """Writes what a server of these institutions writes, a round at a time."""

    home: Path
    names: Sequence[str]
    rounds: int = 300
    name: str = "spring"
    done: int = 0
    after: tuple[int, str] = (0, GENESIS)
    table: StringIO = field(default_factory=StringIO)

    def __post_init__(self) -> None:
        self.folder = self.home / "runs" / self.name
        self.folder.mkdir(parents=True)
        (self.home / FOLDER).mkdir(exist_ok=True)
        self.plan = plan_of(self.names, self.rounds)
        (self.folder / PLAN).write_text(self.plan.to_toml())
        csv.writer(self.table).writerow(COLUMNS)
        self.audit(Began(key=HASH), RunBegan(run=RUN, plan=HASH, roster=HASH, round=0))
        self.audit(*(Arrived(run=RUN, institution=n, plan=HASH, head="") for n in self.names))
        self.note("began", plan=HASH)

    def audit(self, *events: Event) -> None:
        """Write lines of the audit log."""
        author = Author("server", "consortium")
        lines = list(written(events, author, NOON + self.done, self.after, PRIVATE))
        self.after = lines[-1].sequence, lines[-1].hash
        with (self.home / FOLDER / "log.jsonl").open("ab") as file:
            file.writelines(line.data + b"\n" for line in lines)

    def note(self, event: str, **facts: object) -> None:
        """Write a line of the journal."""
        with (self.folder / JOURNAL).open("ab") as file:
            file.write(line_of({"event": event, "run": RUN, **facts}))

    def ask(self) -> None:
        """Begin a round."""
        self.note("tried", round=self.done, epoch=self.done + 1)
        hashes = {"plan": HASH, "roster": HASH, "descriptor": HASH, "model": HASH, "mask": HASH}
        facts = {"run": RUN, "round": self.done, "epoch": self.done + 1}
        self.audit(Asked.model_validate({**facts, **hashes, "cohort": tuple(self.names)}))

    def refuse(self, name: str, told: str = "budget") -> None:
        """Have an institution refuse."""
        self.audit(WasRefused(institution=name, what="train.update", told=told))

    def end(self, without: Sequence[str] = ()) -> None:
        """End a round whose sum has all but these."""
        number, survivors = self.done, [name for name in self.names if name not in without]
        self.note("opening", round=number, epoch=number + 1)
        over = RoundOver(
            run=RUN,
            round=number,
            epoch=number + 1,
            survivors=tuple(survivors),
            model=HASH,
            mask=HASH,
            kept=100,
            bytes_up=5000,
            bytes_down=7000,
            heads={},
        )
        self.audit(over)
        self.note("kept", round=number, epoch=number + 1, survivors=survivors)
        share = number / self.rounds
        auc = 0.76 - 0.2 * exp(-6 * share) + 0.004 * (-1) ** number
        evaluated = number % max(1, self.rounds // 12) == 0
        csv.writer(self.table).writerow(
            (
                *(number, number + 1, len(survivors), 100, round(0.9 * share**0.4, 6)),
                *((round(auc, 6) if evaluated else ""), "", int(52_000 * (1 - 0.85 * share))),
                *(61_000, 0.81 + share / 10, 0.011 if evaluated else ""),
            )
        )
        # As the server does: the table is replaced with each round.
        partial = self.folder / "rounds.csv.partial"
        partial.write_text(self.table.getvalue(), newline="")
        partial.replace(self.folder / ROUNDS)
        self.done += 1

    def go(self, rounds: int, without: Sequence[str] = ()) -> None:
        """Ask for and end so many rounds."""
        for _ in range(rounds):
            self.ask()
            self.end(without)


def simulated(home: Path, name: str = "sim-seed0", rounds: int = 6) -> Path:
    """Write a finished simulation's directory, which has no journal and no log."""
    source = Federation(home / f"of-{name}", ["ash", "birch", "cedar", "elm"], rounds, name)
    source.go(rounds)
    folder = home / "runs" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    source.folder.rename(folder)
    (folder / JOURNAL).unlink()
    (folder / ".lock").touch()
    summary = {"auc": 0.7712, "auc_dense": 0.7734, "interrupted": False}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def banks(number: int) -> Iterator[str]:
    """Yield names of institutions."""
    yield from (f"bank-{place:02}" for place in range(number))
