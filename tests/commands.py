"""The commands as a person types them, and a federation small enough to run in a second."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tomli_w

from common.plan import Plan, plan_from_dict

ROOT = Path(__file__).resolve().parents[1]
FIELDS: dict[str, Any] = {
    "name": "trial",
    "schema": "credit_consortium",
    "institutions": [
        {"name": "ash", "size": 2600},
        {"name": "birch", "size": 5100},
        {"name": "cedar", "size": 1300},
    ],
    "model": {"hidden": [8]},
    "training": {"rounds": 4, "steps": 2, "sample_rate": 0.1},
    "privacy": {"epsilon": 2.0, "accountant": "rdp"},
    "pruning": {"sparsity": 0.6, "start": 0.0, "end": 0.7},
    "evaluation": {"rounds": 2, "bins": 20},
}


def trial_fields(**sections: Any) -> dict[str, Any]:
    """Return the plan's fields; a mapping is merged into its section, all else replaces it."""
    merged = {
        name: FIELDS.get(name, {}) | value if isinstance(value, Mapping) else value
        for name, value in sections.items()
    }
    return FIELDS | merged


def trial_plan(**sections: Any) -> Plan:
    """Return a plan of three embedded institutions that trains in well under a second."""
    return plan_from_dict(trial_fields(**sections))


def trial_file(folder: Path, **sections: Any) -> Path:
    """Write the plan's fields to a file in ``folder``."""
    path = folder / "trial.toml"
    path.write_text(tomli_w.dumps(trial_fields(**sections)))
    return path


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """Return the only line of standard error, without its ``error: ``."""
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    @property
    def summary(self) -> dict[str, Any]:
        """Return the JSON in the last line of standard output."""
        fields: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return fields


def invoke(main: Callable[[], None], *arguments: object) -> Outcome:
    """Run an entry point in this process, its log handlers kept from the other tests."""
    out, err = StringIO(), StringIO()
    with (
        patch.object(sys, "argv", ["command", *map(str, arguments)]),
        patch.object(logging.root, "handlers", []),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


def spawn(module: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start a command in a process of its own.

    Whoever starts the tests in the background has them, and so their children, ignore Ctrl-C.
    """
    start = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f" runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]", timeout: float = 120) -> Outcome:
    """Wait for a process and return how it ended."""
    out, err = process.communicate(timeout=timeout)
    return Outcome(process.returncode, out, err)
