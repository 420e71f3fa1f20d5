"""Where a simulation's institutions run: in this process, or on Flower's Ray engine.

An engine takes the server's app and what the institutions are made of, and returns when the run
is over. The seed decides the result, not the engine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec

from flwr.app import Context, RecordDict
from flwr.serverapp import ServerApp

from client.app import build_app
from client.data import Splits
from client.ledger import Ledger, memory_ledger
from client.stages import Institution, Membership
from common.crypto.roster import Roster
from common.entropy import SeededEntropy
from common.errors import ConfigError
from common.plan import Plan
from common.registry import Registry
from simulations.departures import Leaves, departures
from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from simulations.rehearsal import seeded_identity, seeded_roster

FIRST_NODE = SERVER_NODE + 1


@dataclass(frozen=True)
class Members:
    """What simulated institutions are made of; all that is random in them follows from ``seed``.

    ``dropout`` is the chance that one leaves in a given attempt at a round.
    """

    plan: Plan
    splits: Mapping[str, Splits]
    seed: int
    dropout: float = 0.0

    @cached_property
    def roster(self) -> Roster:
        """The public keys of all."""
        return seeded_roster(self.plan.names, self.seed)

    @property
    def leaves(self) -> Leaves:
        """Who is absent, and when."""
        return departures(self.seed, self.dropout)

    def institution(self, name: str, ledger: Ledger) -> Institution:
        """Return a member, which reads its rows when it first needs them.

        Its clock stands still: its ledger dies with the run, and machines' clocks differ.
        """
        return Institution(
            name,
            self.plan,
            partial(self.splits.__getitem__, name),
            SeededEntropy(self.seed, f"institution/{name}"),
            Membership(seeded_identity(name, self.seed), self.roster),
            ledger,
            clock=lambda: 0.0,
        )


Engine = Callable[[ServerApp, Members], None]

ENGINES: Registry[Engine] = Registry("engine")
IN_PROCESS = "inprocess"


def engine_of(name: str) -> Engine:
    """Return an engine; raise `ConfigError` for an unknown one, or one that is not installed."""
    try:
        engine = ENGINES.require(name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if name == "ray" and find_spec("ray") is None:
        raise ConfigError("engine 'ray' is not installed: pip install 'fedprune[ray]'")
    return engine


@ENGINES.register(IN_PROCESS)
def in_process(server: ServerApp, members: Members) -> None:
    """Run every institution in this process, one message after the other."""
    nodes = {
        node: members.institution(name, memory_ledger())
        for node, name in enumerate(members.plan.names, start=FIRST_NODE)
    }
    leaves = members.leaves
    grid = InProcessGrid(
        build_app(lambda context: nodes[context.node_id]),
        nodes,
        lambda message: leaves(message.metadata.dst_node_id, message.metadata),
    )
    server(grid, Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {}))


@ENGINES.register("ray")
def on_ray(server: ServerApp, members: Members) -> None:
    """Run the institutions in processes of a Ray cluster, of this machine alone by default."""
    from simulations.ray_engine import run  # noqa: PLC0415  (an extra that most do without)

    run(server, members)
