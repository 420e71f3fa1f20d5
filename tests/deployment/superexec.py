"""Flower's SuperExec, forking each ClientApp process from one that has imported what they share.

The stock one starts a Python for each of an institution's 17 messages, and imports would take
nine tenths of the test. A fork still has a state of its own, which only Flower's context
outlives, and loads the app from the archive that the SuperLink sent.
"""

import os
import signal
import sys
from types import SimpleNamespace

import opacus  # noqa: F401
import pandera.pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401
from flwr.supercore.cli import flower_superexec
from flwr.supercore.superexec.executor import subprocess_executor
from flwr.supernode.cli import flwr_clientapp


def fork(command: list[str]) -> None:
    """Do what the process that ``command`` names would do."""
    if os.fork():
        return
    code: object = 1
    try:
        sys.argv = command
        flwr_clientapp()
    except SystemExit as end:
        code = end.code
    finally:
        os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for the forks.
    vars(subprocess_executor)["subprocess"] = SimpleNamespace(Popen=fork)
    flower_superexec()
