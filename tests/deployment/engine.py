"""Flower's own engine on loopback, for as long as a test needs it.

Every process starts a group of its own and writes its log under the test's directory, where
each also has its own Flower home: SuperNodes that shared one would unpack the app over each
other. Leaving the ``with`` block ends the groups, and raises if anything outlives that; an
exception that leaves it carries the end of every log as a note.
"""

import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import ProxyHandler, build_opener

ROOT = Path(__file__).resolve().parents[2]
SUPERLINK = "superlink"
CONNECTION = "loopback"
START_SECONDS = 30.0
STOP_SECONDS = 5.0
TAIL_LINES = 40
PORTS = range(20_000, 30_000)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: Flower's status ("finished:completed") and the ServerApp's log."""

    status: str
    log: str


class Engine:
    """A SuperLink, SuperNodes that join it, and runs of this project on them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._address = f"127.0.0.1:{_free_port()}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.push(self)
            self._start_superlink()
            stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        if error is not None:
            error.add_note(self._tails())

    def _start_superlink(self) -> None:
        host, _, port = self._address.partition(":")
        self._start(
            SUPERLINK,
            *("flower-superlink", "--insecure", "--host", host, "--port", port),
            "--disable-runtime-dependency-installation",
        )
        opener = build_opener(ProxyHandler({}))
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._processes[SUPERLINK].poll() is None:
            with suppress(OSError):
                opener.open(f"http://{self._address}/health", timeout=1).close()
                return
            time.sleep(0.1)
        raise AssertionError(f"no SuperLink after {START_SECONDS:g} s")

    def start_supernode(self, name: str, client_file: Path, *, stock: bool = False) -> None:
        """Start the SuperNode of an institution, as Flower ships it or made fast for many trips."""
        port = str(_free_port())
        arguments = (
            *("--insecure", "--superlink", self._address, "--port", port),
            *("--node-config", f'client-file="{client_file}"'),
        )
        if stock:
            self._start(name, "flower-supernode", *arguments)
            return
        self._start(name, *_script("supernode"), *arguments, "--isolation", "process")
        executor = ("--insecure", "--runtime-api-address", f"127.0.0.1:{port}")
        self._start(f"{name}-superexec", *_script("superexec"), *executor)

    def run(self, plan: Path, roster: Path, out: Path, seconds: float) -> Ended:
        """Run the project as an operator does and wait for the end, ``seconds`` at most."""
        home = self._home("operator")
        home.joinpath("config.toml").write_text(
            f'[superlink.{CONNECTION}]\naddress = "{self._address}"\ninsecure = true\n'
        )
        log = self._flwr(
            *("run", str(ROOT), CONNECTION, "--stream"),
            *("--run-config", f'plan="{plan}" roster="{roster}" out="{out}"'),
            seconds=seconds,
        )
        listed = json.loads(self._flwr("ls", CONNECTION, "--format", "json", seconds=START_SECONDS))
        (run,) = listed["runs"]
        return Ended(run["status"], log)

    def _flwr(self, *arguments: str, seconds: float) -> str:
        done = subprocess.run(
            ("flwr", *arguments),
            check=False,
            env=self._environment("operator"),
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _tails(self) -> str:
        return "\n".join(
            f"--- {name}\n" + "\n".join(self._log(name).read_text().splitlines()[-TAIL_LINES:])
            for name in self._processes
        )

    def _start(self, name: str, *command: str) -> None:
        with self._log(name).open("wb") as log:
            # Every descendant keeps the log open, and with it this lock.
            fcntl.flock(log, fcntl.LOCK_EX)
            self._processes[name] = subprocess.Popen(
                command,
                env=self._environment(name),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _stop(self) -> None:
        """End the SuperNodes, then the SuperLink that they sign off from."""
        nodes = [name for name in self._processes if name != SUPERLINK]
        for names in (nodes, [SUPERLINK]):
            for sent in (signal.SIGTERM, signal.SIGKILL):
                self._end([name for name in names if not self._is_gone(name)], sent)
        left = [name for name in self._processes if not self._is_gone(name)]
        assert not left, f"processes of {', '.join(left)} outlive SIGKILL"
        for process in self._processes.values():
            process.wait()

    def _end(self, names: list[str], sent: signal.Signals) -> None:
        for name in names:
            with suppress(ProcessLookupError):
                os.killpg(self._processes[name].pid, sent)
        deadline = time.monotonic() + STOP_SECONDS
        while not all(map(self._is_gone, names)) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _is_gone(self, name: str) -> bool:
        with self._log(name).open("rb") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def _home(self, name: str) -> Path:
        home = self._directory / "homes" / name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def _environment(self, name: str) -> dict[str, str]:
        # PYTHONPATH would hide a module that the shipped archive lacks.
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        # Flower starts its executables by name.
        executables = Path(sys.executable).parent
        return kept | {
            "PATH": f"{executables}{os.pathsep}{kept.get('PATH', os.defpath)}",
            "NO_PROXY": "127.0.0.1",
            "FLWR_HOME": str(self._home(name)),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.25",
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }


def _script(name: str) -> tuple[str, str]:
    return sys.executable, str(Path(__file__).with_name(f"{name}.py"))


def _free_port() -> int:
    """Return a port below those that the kernel hands to outgoing connections."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port from {PORTS[0]} to {PORTS[-1]} is free")
