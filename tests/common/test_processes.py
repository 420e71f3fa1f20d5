import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from common import processes
from common.errors import ConfigError
from common.handover import Handover
from common.processes import (
    Child,
    Standing,
    Supervisor,
    flower_environment,
    is_up,
    only_one,
    read_standings,
    write_secret,
)
from common.secret_files import SECRETS
from common.waiting import Backoff

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
QUICK = Backoff(first=0.01, longest=0.02)


def python(name: str, code: str) -> Child:
    return Child(name, (sys.executable, "-c", code))


def keep(
    tmp_path: Path, *children: Child, until: Callable[[], bool], seconds: float = 30.0
) -> list[int]:
    """Supervise until something holds; return the processes there were at that moment."""
    supervisor = Supervisor(children, tmp_path / "logs", os.environ, backoff=QUICK)
    deadline, seen, others = time.monotonic() + seconds, list[int](), set(descendants())

    def tick() -> None:
        if until() or time.monotonic() > deadline:
            seen.extend(set(descendants()) - others)
            signal.raise_signal(signal.SIGTERM)

    supervisor.tick = tick
    supervisor.run()
    assert until(), "not within the time"
    return seen


def descendants() -> list[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(number) for number in listed.split()]


def is_alive(number: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(number, 0)
        return True
    return False


def starts(path: Path) -> int:
    return path.read_text().count("started") if path.exists() else 0


def test_a_child_that_ends_starts_again_and_the_other_goes_on(tmp_path: Path) -> None:
    log, steady = tmp_path / "logs" / "brief.log", tmp_path / "logs" / "steady.log"
    seen = keep(
        tmp_path,
        python("steady", "import time; print('started', flush=True); time.sleep(60)"),
        python("brief", "print('started', flush=True); raise SystemExit(3)"),
        until=lambda: starts(log) >= 3 and starts(steady) == 1,
    )
    assert seen
    assert not any(map(is_alive, seen))
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_child_that_ends_takes_another_along(tmp_path: Path) -> None:
    log, taken = tmp_path / "logs" / "brief.log", tmp_path / "logs" / "taken.log"
    brief = python("brief", "print('started', flush=True); raise SystemExit(3)")
    keep(
        tmp_path,
        python("taken", "import time; print('started', flush=True); time.sleep(60)"),
        replace(brief, takes=("taken",)),
        until=lambda: starts(taken) >= 2 and starts(log) >= 2,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="memfd_create")
def test_a_child_starts_again_by_what_it_is_handed_anew(tmp_path: Path) -> None:
    file, log = tmp_path / "key", tmp_path / "logs" / "reader.log"
    file.write_text("first")
    key = Handover(file.read_bytes, file)
    code = (
        "import os, time; print('started by', open(os.environ['KEY']).read(), flush=True);"
        " time.sleep(60)"
    )
    child = replace(python("reader", code), handed=key, environment={"KEY": key.path})

    def until() -> bool:
        if starts(log) == 1:
            file.write_text("second")
        return starts(log) == 2

    keep(tmp_path, child, until=until)
    assert log.read_text().splitlines() == ["started by first", "started by second"]


def test_a_child_that_ignores_sigterm_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    log = tmp_path / "logs" / "stubborn.log"
    code = (
        f"{STUBBORN}; import subprocess, sys;"
        f" child = subprocess.Popen([sys.executable, '-c', {STUBBORN + '; time.sleep(60)'!r}]);"
        " print('started', child.pid, flush=True); time.sleep(60)"
    )
    keep(tmp_path, python("stubborn", code), until=lambda: starts(log) == 1)
    grandchild = int(log.read_text().split()[-1])
    deadline = time.monotonic() + 10
    # Whoever adopts it takes a moment to bury it.
    while is_alive(grandchild) and not is_zombie(grandchild) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(grandchild) or is_zombie(grandchild)


def test_how_children_stand_is_noted(tmp_path: Path) -> None:
    stands: dict[str, Standing] = {}

    def tick() -> None:
        stands.update(read_standings(tmp_path))
        if stands["brief"].failures >= 2 and stands["steady"].runs:
            signal.raise_signal(signal.SIGTERM)

    children = (python("steady", "import time; time.sleep(60)"), python("brief", "exit(3)"))
    Supervisor(children, tmp_path / "logs", os.environ, tick, QUICK, state=tmp_path).run()
    assert stands["steady"].failures == 0
    assert 0 < stands["steady"].lived < 60
    assert not stands["steady"].runs, "it was stopped"
    assert read_standings(tmp_path / "elsewhere") == {}


def test_a_full_disk_ends_no_child(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "steady.log"
    code = "import time; print('started', flush=True); time.sleep(60)"
    supervisor = Supervisor(
        [python("steady", code)], tmp_path / "logs", os.environ, state=tmp_path / "full"
    )

    def tick() -> None:
        if starts(log):
            signal.raise_signal(signal.SIGTERM)

    supervisor.tick = tick
    supervisor.run()
    assert starts(log) == 1


def test_a_log_that_is_taken_away_ends_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 10)
    log, ticks = tmp_path / "logs" / "steady.log", list[int]()
    code = "import time; print('started', flush=True); time.sleep(60)"

    def until() -> bool:
        if starts(log):
            shutil.rmtree(log.parent)
            ticks.append(0)
        elif ticks:
            ticks.append(1)
        return len(ticks) > 3

    assert len(keep(tmp_path, python("steady", code), until=until)) == 1


def test_a_log_that_cannot_be_copied_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(source: Path, target: str) -> None:
        Path(target).write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(processes, "LOG_BYTES", 10)
    monkeypatch.setattr(shutil, "copy2", full)
    code = "import time; print('started so', flush=True); time.sleep(60)"
    emptied = lambda: "is emptied without a copy: " in caplog.text  # noqa: E731
    keep(tmp_path, python("steady", code), until=emptied)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["steady.log"]
    assert (tmp_path / "logs" / "steady.log").stat().st_size == 0


def test_a_child_that_cannot_be_started_ends_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "logs" / "steady.log"
    missing = Child("missing", (str(tmp_path / "missing"),))
    steady = python("steady", "import time; print('started', flush=True); time.sleep(60)")
    said = "missing does not start, is tried again in "
    keep(tmp_path, missing, steady, until=lambda: caplog.text.count(said) > 1 and starts(log) == 1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_children_are_told_no_secret_but_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "open sesame")
        monkeypatch.setenv(name + "_FILE", "open sesame")
    log = tmp_path / "logs" / "told.log"
    mark = "of this test"
    told = python("told", f"import time; print('started', flush=True); time.sleep(60)  # {mark}")
    trusted = replace(told, name="trusted", environment={SECRETS[1]: "open sesame"})
    supervisor = Supervisor([trusted, told], tmp_path / "logs", flower_environment(tmp_path))
    seen: list[int] = []

    def tick() -> None:
        if starts(log):
            # What an earlier test left to this process is none of them.
            processes = [Path(f"/proc/{number}") for number in descendants()]
            seen.extend(
                process.joinpath("environ").read_bytes().count(b"open sesame")
                for process in processes
                if mark.encode() in process.joinpath("cmdline").read_bytes()
            )
            signal.raise_signal(signal.SIGTERM)

    supervisor.tick = tick
    supervisor.run()
    assert sorted(seen) == [0, 1]


def is_zombie(number: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 1000)
    log, copies = tmp_path / "logs" / "loud.log", tmp_path / "logs"
    code = "import time\nwhile True: print('started' * 100, flush=True); time.sleep(0.01)"
    keep(tmp_path, python("loud", code), until=(copies / "loud.log.3").exists)
    assert sorted(path.name for path in copies.iterdir()) == [
        "loud.log",
        "loud.log.1",
        "loud.log.2",
        "loud.log.3",
    ]
    assert log.stat().st_size < (copies / "loud.log.1").stat().st_size * 100


def test_a_home_has_one_up(tmp_path: Path) -> None:
    assert not is_up(tmp_path)
    with only_one(tmp_path):
        assert is_up(tmp_path)
        with pytest.raises(ConfigError, match="`up` runs here already"), only_one(tmp_path):
            pass
    assert not is_up(tmp_path)


def test_a_secret_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_secret(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_child_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from common.processes import *;"
        " sleeper = Child('sleeper', (sys.executable, '-c',"
        " 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'));"
        f" Supervisor([sleeper], Path({str(tmp_path)!r}), os.environ).run()"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    log, deadline = tmp_path / "sleeper.log", time.monotonic() + 30
    while not (log.exists() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    sleeper = int(log.read_text())
    assert is_alive(sleeper)
    supervisor.kill()
    supervisor.wait()
    while is_alive(sleeper) and not is_zombie(sleeper) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(sleeper) or is_zombie(sleeper)
