"""What a run writes down so that it goes on after its process died, whenever that was.

Two files, both on disk before anything relies on them. The checkpoint holds the whole state after
the last finished round and is replaced at once. The journal only grows:

    began     the run's id, plan and roster; its first weights are in the checkpoint
    tried     an attempt at a round is about to ask for anything, in this epoch
    opening   institutions are about to be asked to open this round's sum
    kept      a round is over: survivors, weights kept, hash of the model's file, rows of the tables
    finished  the last round is over, and the model lies there in each form

A checkpoint carries its own line of the journal and is written first, so a death between the two
loses nothing. ``rounds.csv`` and the model's file follow from both and come last. A round whose
``opening`` stands beyond the checkpoint is lost: institutions that answered would refuse to open
it again, since two sums that differ by one of them show it.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, final

from common.crypto.roster import Roster
from common.durable import write_atomically, writing
from common.errors import ConfigError, ProtocolError
from common.plan import Plan
from common.trail.interface import Trail, Untold
from common.trail.lines import hash_of
from server.aggregation import Step
from server.checkpoint import Checkpoint
from server.journal import AUDIT, JOURNAL, Event, Journal, line_of
from server.model import GlobalModel
from server.model_file.page import write_model_file
from server.report.page import write_report
from server.rounds import RoundReport, lose_round
from server.store import RunStore, model_bytes, rows_of, tables_of
from server.tables import MODEL

log = logging.getLogger("fedprune.server")

CHECKPOINT = "checkpoint.safetensors"

Start = tuple[str, GlobalModel]
"""A run's id, and the model that it goes on with."""


class Record(Protocol):
    """What remembers a run beyond its process."""

    def begin(self, fresh: Callable[[], Start]) -> Start:
        """Return where the run stands, or begin it with what ``fresh`` draws."""
        ...

    def note(self, step: Step, model: GlobalModel) -> None:
        """Note a step of an attempt before it is taken."""
        ...

    def close(self) -> None:
        """Let another process go on with the run."""
        ...


@final
class Unrecorded:
    """Remembers nothing: what simulations have."""

    def begin(self, fresh: Callable[[], Start]) -> Start:
        """Return what ``fresh`` draws."""
        return fresh()

    def note(self, step: Step, model: GlobalModel) -> None:
        """Note nothing."""

    def close(self) -> None:
        """Hold nothing."""


