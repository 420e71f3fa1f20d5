from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from client.app import build_app as build_client
from common.consent.refusals import ExpiredError
from common.crypto.roster import Roster
from common.entropy import SeededEntropy
from common.errors import AggregationError, ConfigError, PlanError
from common.plan import Plan
from server.app import OUT_KEY, PLAN_KEY, ROSTER_KEY, STATE_KEY, Task, app, build_app
from server.model import GlobalModel
from server.rounds import RoundReport
from server.store import stored_adverts
from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from simulations.rehearsal import seeded_roster
from tests.support import roster_of, small_institution, small_plan

PLAN = small_plan(training={"rounds": 2})


def grid_of(plan: Plan, *names: str) -> InProcessGrid:
    members = {
        node: small_institution(plan, name)
        for node, name in enumerate(names or plan.names, start=SERVER_NODE + 1)
    }
    return InProcessGrid(build_client(lambda context: members[context.node_id]), members)


def context_of(**run_config: str) -> Context:
    return Context(RUN_ID, SERVER_NODE, {}, RecordDict(), dict(run_config))


def run(plan: Plan, seed: int, *names: str) -> list[tuple[GlobalModel, RoundReport]]:
    kept: list[tuple[GlobalModel, RoundReport]] = []

    def keep(model: GlobalModel, report: RoundReport) -> None:
        kept.append((model, report))

    build_app(lambda context: Task(plan, keep, roster_of(plan)), SeededEntropy(seed))(
        grid_of(plan, *names), context_of()
    )
    return kept


def test_members_join_rounds_run_each_is_kept() -> None:
    kept = run(PLAN, 0)
    assert [report.round for _, report in kept] == [0, 1, 2]
    assert all(report.survivors == PLAN.names for _, report in kept)
    again, other = run(PLAN, 0), run(PLAN, 1)
    assert again[-1][0].weights.tobytes() == kept[-1][0].weights.tobytes()
    assert other[-1][0].weights.tobytes() != kept[-1][0].weights.tobytes()


def test_nothing_runs_before_all_have_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.exchange.JOIN_SECONDS", 0.01)
    impatient = small_plan(training={"rounds": 2}, aggregation={"timeout": 0.1})
    with pytest.raises(AggregationError, match="elm did not join"):
        run(impatient, 0, "ash", "birch", "cedar")


@pytest.mark.parametrize("end", [KeyboardInterrupt, AggregationError])
def test_a_run_that_is_cut_short_finishes_with_its_last_round(end: type[BaseException]) -> None:
    kept: list[GlobalModel] = []
    finished: list[GlobalModel] = []

    def keep(model: GlobalModel, report: RoundReport) -> None:
        if report.round == 1:
            raise end
        kept.append(model)

    task = Task(PLAN, keep, roster_of(PLAN), finish=finished.append)
    with pytest.raises(end):
        build_app(lambda context: task, SeededEntropy(0))(grid_of(PLAN), context_of())
    assert finished == kept
    assert len(kept) == 1


def test_a_run_without_a_finished_round_has_nothing_to_finish() -> None:
    def keep(model: GlobalModel, report: RoundReport) -> None:
        raise KeyboardInterrupt

    finished: list[GlobalModel] = []
    task = Task(PLAN, keep, roster_of(PLAN), finish=finished.append)
    with pytest.raises(KeyboardInterrupt):
        build_app(lambda context: task, SeededEntropy(0))(grid_of(PLAN), context_of())
    assert finished == []


def test_deployed_app_takes_plan_and_folder_from_the_run(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.to_toml())
    (tmp_path / "roster.json").write_bytes(roster_of(PLAN).to_bytes())
    config = {
        PLAN_KEY: str(tmp_path / "plan.toml"),
        ROSTER_KEY: str(tmp_path / "roster.json"),
        OUT_KEY: str(tmp_path / "run"),
        STATE_KEY: str(tmp_path / "state"),
    }
    app(grid_of(PLAN), context_of(**config))
    known = stored_adverts(tmp_path / "state", "another plan").of(roster_of(PLAN))
    assert tuple(known) == PLAN.names
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert len((tmp_path / "run" / "rounds.csv").read_text().splitlines()) == 1 + 3
    assert (tmp_path / "run" / "model.onnx").is_file()
    assert (tmp_path / "run" / "shrinkage.json").is_file()
    for content in (b"", b"{}", roster_of(PLAN).without("ash").to_bytes()[:-1]):
        (tmp_path / "roster.json").write_bytes(content)
        with pytest.raises(ConfigError, match="no roster can be read"):
            app(grid_of(PLAN), context_of(**config))
    (tmp_path / "roster.json").write_bytes(seeded_roster(["ash", "oak"], 0).to_bytes())
    with pytest.raises(ConfigError, match="not those of the plan"):
        app(grid_of(PLAN), context_of(**config))
    with pytest.raises(PlanError, match="no such file"):
        app(grid_of(PLAN), context_of(**config | {PLAN_KEY: str(tmp_path / "gone.toml")}))


def test_a_roster_that_shrinks_is_taken_over_at_the_next_round() -> None:
    kept: list[RoundReport] = []
    rosters = iter([roster_of(PLAN).without("elm")] * 2)
    task = Task(
        PLAN,
        lambda model, report: kept.append(report),
        roster_of(PLAN),
        refresh=lambda: next(rosters),
    )
    build_app(lambda context: task, SeededEntropy(0))(grid_of(PLAN), context_of())
    left = ("ash", "birch", "cedar")
    assert [report.survivors for report in kept] == [PLAN.names, left, left]
    assert next(rosters, None) is None, "asked before each round, and not after the last"


def test_a_revoked_member_is_not_waited_for_by_a_run_that_begins_later() -> None:
    kept: list[RoundReport] = []
    task = Task(PLAN, lambda model, report: kept.append(report), roster_of(PLAN).without("elm"))
    left = ("ash", "birch", "cedar")
    build_app(lambda context: task, SeededEntropy(0))(grid_of(PLAN, *left), context_of())
    assert [report.survivors for report in kept] == [left] * 3


def test_a_roster_that_grew_ends_the_run_by_name() -> None:
    known = roster_of(PLAN)
    approved = known.without("elm")
    members = {
        node: replace(member, membership=replace(member.member, roster=approved))
        for node, member in enumerate(
            map(partial(small_institution, PLAN), approved.names), start=5
        )
    } | {9: small_institution(PLAN, "elm")}
    grid = InProcessGrid(build_client(lambda context: members[context.node_id]), members)
    task = Task(PLAN, lambda *_: None, known)
    with pytest.raises(AggregationError, match="ash refused: roster-grew, birch refused: roster"):
        build_app(lambda context: task, SeededEntropy(0))(grid, context_of())


def test_a_run_ends_with_the_charter() -> None:
    def expired() -> Roster:
        raise ExpiredError("charter 1 has expired")

    finished: list[GlobalModel] = []
    task = Task(PLAN, lambda *_: None, roster_of(PLAN), finish=finished.append, refresh=expired)
    with pytest.raises(ExpiredError):
        build_app(lambda context: task, SeededEntropy(0))(grid_of(PLAN), context_of())
    assert [model.round for model in finished] == [1]
