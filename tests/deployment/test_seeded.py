"""One plan on the real engine and in one process: from one seed, one model, bit for bit."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from client.config import load_institution
from client.keys import read_identity
from client.ledger import Ledger
from client.stages import Institution, Membership
from common.crypto.roster import Roster
from common.entropy import SeededEntropy
from server.app import Task, build_app
from server.home import read_roster
from server.record import RunRecord
from server.store import stored_adverts
from server.tables import STAGES
from simulations.engine import Members, in_process
from tests.deployment.federation import (
    ROUNDS,
    Federation,
    await_health,
    found,
    make_plan,
    tails,
    up,
)
from tests.deployment.loopback import operate
from tests.deployment.seeded import MODULE, SEED

pytestmark = pytest.mark.timeout(300)

MODELS = ("model.safetensors", "compact.safetensors", "model.onnx", "model.sparse")
BYTES = ("bytes_up", "bytes_down")
OTHERWISE = {"seconds", *(f"seconds_{stage}" for stage in STAGES), *BYTES}
"""What a clock says, and sizes, which count Flower's own names of messages and nodes."""

UNLIKE = ("rows", "audit")
"""In a journal's line: what `rounds.csv` is asked for, and a log that simulations do not keep."""


@dataclass(frozen=True)
class Namesakes(Members):
    """Simulated institutions that have the keys and tables of deployed ones."""

    homes: Mapping[str, Path] = field(default_factory=dict)
    signed: Path = Path("roster.json")

    @classmethod
    def of(cls, federation: Federation, seed: int) -> "Namesakes":
        plan = federation.plan
        homes = {name: federation.institution(name) for name in plan.names}
        rows = {n: load_institution(home / "client.toml").splits for n, home in homes.items()}
        signed = federation.server / "roster.json"
        return cls(plan, rows, seed, homes=homes, signed=signed)

    @cached_property
    def roster(self) -> Roster:
        return read_roster(self.signed)

    def institution(self, name: str, ledger: Ledger) -> Institution:
        own = Membership(read_identity(self.homes[name] / "keys.json"), self.roster)
        return replace(super().institution(name, ledger), membership=own)


def simulated(federation: Federation, folder: Path, seed: int) -> Path:
    """Run the published plan in this process; return the directory of the run."""
    members, out = Namesakes.of(federation, seed), folder / "out"
    plan, record = members.plan, RunRecord(out, members.plan, members.roster)
    adverts = stored_adverts(folder / "state", plan.digest())
    task = Task(plan, record.keep, members.roster, adverts, record.finish, record)
    in_process(build_app(lambda _: task, SeededEntropy(seed, "server")), members)
    return out


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    made = found(tmp_path_factory.mktemp("seeded"), make_plan())
    with up((MODULE, made.server)):
        await_health(made)
        with up(*((MODULE, made.institution(name)) for name in made.plan.names)):
            ended = operate(made.server, "start", "--wait", "--run", "seeded")
            assert ended.returncode == 0, ended.stderr + tails(made.server)
    return made


@pytest.fixture(scope="module")
def deployed(federation: Federation) -> Path:
    """Return the directory of the run on the real engine."""
    return federation.server / "runs" / "seeded"


@pytest.fixture(scope="module")
def twin(federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the same run in this process."""
    return simulated(federation, tmp_path_factory.mktemp("twin"), SEED)


def test_the_model_is_the_same_in_each_form_bit_for_bit(deployed: Path, twin: Path) -> None:
    for name in MODELS:
        assert (deployed / name).read_bytes() == (twin / name).read_bytes(), name


def test_rounds_differ_by_their_clock_and_the_names_of_messages_alone(
    deployed: Path, twin: Path
) -> None:
    rows = [read_rows(out) for out in (deployed, twin)]
    assert len(rows[0]) == len(rows[1]) == ROUNDS + 1
    assert float(rows[0][-1]["auc_test"]) > 0
    for real, beside in zip(*rows, strict=True):
        assert {column for column in real if real[column] != beside[column]} <= OTHERWISE
        # Flower's own identifiers, which no round makes longer.
        for column in BYTES:
            assert 0 <= int(real[column]) - int(beside[column]) < 600


def test_every_step_and_every_key_is_the_same(deployed: Path, twin: Path) -> None:
    """Each round's model by its hash, the run's name, epochs, survivors; what members signed."""
    steps = [read_steps(out) for out in (deployed, twin)]
    assert steps[0] == steps[1]
    assert sum("model" in step for step in steps[0]) == ROUNDS + 1
    (real,), (beside,) = (
        [file.read_bytes() for file in (folder / "state").glob("adverts-*.json")]
        for folder in (deployed.parents[1], twin.parent)
    )
    assert real == beside


def read_rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "rounds.csv").read_text().splitlines()))


def read_steps(out: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "journal.jsonl").read_text().splitlines())
    return [{key: fact for key, fact in line.items() if key not in UNLIKE} for line in lines]


def test_another_seed_gives_another_model(
    federation: Federation, deployed: Path, tmp_path: Path
) -> None:
    other = simulated(federation, tmp_path, SEED + 1)
    assert (deployed / MODELS[0]).read_bytes() != (other / MODELS[0]).read_bytes()