@final
class RunRecord:
    """The record of one run in its directory, which no other process writes to meanwhile."""

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        roster: Roster | None = None,
        trail: Trail | None = None,
    ) -> None:
        """Open what the directory holds: an unfinished run of this plan, or none yet.

        Its journal notes the last line of the audit log ``trail``, so that who cuts one must cut
        the other.

        Raises:
            ConfigError: it holds a finished run, one of another plan or roster or what does not
                fit together, or another process runs there.
            DiskError: nothing can be written there.
        """
        self._directory, self._plan, self._roster = directory, plan, roster
        self._trail = trail or Untold()
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(directory / JOURNAL)
        try:
            self._saved = self._read()
            self._events = self._recovered()
            kept = [event["rows"] for event in self._events if event["event"] == "kept"]
            # An earlier release kept fewer tables.
            rows = {
                name: [row for one in kept for row in one.get(name, ())] for name in tables_of(plan)
            }
            self._store = RunStore(directory, plan, rows)
            if self._saved is not None and kept:
                write_atomically(directory / MODEL, model_bytes(self._saved.model, plan))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process go on with the run."""
        self._journal.close()

    def begin(self, fresh: Callable[[], Start]) -> Start:
        """Return id and model to go on with, beyond any epoch that this run may have used.

        What ``fresh`` draws for a run that has not begun is kept before anybody hears of it.
        """
        if self._saved is None:
            self._run, model = fresh()
            roster = "" if self._roster is None else self._roster.digest
            self._save(model, self._line("began", plan=self._plan.digest(), roster=roster))
            return self._run, model
        self._run, model = self._saved.run, self._saved.model
        since = self._events[_last(self._events, "began", "kept") + 1 :]
        used = [event["epoch"] for event in since if event["event"] == "tried"]
        if opened := [event["epoch"] for event in since if event["event"] == "opening"]:
            model, report = lose_round(model, opened[-1])
            checkpoint = self._directory / CHECKPOINT
            got_further = checkpoint.stat().st_mtime_ns
            self.keep(model, report)
            # By its time resumptions are counted; a round that was lost is no progress.
            os.utime(checkpoint, ns=(got_further, got_further))
        # Keys of the epoch after an attempt's may have come with its vectors.
        return self._run, replace(model, epoch=max([model.epoch, *used]) + 1)

    def note(self, step: Step, model: GlobalModel) -> None:
        """Note a step of an attempt before it is taken."""
        self._journal.append(self._line(step, round=model.round, epoch=model.epoch))

    def keep(self, model: GlobalModel, report: RoundReport) -> None:
        """Make a finished round outlast the process."""
        rows, tensors = rows_of(report, self._plan), model_bytes(model, self._plan)
        line = self._line(
            "kept",
            round=report.round,
            epoch=report.epoch,
            survivors=list(report.survivors),
            kept=report.kept,
            model=hashlib.sha256(tensors).hexdigest(),
            rows=rows,
        )
        self._save(model, line)
        self._store.add(rows, tensors)

    def finish(self, model: GlobalModel) -> None:
        """Write the model in each form and the report; the run is over if no round is left."""
        self._store.finish(model)
        if model.round > self._plan.training.rounds:
            self._journal.append(self._line("finished", round=model.round))
        for what, write in (("report", write_report), ("model file", write_model_file)):
            try:
                write(self._directory)
            except Exception:
                # A picture that fails must not take back a run of weeks; its command says more.
                log.exception("%s: the %s could not be written", self._directory, what)

    def _save(self, model: GlobalModel, line: bytes) -> None:
        checkpoint = Checkpoint(
            run=self._run,
            plan=self._plan.digest(),
            roster=b"" if self._roster is None else self._roster.to_bytes(),
            model=model,
            line=line,
            size=self._journal.size,
            journal=self._journal.digest(),
        )
        write_atomically(self._directory / CHECKPOINT, checkpoint.to_bytes())
        self._journal.append(line)

    def _line(self, event: str, **facts: object) -> bytes:
        noted = {AUDIT: digest} if (digest := hash_of(self._trail.head)) else {}
        return line_of({"event": event, "run": self._run, **facts, **noted})

    def _read(self) -> Checkpoint | None:
        path, plan = self._directory / CHECKPOINT, self._plan.digest()
        if not path.exists():
            return None
        try:
            saved = Checkpoint.from_bytes(path.read_bytes())
            if saved.plan != plan:
                raise ConfigError(
                    f"holds a run of plan {saved.plan}, not {plan}: go on with that plan, or name"
                    " another directory"
                )
            if self._roster is not None:
                Roster.from_bytes(saved.roster).require_shrinks_to(self._roster)
        except (OSError, ConfigError, ProtocolError) as error:
            raise ConfigError(f"{path}: {error}") from error
        return saved

    def _recovered(self) -> list[Event]:
        where, saved = self._directory, self._saved
        if saved is None:
            # A journal without its checkpoint is the rest of some run, as a model is.
            if self._journal.size or (where / MODEL).exists():
                raise _taken(where)
            return []
        events = self._journal.recover(saved.size, saved.journal, saved.line)
        if saved.line != line_of(events[_last(events, "began", "kept")]):
            raise ConfigError(
                f"{where / CHECKPOINT}: is older than the journal beside it: restore both from the"
                " same backup"
            )
        if events[-1]["event"] == "finished":
            raise _taken(where)
        return events


def is_finished(directory: Path) -> bool:
    """Say whether the last round of the run in ``directory`` is over, and its model written."""
    path = directory / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if not lines or not lines[-1].endswith(b"\n"):
        return False
    return bool(json.loads(lines[-1])["event"] == "finished")


def _taken(where: Path) -> ConfigError:
    return ConfigError(f"{where}: holds the results of another run: name another directory")


def _last(events: list[Event], *kinds: str) -> int:
    """Return the place of the last event of these kinds."""
    return max(place for place, event in enumerate(events) if event["event"] in kinds)
