import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.proto.runtime_pb2 import PushTaskOutputRequest

from common.entropy import SeededEntropy
from common.errors import ConfigError
from common.processes import GRACE_SECONDS
from server import executor
from server.desk import NoServerError, open_desk
from server.executor import Executor, configured
from server.recovery import INTERRUPTED


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM")
def test_sigterm_does_not_wait_for_a_superlink_that_is_gone(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, datetime.now(UTC), SeededEntropy(0).stream("desk"))
    code = (
        "import signal, sys, time; from pathlib import Path; from server import executor;"
        " signal.signal(signal.SIGTERM, executor._leave);"
        f" made = executor.Executor(Path({str(tmp_path)!r}), {desk.address!r});"
        " made._run = lambda client, token: print('runs', flush=True) or time.sleep(600);"
        " made.perform('token')"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        (sys.executable, "-c", code), cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        process.terminate()
        try:
            assert process.wait(GRACE_SECONDS) == 0
        finally:
            process.kill()


def prepare(home: Path, name: str) -> None:
    (home / "runs" / name).mkdir(parents=True)
    (home / "runs" / name / "plan.toml").touch()


def test_a_run_is_given_paths_of_the_home_alone(tmp_path: Path) -> None:
    prepare(tmp_path, "first")
    assert configured(tmp_path, "first") == {
        "plan": str(tmp_path / "runs" / "first" / "plan.toml"),
        "out": str(tmp_path / "runs" / "first"),
        "roster": str(tmp_path / "roster.json"),
        "state": str(tmp_path / "state"),
        "up": True,
    }


class SuperLink:
    """What of the Runtime API takes a run's end."""

    ended: PushTaskOutputRequest

    def PushTaskOutput(self, ended: PushTaskOutputRequest) -> None:  # noqa: N802
        self.ended = ended


@pytest.mark.parametrize(
    ("kind", "begins"), [(NoServerError, f"{INTERRUPTED}gone"), (ConfigError, "gone")]
)
def test_a_run_goes_on_after_a_server_that_was_killed_and_after_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[ConfigError], begins: str
) -> None:
    def run(made: Executor, client: object, token: str) -> None:
        raise kind("gone")

    superlink, beats = SuperLink(), SimpleNamespace(start=lambda: None, is_running=False)
    desk = open_desk(tmp_path, datetime.now(UTC), SeededEntropy(0).stream("desk"))
    monkeypatch.setattr(Executor, "_run", run)
    monkeypatch.setattr(Executor, "_client", lambda *_: nullcontext(superlink))
    monkeypatch.setattr(executor, "HeartbeatSender", lambda _: beats)
    Executor(tmp_path, desk.address).perform("token")
    assert superlink.ended.details == begins


@pytest.mark.parametrize("name", ["", ".", "..", "../first", "/etc", "first/", "other", "x" * 65])
def test_another_name_is_no_run(tmp_path: Path, name: str) -> None:
    prepare(tmp_path, "first")
    with pytest.raises(ConfigError, match="is no run here"):
        configured(tmp_path, name)
