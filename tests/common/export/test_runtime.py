"""onnxruntime is told to send nothing before its library is there to be told."""

import subprocess
import sys

from tests.commands import ROOT

ORDER = """
import os, sys

class Watch:
    def find_spec(self, name, *rest):
        if name == "onnxruntime":
            assert os.environ["ORT_DISABLE_TELEMETRY"] == "1", "too late"
            print("in time")

sys.meta_path.insert(0, Watch())
import {module}
"""


def test_it_is_told_before_it_starts_by_whoever_uses_it() -> None:
    for module in ("server.latency", "client.scorer"):
        done = subprocess.run(
            (sys.executable, "-c", ORDER.format(module=module)),
            cwd=ROOT,
            env={"PATH": "/usr/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "in time\n", done.stderr
