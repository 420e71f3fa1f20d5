"""What a run puts into the server's audit log, from its beginning to its end."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, final

from common.errors import FedpruneError
from common.export import forms
from common.trail.events import ModelWritten, RoundOver, RunBegan, RunEnded
from common.trail.interface import TEXT, Trail
from server.aggregation import Step
from server.model import GlobalModel
from server.record import Record, Start
from server.rounds import RoundReport

log = logging.getLogger("fedprune.server")


@final
class ToldRecord:
    """A record whose run the audit log tells of."""

    def __init__(self, record: Record, trail: Trail, plan: str, roster: str) -> None:
        """Wrap a record; ``plan`` and ``roster`` are the hashes that the run is of."""
        self._record, self._trail = record, trail
        self._plan, self._roster = plan, roster
        self._run = ""

    def begin(self, fresh: Callable[[], Start]) -> Start:
        """Note that the run begins or goes on, before anybody is asked for anything."""
        run, model = self._record.begin(fresh)
        began = RunBegan(run=run, plan=self._plan, roster=self._roster, round=model.round)
        self._trail.append(began)
        self._run = run
        return run, model

    def note(self, step: Step, model: GlobalModel) -> None:
        """Note a step of an attempt before it is taken."""
        self._record.note(step, model)

    def close(self) -> None:
        """Let another process go on with the run."""
        self._record.close()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Note how the run ended, if it began; that changes nothing of how it did."""
        outcome: Literal["finished", "stopped", "failed"] = "stopped"
        said = ""
        try:
            yield
            outcome = "finished"
        except FedpruneError as error:
            outcome, said = "failed", str(error)[:TEXT]
            raise
        except Exception as error:
            outcome, said = "failed", type(error).__name__
            raise
        finally:
            if self._run:
                self._ended(RunEnded(run=self._run, outcome=outcome, error=said))

    def _ended(self, event: RunEnded) -> None:
        try:
            self._trail.append(event)
        except FedpruneError as error:
            log.error("the end of the run was not noted: %s", error)


def round_over(
    run: str, model: GlobalModel, report: RoundReport, heads: Mapping[str, str]
) -> RoundOver:
    """Return what is noted of a round before its model is kept."""
    return RoundOver(
        run=run,
        round=report.round,
        epoch=report.epoch,
        survivors=report.survivors,
        **hashes_of(model),
        kept=model.kept,
        bytes_up=report.bytes_up,
        bytes_down=report.bytes_down,
        heads={name: head for name, head in heads.items() if name in report.survivors},
    )


def model_written(run: str, model: GlobalModel) -> ModelWritten:
    """Return what is noted of the last model before it is written for release."""
    return ModelWritten(run=run, round=model.round, **hashes_of(model))


def hashes_of(model: GlobalModel) -> dict[str, str]:
    """Name a model as the next round's descriptor would."""
    return forms.hashes_of(model.weights, model.mask)
