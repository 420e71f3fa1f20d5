"""The central bank's Flower `ServerApp`: members join, rounds run, each is kept."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.crypto.roster import Roster
from common.entropy import Entropy, SystemEntropy
from common.errors import DiskError
from common.facts import warnings_of
from common.plan import Plan, load_plan
from common.segments import require_releasable
from common.timings import ROUND, Timings
from common.trail.interface import Trail, Untold
from server.adverts import Adverts
from server.awaited import Awaits, noting
from server.exchange import Exchange
from server.home import ServerHome, standing_roster
from server.model import GlobalModel
from server.owners import Owners, owners_at
from server.record import Record, RunRecord, Unrecorded
from server.rounds import RoundReport, initial_model, run_rounds
from server.run_trail import ToldRecord, model_written, round_over
from server.store import stored_adverts
from server.trail import server_trail

PLAN_KEY, OUT_KEY = "plan", "out"
"""Run configuration keys: the path of the plan and of the run's directory."""

ROSTER_KEY = "roster"
"""Run configuration key: the path of the members' public keys; plain aggregation has none."""

STATE_KEY = "state"
"""Run configuration key: the path of the server's own directory, the same for all its runs."""

UP_KEY = "up"
"""Run configuration key: whether `up` runs it, which then must know whose each node is."""

log = logging.getLogger("fedprune.server")

Keep = Callable[[GlobalModel, RoundReport], None]


@dataclass(frozen=True)
class Task:
    """What a run does: its plan, where finished rounds go, the members' public keys and adverts.

    ``finish`` takes the last finished round's model once the run ends, for whatever reason.
    ``record`` has a run go on that an earlier process began.
    ``refresh`` returns the roster after revocations, before each round but the first.
    ``trail`` is the audit log that all of it is told to; ``timings`` has how long it takes.
    ``owners`` says whose each node is; ``awaits`` is told whom the run waits for.
    """

    plan: Plan
    keep: Keep
    roster: Roster | None = None
    adverts: Adverts = field(default_factory=Adverts)
    finish: Callable[[GlobalModel], object] | None = None
    record: Record = field(default_factory=Unrecorded)
    refresh: Callable[[], Roster] | None = None
    trail: Trail = field(default_factory=Untold)
    timings: Timings = field(default_factory=Timings)
    owners: Owners | None = None
    awaits: Awaits = lambda missing: None


def build_app(configure: Callable[[Context], Task], entropy: Entropy) -> ServerApp:
    """Return the app that runs the task ``configure`` finds."""
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        task = configure(context)
        roster = "" if task.roster is None else task.roster.digest
        record = ToldRecord(task.record, task.trail, task.plan.digest(), roster)
        with closing(record), record.told():
            _run(replace(task, record=record), grid, entropy)

    return server


def _run(task: Task, grid: Grid, entropy: Entropy) -> None:
    plan, record = task.plan, task.record
    require_releasable(plan)

    def fresh() -> tuple[str, GlobalModel]:
        run = entropy.stream("run")(16).hex()
        return run, initial_model(plan, entropy.stream("initial-weights"))

    run, model = record.begin(fresh)
    roster = task.roster
    last = model if model.round else None
    given = (task.roster, task.adverts, task.trail, task.timings, task.owners, task.awaits)
    exchange = Exchange(grid, plan.aggregation.timeout, *given)
    try:
        # Who died after the last round has nobody to ask.
        if model.round <= plan.training.rounds:
            exchange.join(run, plan.names if roster is None else roster.names, plan.digest())
            model = replace(model, epoch=max(0, model.epoch, exchange.last_epoch))
        for state, report in run_rounds(model, plan, run, exchange, note=record.note):
            task.timings.note(ROUND, report.seconds)
            task.trail.append(round_over(run, state, report, exchange.witness.heads))
            task.keep(state, report)
            last = state
            if task.refresh is not None and state.round <= plan.training.rounds:
                exchange.roster = task.refresh()
    except DiskError:
        last = None  # It has no room for the model's forms either.
        raise
    finally:
        if last is not None and task.finish is not None:
            task.trail.append(model_written(run, last))
            task.finish(last)


def _from_run_config(context: Context) -> Task:
    plan = load_plan(Path(str(context.run_config[PLAN_KEY])))
    for warning in warnings_of(plan):
        log.warning(warning)
    roster, refresh = None, None
    state = Path(str(context.run_config[STATE_KEY]))
    # First of all: whatever is opened after it would have to be closed.
    owners = owners_at(state.parent, must=bool(context.run_config.get(UP_KEY, False)))
    adverts = stored_adverts(state, plan.digest())
    if plan.aggregation.kind == "secure":
        file = Path(str(context.run_config[ROSTER_KEY]))

        def refresh() -> Roster:
            roster = standing_roster(file, plan, int(time.time()))
            known = adverts.of(roster)
            ServerHome(file.parent).settle({roster.member(name).signing_public for name in known})
            return roster

        roster = refresh()
    out = Path(str(context.run_config[OUT_KEY]))
    trail = server_trail(state.parent)
    record = RunRecord(out, plan, roster, trail)
    given = (plan, record.keep, roster, adverts, record.finish, record, refresh, trail)
    return Task(*given, timings=Timings(state), owners=owners, awaits=noting(state, out.name))


app = build_app(_from_run_config, SystemEntropy())
