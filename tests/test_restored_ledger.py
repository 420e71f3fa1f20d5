"""A ledger restored from a backup meets its own last signature, and the institution stops."""

import logging
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from client.app import build_app as build_client
from client.ledger import Ledger, memory_ledger
from client.ledger_file import SqliteStore
from client.refusals import LedgerBehindError
from common.crypto.session import LastAdvert
from common.entropy import SystemEntropy
from common.errors import AggregationError
from common.plan import Plan
from server import exchange as module
from server.app import Task
from server.app import build_app as build_server
from server.rounds import RoundReport
from server.store import stored_adverts
from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from tests.support import roster_of, small_institution, small_plan

TRAINING = {"rounds": 2, "steps": 1, "sample_rate": 0.2}
PLAN = small_plan(training=TRAINING, aggregation={"timeout": 0.3})
OTHER = small_plan(name="another", training=TRAINING, aggregation={"timeout": 0.3})
REFUSED = f"refused: {LedgerBehindError.reason}"

Between = Callable[[int], None]
"""What happens to the machine of the institution once a round is done."""


def nothing(finished: int) -> None:
    """Leave the machine alone."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(module, "JOIN_SECONDS", 0.01)
    caplog.set_level(logging.WARNING)


@dataclass
class Machine:
    """A folder with the ledger of ash, a copy of it, and the server's own directory."""

    folder: Path
    others: dict[str, Ledger] = field(default_factory=lambda: defaultdict(memory_ledger))

    @property
    def ledger(self) -> Path:
        return self.folder / "ash.sqlite"

    def backup(self) -> None:
        shutil.copy(self.ledger, self.folder / "backup")

    def restore(self) -> None:
        assert self.ledger.read_bytes() != (self.folder / "backup").read_bytes()
        shutil.copy(self.folder / "backup", self.ledger)

    def run(self, plan: Plan = PLAN, between: Between = nothing) -> list[tuple[str, ...]]:
        """Run a plan from its join to its end; return the survivors of each round."""
        own = Ledger(SqliteStore(self.ledger), "loans")
        members = {
            node: replace(
                small_institution(plan, name, SystemEntropy()),
                ledger=own if name == "ash" else self.others[name],
            )
            for node, name in enumerate(plan.names, start=SERVER_NODE + 1)
        }
        survivors: list[tuple[str, ...]] = []

        def keep(_: object, report: RoundReport) -> None:
            survivors.append(report.survivors)
            between(len(survivors))

        adverts = stored_adverts(self.folder / "state", plan.digest())
        build_server(lambda _: Task(plan, keep, roster_of(plan), adverts), SystemEntropy())(
            InProcessGrid(build_client(lambda context: members[context.node_id]), members),
            Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {}),
        )
        return survivors


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def after(round_number: int, happens: Callable[[], None]) -> Between:
    return lambda finished: happens() if finished == round_number else None


def test_runs_follow_each_other_on_a_ledger_that_is_whole(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    for plan in (PLAN, OTHER):
        assert machine.run(plan) == [plan.names] * 3
    # A copy that lost nothing is the ledger.
    machine.backup()
    machine.ledger.unlink()
    shutil.copy(machine.folder / "backup", machine.ledger)
    assert machine.run(PLAN.model_copy()) == [PLAN.names] * 3
    assert "refused" not in caplog.text


@pytest.mark.parametrize("plan", [PLAN, OTHER], ids=["the same plan", "another plan"])
def test_a_restored_ledger_does_not_join_the_next_run(
    machine: Machine, plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    machine.run(between=after(1, machine.backup))
    machine.restore()
    assert "refused" not in caplog.text
    with pytest.raises(AggregationError, match=r"^ash did not join"):
        machine.run(plan)
    assert REFUSED in caplog.text


def test_a_ledger_restored_during_a_run_gives_no_further_vector(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    def restored() -> None:
        machine.restore()
        assert "refused" not in caplog.text

    def between(finished: int) -> None:
        {1: machine.backup, 2: restored}.get(finished, lambda: None)()

    plan = small_plan(training=TRAINING | {"rounds": 3}, aggregation={"timeout": 0.3})
    survivors = machine.run(plan, between)
    # Neither in that round nor, asked to advertise anew, in the next.
    assert [("ash" in names) for names in survivors] == [True, True, False, False]
    assert caplog.text.count(f"ash {REFUSED}") == caplog.text.count("ash refused") == 2


def test_a_server_that_kept_no_adverts_cannot_tell(machine: Machine) -> None:
    """The negative control: it is the advert that stops the institution, and nothing else."""
    machine.run(between=after(1, machine.backup))
    machine.restore()
    shutil.rmtree(machine.folder / "state")
    assert machine.run(OTHER) == [OTHER.names] * 3


@pytest.mark.parametrize("change", ["tampered", "foreign"])
def test_an_advert_that_ash_did_not_sign_keeps_it_from_joining(
    machine: Machine, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    machine.run()
    (path,) = (machine.folder / "state").iterdir()
    roster = roster_of(PLAN)
    ash, birch = (roster.member(name).signing_public.hex() for name in ("ash", "birch"))
    known = stored_adverts(path.parent, PLAN.digest()).of(roster)
    wrong = LastAdvert.from_bytes(known["birch"])
    if change == "tampered":
        own = LastAdvert.from_bytes(known["ash"])
        wrong = replace(own, advert=own.advert.model_copy(update={"sequence": 0}))
    text = path.read_text()
    assert ash in text
    assert birch in text
    path.write_text(text.replace(known["ash"].hex(), wrong.to_bytes().hex()))
    with pytest.raises(AggregationError, match=r"^ash did not join"):
        machine.run()
    assert "refused: bad-signature" in caplog.text
