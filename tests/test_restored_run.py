"""A server restored from a backup of a live run goes on where nobody has gone further, or stops."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from flwr.app import Context, RecordDict

from client.app import build_app as build_client
from client.stages import Institution
from common.backup import restore, save
from common.entropy import SeededEntropy
from common.errors import AggregationError
from server.aggregation import Step
from server.app import Task
from server.app import build_app as build_server
from server.backup import archived
from server.model import GlobalModel
from server.record import RunRecord
from server.rounds import RoundReport
from server.store import stored_adverts
from server.tables import MODEL
from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from tests.support import count_training, roster_of, small_institution, small_plan

PLAN = small_plan(training={"rounds": 4, "steps": 1}, aggregation={"timeout": 1.0, "attempts": 2})
SAVED = 1
"""The round after which the backup is made."""

Death = Literal["after the backup", "before the next opening", "in the next opening", "a round on"]


class DiedError(Exception):
    """The server's machine is gone."""


@dataclass
class Federation:
    """Institutions that outlast the server, and the folders of its machines."""

    folder: Path
    members: dict[int, Institution] = field(
        default_factory=lambda: {
            node: small_institution(PLAN, name)
            for node, name in enumerate(PLAN.names, start=SERVER_NODE + 1)
        }
    )

    def run(self, machine: str, death: Death | None = None) -> list[tuple[int, tuple[str, ...]]]:
        """Run the plan, or go on with it; return rounds and survivors."""
        home, kept = self.folder / machine, list[tuple[int, tuple[str, ...]]]()
        out, roster = home / "runs" / "first", roster_of(PLAN)
        out.mkdir(parents=True, exist_ok=True)
        (home / "server.toml").touch()
        record = RunRecord(out, PLAN, roster)
        note = record.note

        def noting(step: Step, model: GlobalModel) -> None:
            note(step, model)
            if death == "before the next opening" and (step, model.round) == ("opening", SAVED + 1):
                raise DiedError

        def keep(model: GlobalModel, report: RoundReport) -> None:
            if death == "in the next opening" and report.round == SAVED + 1:
                raise DiedError
            record.keep(model, report)
            kept.append((report.round, report.survivors))
            if report.round == SAVED and death is not None:
                backup = archived(home, 0)
                save(self.folder / "backup", backup, SeededEntropy(0).stream("salt"), lambda: "")
                if death == "after the backup":
                    raise DiedError
            if death == "a round on" and report.round == SAVED + 1:
                raise DiedError

        record.note = noting  # type: ignore[method-assign]
        adverts = stored_adverts(home / "state", PLAN.digest())
        task = Task(PLAN, keep, roster, adverts, record.finish, record)
        app = build_client(lambda context: self.members[context.node_id])
        build_server(lambda _: task, SeededEntropy(0))(
            InProcessGrid(app, self.members), Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {})
        )
        return kept

    def model(self, machine: str) -> bytes:
        return (self.folder / machine / "runs" / "first" / MODEL).read_bytes()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("server.store.latencies", lambda *_: {})
    monkeypatch.setattr("server.exchange.LONGEST_PAUSE", 0.01)
    caplog.set_level(logging.WARNING)


@pytest.fixture
def lose(tmp_path: Path) -> Callable[[Death], Federation]:
    """Return a federation whose server died so, and was restored on another machine."""

    def lost(death: Death) -> Federation:
        federation = Federation(tmp_path)
        with pytest.raises(DiedError):
            federation.run("first", death)
        restore(tmp_path / "backup", tmp_path / "second", "server")
        return federation

    return lost


@pytest.mark.parametrize("death", ["after the backup", "before the next opening"])
def test_a_restored_run_ends_as_one_that_nothing_befell(
    death: Death,
    lose: Callable[[Death], Federation],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = count_training(monkeypatch)
    federation = lose(death)
    later = [(number, PLAN.names) for number in range(SAVED + 1, PLAN.training.rounds + 1)]
    assert federation.run("second") == later
    # What was sent before the death was sent again, not computed again.
    assert len(trained) == len(PLAN.names) * PLAN.training.rounds
    undisturbed = Federation(tmp_path / "undisturbed")
    undisturbed.run("first")
    assert federation.model("second") == undisturbed.model("first")


@pytest.mark.parametrize("death", ["in the next opening", "a round on"])
def test_a_run_that_went_further_is_not_gone_on_with(
    death: Death, lose: Callable[[Death], Federation], caplog: pytest.LogCaptureFixture
) -> None:
    federation = lose(death)
    charged = [member.ledger.sequence for member in federation.members.values()]
    names = ", ".join(PLAN.names)
    with pytest.raises(AggregationError) as caught:
        federation.run("second")
    assert str(caught.value) == (
        f"round {SAVED + 1} is over at {names}: the run went further than this record of it, which"
        " is from a backup; begin a new run"
    )
    assert "refused: round was opened" in caplog.text
    # Nobody spent anything on it.
    assert [member.ledger.sequence for member in federation.members.values()] == charged


def test_the_machine_that_was_not_lost_goes_on(lose: Callable[[Death], Federation]) -> None:
    """The negative control: it is the backup that is behind, not the institutions."""
    federation = lose("a round on")
    (last, *_), *_, (final, survivors) = federation.run("first")
    assert (last, final, survivors) == (SAVED + 2, PLAN.training.rounds, PLAN.names)
