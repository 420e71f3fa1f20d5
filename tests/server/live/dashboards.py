"""A dashboard as people start it."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.commands import ROOT

WAIT_SECONDS = 60


@contextmanager
def dashboard(home: Path, *options: str, **environment: str) -> Iterator[str]:
    """Yield the address that a dashboard prints; require that SIGTERM ends it."""
    command = (sys.executable, "-m", "server.cli", "dashboard", "--home", str(home), *options)
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        assert process.stderr is not None
        try:
            said = ""
            while "live view: " not in said:
                ready, _, _ = select.select([process.stderr], [], [], WAIT_SECONDS)
                assert ready, said
                line = process.stderr.readline()
                assert line, said
                said += line
            yield said.rpartition("live view: ")[2].strip()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_SECONDS) == -signal.SIGTERM
