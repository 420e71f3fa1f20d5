"""What an operator asks of SuperLink on loopback: runs begun, listed, stopped; nodes let in."""

import logging
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import httpx
import tomli_w
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.run_pb2 import Run
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.fab import Fab

from common import __version__
from common.errors import FedpruneError
from server.desk import RUN_KEY, Desk

log = logging.getLogger("fedprune.up")

ONLINE, UNREGISTERED, FINISHED = "online", "unregistered", "finished"
RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
SHUT_OUT = (
    "its node key was shut out before, and SuperLink takes none twice: have it make others by"
    " `fedprune-client rotate`, and admit them"
)
START_SECONDS = 60.0
"""Until SuperLink answers after its start, on a machine with other things to do."""

LISTED = 100
"""Runs asked for, the latest."""


@dataclass(frozen=True)
class RunState:
    """A run as SuperLink knows it: Flower's number, the directory's name, where it stands."""

    number: int
    name: str
    status: str
    outcome: str
    details: str
    began: str

    @property
    def finished(self) -> bool:
        """Whether it is over, however it ended."""
        return self.status == FINISHED


def await_superlink(desk: Desk, clock: Callable[[], float] = time.monotonic) -> None:
    """Wait until SuperLink answers, as after a start; whoever asks next learns if it does not."""
    deadline = clock() + START_SECONDS
    while clock() < deadline:
        with suppress(httpx.TransportError), desk.control() as control:
            runs(control)
            return
        time.sleep(0.2)


@contextmanager
def at(desk: Desk) -> Iterator[ControlHttpClient]:
    """Connect to SuperLink; its errors become one line of ours."""
    try:
        with desk.control() as control:
            yield control
    except httpx.HTTPStatusError as error:
        raise FedpruneError(f"SuperLink refused: {error.response.text[:200]}") from error
    except (httpx.TransportError, OSError) as error:
        raise FedpruneError(
            f"SuperLink does not answer at {desk.address}: see `fedprune-server logs superlink`"
        ) from error


@cache
def archive() -> bytes:
    """Return the app archive that Flower asks for with a run: names, and no code.

    Executors here and at the institutions run what is installed; an institution on a stock
    SuperNode would find nothing to run.
    """
    app = {
        "publisher": "fedprune",
        "components": {"serverapp": "server.app:app", "clientapp": "client.app:app"},
        "config": {RUN_KEY: ""},
    }
    project = {"name": "fedprune", "version": __version__}
    text = tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}})
    return build_fab_from_files({"pyproject.toml": text.encode()})[0]


def start_run(control: ControlHttpClient, name: str) -> int:
    """Start the run of the directory ``name`` below ``runs/``; return its number."""
    fab = Fab(sha256(archive()).hexdigest(), archive(), {})
    request = StartRunRequest(
        fab=fab_to_proto(fab), override_config=user_config_to_proto({RUN_KEY: name})
    )
    started = control.StartRun(request)
    if not started.run_id:
        raise FedpruneError("SuperLink did not start the run: see `fedprune-server logs superlink`")
    return started.run_id


def runs(control: ControlHttpClient) -> list[RunState]:
    """Return the latest runs, oldest first."""
    listed = control.ListRuns(ListRunsRequest(limit=LISTED)).run_dict.values()
    return [_state(run) for run in sorted(listed, key=lambda run: run.pending_at)]


def stop_run(control: ControlHttpClient, number: int) -> None:
    """Have SuperLink end a run; its executor notices by its next heartbeat or message."""
    control.StopRun(StopRunRequest(run_id=number))


def nodes(control: ControlHttpClient) -> list[NodeInfo]:
    """Return the nodes that are registered."""
    listed = control.ListNodes(ListNodesRequest()).nodes_info
    return [node for node in listed if node.status != UNREGISTERED]


def let_in(
    control: ControlHttpClient, members: Mapping[bytes, str], spared: Container[str] = ()
) -> None:
    """Make SuperLink's nodes those of ``members``, each key with its name, and no other.

    Whoever reaches SuperLink's port on this machine can have registered another. Nodes named in
    ``spared``, whose keys cannot be read, stay: SuperLink takes no key again that it shut out.
    """
    known = {node.public_key: node for node in nodes(control)}
    for key, node in known.items():
        if key not in members and node.name not in spared:
            control.UnregisterNode(UnregisterNodeRequest(node_id=node.node_id))
            log.info("node %d is no member's and was shut out", node.node_id)
    for key, name in members.items():
        if key not in known:
            try:
                control.RegisterNode(RegisterNodeRequest(public_key=key, name=name))
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.PRECONDITION_FAILED:
                    raise
                log.warning("%s may not connect: %s", name, SHUT_OUT)


def _state(run: Run) -> RunState:
    name = run.override_config[RUN_KEY].string if RUN_KEY in run.override_config else ""
    status = run.status
    return RunState(
        run.run_id, name, status.status, status.sub_status, status.details, run.pending_at
    )
