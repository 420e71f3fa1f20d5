"""Institutions as virtual nodes of Flower's Ray engine, on as many machines as its cluster has.

Flower's own simulation runtime (`start_vce`) moves the messages, keeps each node's context and
owns the actors; the server runs in this thread, as it does on the in-process engine, so that
Ctrl-C and errors end both alike. What institutions are made of lies in Ray's object store and is
read once a process; the rows of one only where that one is served.

Ray pickles what it moves. It trusts all who reach the cluster, and a seed protects nobody.
"""

import json
import logging
import os
import socket
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import cast

import ray
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.fleet.vce import start_vce
from flwr.server.superlink.fleet.vce.metrics import VceMetrics
from flwr.server.superlink.linkstate import InMemoryLinkState, LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
from flwr.serverapp import ServerApp
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid

from client.training import DEVICE
from common.errors import ConfigError, FedpruneError
from simulations.engine import Members
from simulations.grid import RUN_ID, SERVER_NODE, SimulatedGrid
from simulations.ray_actor import RemoteApp, RemoteSplits

ADDRESS = "RAY_ADDRESS"
"""Environment variable with the address of a cluster; without it Ray starts on this machine."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "FLWR_TELEMETRY_ENABLED": "0",
    # What Ray warns that it will do in future: leave alone what it does not manage.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.01
FOREVER = 1e9

GPU_SHARE = 0.1
"""Of a GPU, what an actor takes where this process trains on one."""

log = logging.getLogger("fedprune.engine")


class EngineError(FedpruneError):
    """The engine stopped, or an institution's app failed on it."""


class PatientGrid(SimulatedGrid):
    """Flower's grid, waiting for every reply: who is late must not decide a simulation."""

    def __init__(self, grid: InMemoryGrid, nodes: int, engine: "Future[None]") -> None:
        """Serve so many ``nodes``; ``engine`` is done when nothing moves messages any more."""
        super().__init__()
        self._grid, self._count, self._engine = grid, nodes, engine

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes once all are registered."""
        while len(nodes := list(self._grid.get_node_ids())) < self._count:
            self._wait()
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages that do not expire."""
        kept = list(messages)
        for message in kept:
            message.metadata.ttl = FOREVER
        return self._grid.push_messages(kept)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Wait for the replies to all of these messages.

        Raises `EngineError` when an app failed: only who left may answer with an error.
        """
        missing, replies = set(message_ids), list[Message]()
        while missing:
            found = list(self._grid.pull_messages(missing))
            missing -= {reply.metadata.reply_to_message_id for reply in found}
            replies += found
            if not found:
                self._wait()
        for reply in replies:
            if reply.has_error() and reply.error.code != ErrorCode.NODE_UNAVAILABLE:
                log.debug("an app failed: %s", reply.error.reason)
                raise EngineError("an institution's app failed on Ray: --debug shows how")
        return replies

    def _wait(self) -> None:
        if self._engine.done():
            raise EngineError(
                "Flower's Ray engine stopped: --debug shows why"
            ) from self._engine.exception()
        time.sleep(POLL_SECONDS)


def run(server: ServerApp, members: Members) -> None:
    """Run a simulation on Ray; see `simulations.engine`."""
    with _quiet(), _session():
        rows = RemoteSplits({name: ray.put(part) for name, part in members.splits.items()})
        app = RemoteApp(ray.put(replace(members, splits=rows)))
        _serve(server, app, len(members.plan.names))


def _serve(server: ServerApp, app: RemoteApp, nodes: int) -> None:
    states = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory())
    flower = Run.create_empty(RUN_ID)
    flower.primary_task_id, flower.federation_id = RUN_ID, NOOP_FEDERATION_ID
    state = cast(InMemoryLinkState, states.state())
    state.run_ids[RUN_ID] = RunRecord(run=flower)
    state.task_store[RUN_ID] = Task(task_id=RUN_ID, run_id=RUN_ID)
    grid, stop = InMemoryGrid(state_factory=states), Event()
    grid.set_run(flower)
    resources = {"num_cpus": 1, "num_gpus": GPU_SHARE if DEVICE.type == "cuda" else 0}
    with ThreadPoolExecutor(1) as thread:
        engine = thread.submit(
            start_vce,
            backend_name="ray",
            backend_config_json_stream=json.dumps({"client_resources": resources}),
            app_dir="",
            is_app=False,
            f_stop=stop,
            run=flower,
            metrics=VceMetrics(),
            client_app=cast(ClientApp, app),
            num_supernodes=nodes,
            state_factory=states,
        )
        try:
            server(
                PatientGrid(grid, nodes, engine),
                Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {}),
            )
        finally:
            stop.set()


@contextmanager
def _session() -> Iterator[None]:
    """Join the cluster at the address in the environment, or start one that ends with the block."""
    address = os.environ.get(ADDRESS, "local")
    os.environ |= ENVIRONMENT
    debug = log.isEnabledFor(logging.DEBUG)
    try:
        _require_answer(address)
        ray.init(
            address,
            include_dashboard=False,
            log_to_driver=debug,
            logging_level=logging.INFO if debug else logging.CRITICAL,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster can be used at {address!r}: start one by `ray start --head`, or unset"
            f" {ADDRESS} to use this machine alone"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise `OSError` unless somebody listens there: Ray itself tries for two minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Flower's log to itself unless this module's is at debug."""
    flower = logging.getLogger("flwr")
    level = flower.level
    if not log.isEnabledFor(logging.DEBUG):
        flower.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            # Ray leaves files and processes that it is done with to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        flower.setLevel(level)
