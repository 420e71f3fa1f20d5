import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.entropy import SeededEntropy
from common.errors import ConfigError
from common.processes import GRACE_SECONDS
from server.desk import open_desk
from server.executor import configured


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
    }


@pytest.mark.parametrize("name", ["", ".", "..", "../first", "/etc", "first/", "other", "x" * 65])
def test_another_name_is_no_run(tmp_path: Path, name: str) -> None:
    prepare(tmp_path, "first")
    with pytest.raises(ConfigError, match="is no run here"):
        configured(tmp_path, name)
