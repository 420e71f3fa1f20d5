"""What a role tells of itself on its own machine, asked as a monitor would."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.errors import ConfigError, FedpruneError
from common.parsing import validated
from common.processes import STANDINGS, Presence
from common.status import Board, Monitoring, Part, check, ready, running
from server.desk import free_port
from tests.commands import ROOT

WAIT_SECONDS = 30.0

SERVED = """
import sys
from pathlib import Path
from common.status import Monitoring, Part, serve

state = Path(sys.argv[1])
look = lambda: {
    "near": Part((state / "near").exists(), "is as it is"),
    "far": Part(False, "is away", vital=False),
}
pages = lambda board: {"/metrics": lambda: (200, "text/plain", b"up 1")}
serve(state, Monitoring(**dict(pair.split("=") for pair in sys.argv[2:])), look, pages)
"""


@contextmanager
def served(home: Path, **monitoring: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Tell of a role whose vital part is well while ``state/near`` exists."""
    state = home / "state"
    state.mkdir(exist_ok=True)
    options = [f"{name}={value}" for name, value in monitoring.items()]
    process = subprocess.Popen((sys.executable, "-c", SERVED, str(state), *options), cwd=ROOT)
    try:
        while said(home).endswith("is it running?") and process.poll() is None:
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS) == 0


def said(home: Path) -> str:
    """Return what `check` complains of; nothing if it does not."""
    with suppress(FedpruneError):
        check(home)
        return ""
    with pytest.raises(FedpruneError) as error:
        check(home)
    assert error.value.exit_code == 1
    return str(error.value)


def await_said(home: Path, end: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not said(home).endswith(end) or (not end and said(home)):
        assert time.monotonic() < deadline, said(home)
        time.sleep(0.1)


def test_health_is_told_by_grpc_and_http_as_it_changes(tmp_path: Path) -> None:
    address, rpc = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with served(tmp_path, listen=address, grpc=rpc):
        assert said(tmp_path).endswith("not healthy: near, far: see `logs`")
        ill = httpx.get(f"http://{address}/healthz", trust_env=False)
        assert ill.status_code == 503
        assert ill.json()["parts"]["far"] == {"well": False, "said": "is away", "vital": False}
        (tmp_path / "state" / "near").touch()
        await_said(tmp_path, "")
        well = httpx.get(f"http://{address}/healthz", trust_env=False)
        assert (well.status_code, well.json()["healthy"]) == (200, True)
        assert httpx.get(f"http://{address}/metrics", trust_env=False).text == "up 1"
        assert httpx.get(f"http://{address}/state", trust_env=False).status_code == 404
        with grpc.insecure_channel(rpc) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            ask = health_pb2.HealthCheckRequest
            assert stub.Check(ask()).status == health_pb2.HealthCheckResponse.SERVING
            assert (
                stub.Check(ask(service="far")).status == health_pb2.HealthCheckResponse.NOT_SERVING
            )
            with pytest.raises(grpc.RpcError) as unknown:
                stub.Check(ask(service="other"))
            assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        # A part that is not vital may be away, and the vital one may not.
        (tmp_path / "state" / "near").unlink()
        await_said(tmp_path, "near, far: see `logs`")
    assert said(tmp_path).endswith("is it running?")


def test_a_killed_teller_is_not_taken_for_a_healthy_one(tmp_path: Path) -> None:
    with served(tmp_path) as process:
        process.kill()
        process.wait()
        assert said(tmp_path).endswith("is it running?")
        process.returncode = 0


def test_http_is_off_unless_it_is_named_and_loopback_alone_may_be() -> None:
    assert Monitoring().listen is None
    for address in ("0.0.0.0:9464", "10.0.0.1:9464", "9464", "localhost:9464"):
        with pytest.raises(ConfigError, match="listen"):
            validated(Monitoring.model_validate, {"listen": address}, "file", ConfigError)


def test_a_board_that_has_not_looked_is_not_healthy() -> None:
    board = Board(lambda: {"one": Part(True, "runs")})
    assert board.page()[0] == 503
    board.renew()
    assert board.page()[0] == 200


def note(state: Path, process: int | None, failures: int, lived: float = 0.0) -> None:
    fields = {"process": process, "failures": failures, "started": time.monotonic() - lived}
    (state / STANDINGS).write_text(json.dumps({"one": fields}))


def test_a_child_runs_if_its_process_does_and_not_just_for_now(tmp_path: Path) -> None:
    assert not running(tmp_path, "one").well, "nobody said that it runs"
    child = subprocess.Popen(("sleep", "60"), start_new_session=True)
    try:
        note(tmp_path, child.pid, 0)
        assert running(tmp_path, "one").well
        note(tmp_path, child.pid, 3)
        assert running(tmp_path, "one").said == "has just started after 3 early ends"
        note(tmp_path, child.pid, 3, lived=60)
        assert running(tmp_path, "one").well
    finally:
        child.kill()
        child.wait()
    assert not running(tmp_path, "one").well, "its note is stale"
    # A number that came to another process meanwhile.
    note(tmp_path, os.getpid() if os.getsid(0) != os.getpid() else 2, 0)
    assert not running(tmp_path, "one").well
    note(tmp_path, None, 2)
    assert "ended early 2 times" in running(tmp_path, "one").said


def test_a_child_is_ready_while_it_says_so(tmp_path: Path) -> None:
    child = subprocess.Popen(("sleep", "60"), start_new_session=True)
    try:
        note(tmp_path, child.pid, 0)
        assert ready(tmp_path, "one").said == "runs and is not ready: see its log"
        presence = Presence(tmp_path / "one")
        assert not ready(tmp_path, "one").well
        presence.tell(present=True)
        assert ready(tmp_path, "one").well
        presence.tell(present=False)
        assert not ready(tmp_path, "one").well
        presence.tell(present=True)
    finally:
        child.kill()
        child.wait()
    assert not ready(tmp_path, "one").well, "it does not run"
