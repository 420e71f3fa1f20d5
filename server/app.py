"""The central bank's Flower `ServerApp`: members join, rounds run, each is kept."""

from collections.abc import Callable
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.entropy import Entropy, SystemEntropy
from common.plan import Plan, load_plan
from server.aggregation import GlobalModel
from server.exchange import Exchange
from server.rounds import RoundReport, initial_model, run_rounds
from server.store import RunStore

PLAN_KEY, OUT_KEY = "plan", "out"
"""Run configuration keys: the path of the plan and of the run's directory."""

Keep = Callable[[GlobalModel, RoundReport], None]


def build_app(configure: Callable[[Context], tuple[Plan, Keep]], entropy: Entropy) -> ServerApp:
    """Return the app that runs the plan ``configure`` finds and hands each round to its keep."""
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        plan, keep = configure(context)
        run = entropy.stream("run")(16).hex()
        model = initial_model(plan, entropy.stream("initial-weights"))
        exchange = Exchange(grid, plan.aggregation.timeout)
        exchange.join(run, plan.names, plan.digest())
        for state, report in run_rounds(model, plan, run, exchange):
            keep(state, report)

    return server


def _from_run_config(context: Context) -> tuple[Plan, Keep]:
    plan = load_plan(Path(str(context.run_config[PLAN_KEY])))
    return plan, RunStore(Path(str(context.run_config[OUT_KEY])), plan).keep


app = build_app(_from_run_config, SystemEntropy())
