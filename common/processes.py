"""Child processes that are kept alive and stopped: what `up` is, on either side.

The one place in `common` that touches processes, files and a clock, as `common.console` is the
one that touches a terminal: server and client need the same of both and never import each other.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from common.durable import OWNER_ONLY, write_atomically
from common.errors import ConfigError, DiskError
from common.handover import Handover, environment_without_secrets
from common.waiting import Backoff

log = logging.getLogger("fedprune.up")

TICK_SECONDS = 0.1
LOOKS = 10
"""At a lock before it is said to be held: whoever asks for an `up` holds it for an instant."""
GRACE_SECONDS = 12.0
"""Before SIGKILL: Flower's own processes take up to five seconds to leave."""

LOG_BYTES = 8 << 20
LOG_FILES = 3
"""A log is copied to ``NAME.log.1`` at this size and emptied; so many copies are kept."""

STANDINGS = "processes.json"
"""In ``state/``: how the children stand, for whoever tells of them."""

OWNER_ONLY_FOLDER = 0o700

_PRESENCE = ".ready"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Child:
    """A process by its name, which names its log too, and its command.

    ``takes`` names children that are started anew whenever this one has ended by itself. It
    inherits ``handed`` and starts again whenever that is renewed. ``environment`` is its alone.
    """

    name: str
    command: Sequence[str]
    takes: tuple[str, ...] = ()
    handed: Handover | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Standing:
    """How a child stands: its process, if there is one, and its early ends in a row before.

    ``started`` is of the system's monotonic clock, which all processes share.
    """

    process: int | None
    failures: int
    started: float

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        try:
            return self.process is not None and os.getsid(self.process) == self.process
        except ProcessLookupError:
            return False

    @property
    def lived(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.started


@dataclass
class _Kept:
    """A child as it runs or waits for its next start; times are the clock's seconds."""

    child: Child
    process: subprocess.Popen[bytes] | None = None
    log: int | None = None
    started: float = 0.0
    due: float = 0.0
    failures: int = 0

    @property
    def standing(self) -> Standing:
        number = None if self.process is None else self.process.pid
        return Standing(number, self.failures, self.started)


@dataclass
class Supervisor:
    """Starts children in order, restarts those that end, stops them in reverse order.

    ``tick`` is called ten times a second between; it must return at once. How the children
    stand is noted in the folder ``state``, if there is one.
    """

    children: Sequence[Child]
    logs: Path
    environment: Mapping[str, str]
    tick: Callable[[], None] = lambda: None
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    state: Path | None = None
    _stopping: bool = field(default=False, init=False)
    _noted: dict[str, Standing] = field(default_factory=dict, init=False)

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
                    for name in self._keep(one):
                        self._restart(next(other for other in kept if other.child.name == name))
                self._note({one.child.name: one.standing for one in kept})
                self.tick()
                time.sleep(TICK_SECONDS)
        finally:
            for one in reversed(kept):
                if one.process is not None:
                    _end(one.process)
                    log.info("%s stopped", one.child.name)
                if one.log is not None:
                    os.close(one.log)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _restart(self, one: _Kept) -> None:
        if one.process is not None:
            _end(one.process)
            one.process, one.due = None, self.clock()
            log.info("%s starts again too", one.child.name)

    def _note(self, standings: dict[str, Standing]) -> None:
        if self.state is None or standings == self._noted:
            return
        fields = {name: asdict(standing) for name, standing in standings.items()}
        # A full disk must not end what it lets run.
        with suppress(DiskError):
            write_secret(self.state / STANDINGS, json.dumps(fields).encode())
            self._noted = standings

    def _keep(self, one: _Kept) -> tuple[str, ...]:
        """Start or restart a child that is due; return who is to start again for its end."""
        name, now, ended = one.child.name, self.clock(), False
        path = self.logs / f"{name}.log"
        handed = one.child.handed
        if handed is not None and handed.renewed() and one.process is not None:
            log.info("%s starts again: its key or a certificate was renewed", name)
            _end(one.process)
            one.process, one.due = None, now
        if one.process is not None and (code := one.process.poll()) is not None:
            # What it has started itself may live on.
            _end(one.process)
            one.process, ended = None, True
            one.failures, pause = self.backoff.after(one.failures, now - one.started)
            if code == 0:
                one.failures, pause = 0, self.backoff.first
            else:
                said = f"%s ended with {code} after %.0f s, starts again in %.1f s: see %s"
                log.warning(said, name, now - one.started, pause, path)
            one.due = now + pause
        if one.process is None and now >= one.due:
            one.started = now
            try:
                self._start(one, path)
            except (OSError, subprocess.SubprocessError) as error:
                # A full disk, too many files: what passes must not end the others.
                one.failures, pause = self.backoff.after(one.failures, 0.0)
                log.warning("%s does not start, is tried again in %.1f s: %s", name, pause, error)
                one.due = now + pause
        if one.log is not None:
            _rotate(path, one.log)
        return one.child.takes if ended else ()

    def _start(self, one: _Kept, path: Path) -> None:
        if one.log is not None:
            os.close(one.log)
            one.log = None
        self.logs.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
        # Appending, so that a log emptied below is written from its start again.
        one.log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, OWNER_ONLY)
        child = one.child
        one.process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            child.command,
            env={**self.environment, **child.environment},
            pass_fds=() if child.handed is None else (child.handed.handle,),
            stdin=subprocess.DEVNULL,
            stdout=one.log,
            stderr=one.log,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
        )


