"""A whole federation on this machine, as `make federation` runs it: founded, run, taken down."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.commands import ROOT
from tests.deployment.federation import await_health, environment, found, make_plan, tails, up

RUN = "loopback"


def operate(home: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run `fedprune-server` on the directory ``home``."""
    return subprocess.run(
        (sys.executable, "-m", "server.cli", *map(str, arguments), "--home", str(home)),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def main(folder: Path) -> None:
    """Train and prune with three institutions on the embedded data."""
    federation = found(folder, make_plan())
    server = federation.server
    homes = [("client.cli", federation.institution(name)) for name in federation.plan.names]
    with up(("server.cli", server)):
        await_health(federation)
        with up(*homes):
            ended = operate(server, "start", "--wait", "--run", RUN)
            print(operate(server, "status").stdout)
            if ended.returncode:
                raise SystemExit(ended.stderr + tails(server))
    print((server / "runs" / RUN / "rounds.csv").read_text())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
