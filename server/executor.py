"""The process that runs the ServerApp as it is installed here, one run after another.

Flower's own would unpack and run the archive a run was started with, and anyone on this machine
who reaches SuperLink's loopback port can start one. This one takes from a run only its name,
which must be that of a prepared directory below ``runs/``.
"""

import logging
import signal
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import httpx
from flwr.app.user_config import UserConfig
from flwr.common.config import get_fused_config_from_fab
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, fab_from_proto, run_from_proto
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
)
from flwr.serverapp import ServerApp
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.retry import RetryInvoker, make_simple_http_retry_invoker
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity

from common.console import log_to_file
from common.errors import ConfigError, FedpruneError
from common.processes import Presence
from common.waiting import Pause, look_again_after
from server import release_app
from server.app import OUT_KEY, PLAN_KEY, ROSTER_KEY, STATE_KEY, UP_KEY, app
from server.desk import RUN_KEY, RUN_NAME, NoServerError, find_desk, offered_run
from server.exchange import FIRST_PAUSE, LONGEST_PAUSE
from server.grid import PatientGrid
from server.health import READY
from server.recovery import INTERRUPTED, resume_interrupted

log = logging.getLogger("fedprune.server")


PART_SECONDS = 3.0
"""For SuperLink to take note of a run that is broken off; `up` waits for 12."""


class Executor:
    """Waits at SuperLink for a run's task and performs it."""

    def __init__(self, home: Path, superlink: str, server: ServerApp = app) -> None:
        """Read the certificate and the secret that `up` made for ``superlink``."""
        self._home, self._superlink, self._server = home, superlink, server
        self._certificate = (home / "state" / "desk.pem").read_bytes()
        self._secret = (home / "state" / "executor.secret").read_bytes()

    def resume(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Have the runs go on that an earlier process of this executor left unfinished."""
        desk, pause = find_desk(self._home), Pause(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                with desk.control() as control:
                    return resume_interrupted(control, self._home / "runs")
            except httpx.TransportError:
                log.debug("SuperLink does not answer")
            sleep(pause.next())

    def acquire(self, sleep: Callable[[float], None] = time.sleep) -> str:
        """Wait for a task; return the token that stands for it."""
        pause = Pause(FIRST_PAUSE, LONGEST_PAUSE)
        wanted = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        signed = SuperExecAuthHttpInterceptor(
            master_secret=self._secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}
        )
        with self._client(signed) as desk:
            while True:
                try:
                    if token := desk.AcquireTask(wanted).token:
                        return token
                except httpx.TransportError:
                    log.debug("SuperLink does not answer")
                sleep(pause.next())

    def perform(self, token: str) -> None:
        """Run the ServerApp of a task and tell SuperLink how it ended."""
        # A SuperLink that starts again in the middle of a run is waited for.
        retry = make_simple_http_retry_invoker()
        with self._client(RuntimeTokenHttpInterceptor(token), retry) as client:
            ended: PushTaskOutputRequest | None = None
            heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
            heartbeat.start()
            try:
                self._run(client, token)
                ended = PushTaskOutputRequest(sub_status=SubStatus.COMPLETED)
            except NoServerError as error:
                # `up` was killed, and this process not yet: the next one has the run go on.
                log.error("the run failed: %s", error)
                ended = failed(f"{INTERRUPTED}{error}")
            except FedpruneError as error:
                log.error("the run failed: %s", error)
                ended = failed(str(error))
            except (RunNotRunningException, KeyboardInterrupt):
                # Flower's client interrupts the process whose token SuperLink has taken back.
                log.warning("the run was stopped")
            except Exception as error:
                log.exception("the run failed")
                ended = failed(INTERRUPTED + type(error).__name__)
            except BaseException:
                # SIGTERM: `up` has no time for a SuperLink that is gone, for which both retries
                # and heartbeats would wait for ever.
                self._part(token, failed(f"{INTERRUPTED}the server was stopped"))
                raise
            if heartbeat.is_running:
                heartbeat.stop()
            if ended is not None:
                with suppress(RunNotRunningException, KeyboardInterrupt):
                    client.PushTaskOutput(ended)

    def _part(self, token: str, ended: PushTaskOutputRequest) -> None:
        """Tell SuperLink once, if it listens."""
        signed = RuntimeTokenHttpInterceptor(token)
        with suppress(httpx.HTTPError), self._client(signed, timeout=PART_SECONDS) as client:
            client.PushTaskOutput(ended)

    def _run(self, client: RuntimeHttpClient, token: str) -> None:
        given = client.PullTaskInput(PullTaskInputRequest())
        run, context = run_from_proto(given.run), context_from_proto(given.context)
        TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, run.run_id
        TaskIdentity.node_id = context.node_id
        asked = get_fused_config_from_fab(fab_from_proto(given.fab).content, run)
        name = str(asked.get(RUN_KEY, ""))
        offer, server = offered_run(name), self._server
        if offer is None:
            context.run_config = configured(self._home, name)
        else:
            server, context.run_config = release_app.app, release_app.configured(self._home, offer)
        grid = PatientGrid(self._superlink, self._certificate, token=token)
        try:
            grid.set_run(run)
            log.info("run %s begins", name)
            server(grid=grid, context=context)
            log.info("run %s is complete", name)
        finally:
            grid.close()

    def _client(
        self,
        interceptor: ProtobufClientInterceptor,
        retry: RetryInvoker | None = None,
        timeout: float = 30.0,
    ) -> RuntimeHttpClient:
        version = RuntimeVersionHttpInterceptor(component_name="fedprune-server")
        return RuntimeHttpClient(
            f"https://{self._superlink}",
            interceptors=[version, interceptor],
            verify=ssl.create_default_context(cadata=self._certificate.decode()),
            timeout=timeout,
            retry_invoker=retry,
        )


def failed(details: str) -> PushTaskOutputRequest:
    """Return what SuperLink is told of a run that did not come to its end."""
    return PushTaskOutputRequest(sub_status=SubStatus.FAILED, details=details)


def configured(home: Path, name: str) -> UserConfig:
    """Return what the ServerApp is told of a run: paths in ``home`` alone."""
    out = home / "runs" / name
    if not RUN_NAME.fullmatch(name) or not (out / "plan.toml").is_file():
        raise ConfigError(f"{out.name!r} is no run here: start one by `fedprune-server start PLAN`")
    return {
        PLAN_KEY: str(out / "plan.toml"),
        OUT_KEY: str(out),
        ROSTER_KEY: str(home / "roster.json"),
        STATE_KEY: str(home / "state"),
        UP_KEY: True,
    }


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def main(home: str, superlink: str) -> None:
    """Perform one run, then end: `up` starts the next process, with nothing left of this run."""
    look_again_after(pull_objects, FIRST_PAUSE)
    log_to_file()
    # As an exception, so that the run is told to be over and its model is written.
    signal.signal(signal.SIGTERM, _leave)
    executor = Executor(Path(home), superlink)
    executor.resume()
    presence = Presence(Path(home) / "state" / READY)
    presence.tell(present=True)
    executor.perform(executor.acquire())


if __name__ == "__main__":
    main(*sys.argv[1:])