def flower_environment(home: Path) -> dict[str, str]:
    """Return this process' environment for Flower's processes: their state in ``home``, no calls.

    Without proxies: they would be asked for loopback addresses too. Without secrets: who
    needs one is handed it.
    """
    return environment_without_secrets() | {
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
        if not _locked(handle):
            raise ConfigError(f"{home}: `up` runs here already: stop that one first")
        yield
    finally:
        os.close(handle)


def is_up(home: Path) -> bool:
    """Say whether an `up` holds ``home``."""
    try:
        handle = os.open(_lock(home), os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    except OSError:
        return True
    try:
        # Shared, so that of two who look neither is taken for an `up`.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _locked(handle: int) -> bool:
    """Take a lock that whoever looks holds for an instant."""
    for attempt in range(LOOKS):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(TICK_SECONDS * (attempt < LOOKS - 1))
        else:
            return True
    return False


def read_standings(state: Path) -> dict[str, Standing]:
    """Return how the children of an `up` stand, by its own note; none if there is no note."""
    try:
        fields = json.loads((state / STANDINGS).read_bytes())
    except FileNotFoundError:
        return {}
    return {name: Standing(**standing) for name, standing in fields.items()}


class Presence:
    """A process' word that it is ready, which the kernel takes back when it ends.

    A lock on a file: nothing has to be written, and nothing is left of a process that was killed.
    """

    def __init__(self, path: Path) -> None:
        """Tell nothing yet."""
        file = path.with_name(path.name + _PRESENCE)
        # Open as long as the process lives.
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT, OWNER_ONLY)

    def tell(self, *, present: bool) -> None:
        """Say so from now on, until the opposite is said."""
        # Whoever looks holds the lock for an instant: it is waited for.
        fcntl.flock(self._handle, fcntl.LOCK_EX if present else fcntl.LOCK_UN)


def is_present(path: Path) -> bool:
    """Say whether a process tells its `Presence` at ``path``."""
    try:
        with path.with_name(path.name + _PRESENCE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


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


def _rotate(path: Path, handle: int) -> None:
    """Copy a log that is full and empty it, whatever became of its name or its disk."""
    if os.fstat(handle).st_size < LOG_BYTES:
        return
    try:
        for number in range(LOG_FILES - 1, 0, -1):
            with suppress(FileNotFoundError):
                path.with_name(f"{path.name}.{number}").replace(f"{path}.{number + 1}")
        # Copied, not renamed: the child goes on writing to the file it was given.
        shutil.copy2(path, f"{path}.1")
    except OSError as error:
        log.warning("%s is emptied without a copy: %s", path, error)
        with suppress(OSError):
            Path(f"{path}.1").unlink()  # Half of one, on a full disk.
    os.ftruncate(handle, 0)
