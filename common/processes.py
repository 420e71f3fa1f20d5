"""Child processes that are kept alive and stopped: what `up` is, on either side.

The one place in `common` that touches processes, files and a clock, as `common.console` is the
one that touches a terminal: server and client need the same of both and never import each other.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from common.durable import write_atomically
from common.errors import ConfigError
from common.handover import Handover, environment_without_passphrase
from common.waiting import Backoff

log = logging.getLogger("fedprune.up")

TICK_SECONDS = 0.1
GRACE_SECONDS = 12.0
"""Before SIGKILL: Flower's own processes take up to five seconds to leave."""

LOG_BYTES = 8 << 20
LOG_FILES = 3
"""A log is copied to ``NAME.log.1`` at this size and emptied; so many copies are kept."""

OWNER_ONLY = 0o600
OWNER_ONLY_FOLDER = 0o700

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Child:
    """A process by its name, which names its log too, and its command.

    It inherits ``handed`` and starts again whenever that is renewed. ``environment`` is its alone.
    """

    name: str
    command: Sequence[str]
    handed: Handover | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class _Kept:
    """A child as it runs or waits for its next start; times are the clock's seconds."""

    child: Child
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    failures: int = 0


@dataclass
class Supervisor:
    """Starts children in order, restarts those that end, stops them in reverse order.

    ``tick`` is called ten times a second between; it must return at once.
    """

    children: Sequence[Child]
    logs: Path
    environment: Mapping[str, str]
    tick: Callable[[], None] = lambda: None
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    _stopping: bool = field(default=False, init=False)

    def run(self) -> None:
        """Keep the children until SIGTERM or SIGINT; leave none behind, however this ends."""
        before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)
        }
        kept = [_Kept(child) for child in self.children]
        try:
            self.logs.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
            while not self._stopping:
                for one in kept:
                    self._keep(one)
                self.tick()
                time.sleep(TICK_SECONDS)
        finally:
            for one in reversed(kept):
                if one.process is not None:
                    _end(one.process)
                    log.info("%s stopped", one.child.name)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _keep(self, one: _Kept) -> None:
        name, now = one.child.name, self.clock()
        path = self.logs / f"{name}.log"
        handed = one.child.handed
        if handed is not None and handed.renewed() and one.process is not None:
            log.info("%s starts again: its key or a certificate was renewed", name)
            _end(one.process)
            one.process, one.due = None, now
        if one.process is not None and (code := one.process.poll()) is not None:
            # What it has started itself may live on.
            _end(one.process)
            one.process = None
            one.failures, pause = self.backoff.after(one.failures, now - one.started)
            if code == 0:
                one.failures, pause = 0, self.backoff.first
            else:
                said = f"%s ended with {code} after %.0f s, starts again in %.1f s: see %s"
                log.warning(said, name, now - one.started, pause, path)
            one.due = now + pause
        if one.process is None and now >= one.due:
            one.process, one.started = self._start(one.child, path), now
        _rotate(path)

    def _start(self, child: Child, path: Path) -> subprocess.Popen[bytes]:
        # Appending, so that a log emptied below is written from its start again.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, OWNER_ONLY)
        try:
            return subprocess.Popen(  # noqa: S603 - our own commands, no shell
                child.command,
                env={**self.environment, **child.environment},
                pass_fds=() if child.handed is None else (child.handed.handle,),
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        finally:
            os.close(handle)


def flower_environment(home: Path) -> dict[str, str]:
    """Return this process' environment for Flower's processes: their state in ``home``, no calls.

    Without proxies: they would be asked for loopback addresses too. Without the passphrase: who
    needs a key is handed it.
    """
    return environment_without_passphrase() | {
        "FLWR_HOME": str(home / "state" / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1"))),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold ``home`` against a second `up`; raise `ConfigError` if there is one."""
    handle = os.open(_lock(home), os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{home}: `up` runs here already: stop that one first") from None
        yield
    finally:
        os.close(handle)


def is_up(home: Path) -> bool:
    """Say whether an `up` holds ``home``."""
    try:
        with only_one(home):
            return False
    except (ConfigError, OSError):
        return True


def _lock(home: Path) -> Path:
    folder = home / "state"
    folder.mkdir(mode=OWNER_ONLY_FOLDER, exist_ok=True)
    return folder / "up.lock"


def write_secret(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, readable by its owner alone."""
    write_atomically(path, data, OWNER_ONLY)


def _die_with_parent() -> None:
    """Have the kernel stop this process when `up` is killed: its ports must come free."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and its group: by SIGTERM, after the grace by SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _rotate(path: Path) -> None:
    if path.stat().st_size < LOG_BYTES:
        return
    for number in range(LOG_FILES - 1, 0, -1):
        with suppress(FileNotFoundError):
            path.with_name(f"{path.name}.{number}").replace(f"{path}.{number + 1}")
    # Copied, not renamed: the child goes on writing to the file it was given.
    shutil.copy2(path, f"{path}.1")
    os.truncate(path, 0)
