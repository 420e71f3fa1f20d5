"""One suite for both engines: the seed decides what happens, the engine only where."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import pytest

from common.errors import ConfigError
from server.model import GlobalModel
from server.rounds import RoundReport
from simulations import engine as module
from simulations.engine import ENGINES, engine_of
from simulations.run import Run, simulate
from tests.support import all_splits, small_plan

pytestmark = pytest.mark.timeout(240)

NAMES = ("alder", "ash", "birch", "cedar", "elm", "fir", "hazel")
UNFIT = "elm"
PLAN = small_plan(institutions=[{"name": name, "size": 200} for name in NAMES])
SPLITS = all_splits(PLAN)
# Rows by customer under a plan whose unit is a record: its app fails at every update.
SPLITS[UNFIT] = replace(
    SPLITS[UNFIT], train=replace(SPLITS[UNFIT].train, customers=np.arange(len(SPLITS[UNFIT].train)))
)
SEED, DROPOUT = 2, 0.1
INTERRUPTED = 1

without_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install 'fedprune[ray]'"
)
ENGINE_NAMES = ("inprocess", pytest.param("ray", marks=without_ray))


@dataclass
class Played:
    """A run, and every model on its way."""

    run: Run = field(default_factory=lambda: Run(PLAN))
    models: list[GlobalModel] = field(default_factory=list)

    def __call__(self, model: GlobalModel, report: RoundReport) -> None:
        self.models.append(model)

    @property
    def bits(self) -> list[bytes]:
        """Everything that each round decided, bit for bit."""
        return [
            b"".join(
                part.tobytes() for part in (model.weights, model.mask, *report.counts.values())
            )
            for model, report in zip(self.models, self.run.reports, strict=True)
        ]


def play(engine: str, seed: int = SEED) -> Played:
    played = Played()
    simulate(played.run, SPLITS, seed, DROPOUT, played, engine)
    return played


reference = lru_cache(maxsize=1)(lambda: play("inprocess"))


@pytest.fixture(scope="module", params=ENGINE_NAMES)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def played(engine: str) -> Played:
    """Return a whole run: to start Ray takes longer than the run."""
    return play(engine)


def test_every_engine_stands_the_suite() -> None:
    assert ENGINES.names == ("inprocess", "ray")


def test_the_seed_decides_all_models_and_counts(played: Played) -> None:
    assert played.bits == reference().bits
    assert len(played.bits) == PLAN.training.rounds + 1
    assert play("inprocess", SEED + 1).bits != played.bits


def test_the_same_institutions_leave_in_the_same_attempts(played: Played) -> None:
    reports, expected = played.run.reports, reference().run.reports
    facts = [(report.round, report.epoch, report.survivors) for report in reports]
    assert facts == [(report.round, report.epoch, report.survivors) for report in expected]
    present = {len(report.survivors) for report in reports}
    # One never sends a vector; all others are there in some rounds and not in others.
    assert {5, 6} <= present
    assert reports[-1].epoch > len(reports), "no round was repeated"


def test_an_app_that_fails_refuses_and_the_others_go_on(played: Played) -> None:
    survivors = {name for report in played.run.reports for name in report.survivors}
    assert survivors == {*NAMES} - {UNFIT}


@pytest.mark.parametrize(
    "engine", ["inprocess", pytest.param("ray", marks=pytest.mark.long)], indirect=True
)
def test_interruption_ends_an_engine_and_keeps_the_finished_rounds(engine: str) -> None:
    run = Run(PLAN)

    def interrupt(model: GlobalModel, report: RoundReport) -> None:
        if report.round == INTERRUPTED:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(run, SPLITS, SEED, DROPOUT, interrupt, engine)
    assert [report.round for report in run.reports] == list(range(INTERRUPTED + 1))
    expected = reference().models[INTERRUPTED]
    assert run.final.weights.tobytes() == expected.weights.tobytes()


def test_an_unknown_engine_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown engine 'rya'; known: inprocess, ray"):
        simulate(Run(PLAN), SPLITS, SEED, engine="rya")


def test_an_engine_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fedprune\[ray\]'"):
        simulate(Run(PLAN), SPLITS, SEED, engine="ray")
    assert engine_of("inprocess") is module.in_process
