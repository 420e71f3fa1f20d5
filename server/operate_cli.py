"""`fedprune-server up|start|resume|status|stop|logs|doctor|healthcheck`: from day to day."""

import csv
import re
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from common.console import (
    HERE,
    AsJson,
    Home,
    errors,
    printable,
    progress_bars,
    show_table,
    tell_json,
)
from common.errors import ConfigError, FedpruneError
from common.homes import SERVER, require_home, require_own
from common.plan import load_draft, load_plan

POLL_SECONDS = 0.5
PLAN = "plan.toml"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def add_commands(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    commands = (up, start, resume, status, stop, logs, doctor, healthcheck)
    for command in commands:
        app.command()(command)


def up(home: Home = HERE) -> None:
    """Run SuperLink, the public port and the executor until SIGTERM or Ctrl-C."""
    from server.up import up as supervise  # noqa: PLC0415 - Flower takes a second to import

    require_home(home, SERVER)
    supervise(home)


def start(
    plan: Annotated[
        Path | None, typer.Argument(help="Plan file [default: HOME/plan.toml].")
    ] = None,
    home: Home = HERE,
    run: Annotated[str, typer.Option(help="Name of the run's directory below runs/.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the run.")] = False,
) -> None:
    """Start a run of a plan on the server that is up."""
    from server.desk import RUN_NAME, find_desk  # noqa: PLC0415

    require_home(home, SERVER)
    agreed = load_draft(plan or home / PLAN)
    find_desk(home)
    name = run or f"{agreed.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if not RUN_NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a run: up to 64 letters, digits, '_', '.', '-'")
    folder = home / "runs" / name
    if folder.exists():
        raise ConfigError(f"{folder}: exists: name another run, or resume this one")
    folder.mkdir(parents=True)
    (folder / PLAN).write_text(agreed.to_toml())
    errors.print(f"plan {agreed.digest()}", markup=False)
    _begin(home, name, wait=wait)


def resume(
    run: Annotated[str, typer.Argument(help="Name of the run's directory below runs/.")],
    home: Home = HERE,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the run.")] = False,
) -> None:
    """Go on with a run that ended before its last round, after the last finished one."""
    from server import control, recovery  # noqa: PLC0415
    from server.desk import RUN_NAME, find_desk  # noqa: PLC0415

    desk, folder = find_desk(home), home / "runs" / run
    if not RUN_NAME.fullmatch(run) or not (folder / PLAN).is_file():
        raise ConfigError(f"{run!r} is no run here: see `fedprune-server status`")
    control.await_superlink(desk)
    with control.at(desk) as superlink:
        tries = recovery.tries_of(control.runs(superlink)).get(run)
    match tries and recovery.standing_of(tries, folder):
        case recovery.Standing.COMPLETED:
            raise ConfigError(f"run {run} is complete: start another one")
        case recovery.Standing.GOING:
            raise ConfigError(f"run {run} goes on: `fedprune-server stop {run}` first")
    _begin(home, run, wait=wait)


def _begin(home: Path, name: str, *, wait: bool) -> None:
    """Start the run of a directory; its record says whether anew or from where it was left."""
    from server import control, recovery  # noqa: PLC0415
    from server.desk import find_desk  # noqa: PLC0415

    desk = find_desk(home)
    control.await_superlink(desk)
    with control.at(desk) as superlink:
        control.start_run(superlink, name)
    typer.echo(name)
    if not wait:
        return
    folder = home / "runs" / name
    with progress_bars() as progress:
        # The last round is an evaluation alone.
        total = load_plan(folder / PLAN).training.rounds + 1
        bar = progress.add_task("rounds", total=total, state="")
        while True:
            control.await_superlink(desk)
            with control.at(desk) as superlink:
                tries = recovery.tries_of(control.runs(superlink))[name]
            match recovery.standing_of(tries, folder):
                case recovery.Standing.COMPLETED:
                    return
                case recovery.Standing.WAITING:
                    last = tries[-1]
                    raise FedpruneError(
                        f"run {name}: {last.outcome}: {last.details};"
                        f" to go on: fedprune-server resume {name}"
                    )
            progress.update(bar, completed=_rounds(home, name), state=tries[-1].status)
            time.sleep(POLL_SECONDS)


def status(home: Home = HERE, as_json: AsJson = False) -> None:
    """Show which institutions are connected, and how far each run is."""
    from server import control, recovery  # noqa: PLC0415
    from server.awaited import awaited  # noqa: PLC0415
    from server.desk import find_desk, offered_run  # noqa: PLC0415

    with control.at(find_desk(home)) as superlink:
        nodes = control.nodes(superlink)
        runs = [one for one in control.runs(superlink) if offered_run(one.name) is None]
    institutions = [
        {
            "institution": node.name,
            "connection": node.status,
            "since": (
                node.last_activated_at if node.status == control.ONLINE else node.registered_at
            )[:19],
        }
        for node in sorted(nodes, key=lambda node: node.name)
    ]
    shown, notes = [], []
    for name, tries in recovery.tries_of(runs).items():
        last, folder = tries[-1], home / "runs" / name
        standing = recovery.standing_of(tries, folder)
        state = f"{last.status} {last.outcome}".strip()
        if standing is recovery.Standing.COMPLETED:
            state = f"{control.FINISHED} {control.COMPLETED}"
        elif last.details:
            notes.append(f"{name}: {last.details}")
        if standing is recovery.Standing.AGAIN:
            notes.append(f"{name}: goes on by itself")
        elif standing is recovery.Standing.WAITING:
            notes.append(f"{name}: to go on: fedprune-server resume {name}")
        elif standing is recovery.Standing.GOING and (missing := awaited(home / "state", name)):
            notes.append(f"{name}: waiting for: {missing}")
        began = tries[0].began[:19]
        shown.append({"run": name, "state": state, "rounds": _rounds(home, name), "began": began})
    if as_json:
        tell_json({"institutions": institutions, "runs": shown, "notes": notes})
        return
    members = Table("institution", "connection", "since")
    for member in institutions:
        members.add_row(*member.values())
    show_table(members)
    runs_shown = Table("run", "state", "rounds", "began")
    for one in shown:
        runs_shown.add_row(*map(str, one.values()))
    show_table(runs_shown)
    for line in notes:
        typer.echo(printable(line))


def stop(
    run: Annotated[str, typer.Argument(help="The run [default: all that go on].")] = "",
    home: Home = HERE,
) -> None:
    """Stop runs; the server stays up."""
    from server import control  # noqa: PLC0415
    from server.desk import find_desk  # noqa: PLC0415

    with control.at(find_desk(home)) as superlink:
        going = [one for one in control.runs(superlink) if not one.finished]
        chosen = [one for one in going if run in ("", one.name)]
        if not chosen:
            raise ConfigError(f"no run {run or 'at all'} goes on: see `fedprune-server status`")
        for one in chosen:
            control.stop_run(superlink, one.number)
            typer.echo(one.name)


def logs(
    name: Annotated[str, typer.Argument(help="A process, such as superlink.")] = "serverapp",
    home: Home = HERE,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many.")] = 40,
) -> None:
    """Show the end of a process' log."""
    known = sorted(path.stem for path in (home / "logs").glob("*.log"))
    if name not in known:
        raise ConfigError(f"no log {name!r}; known: {', '.join(known) or 'none yet'}")
    with (home / "logs" / f"{name}.log").open(errors="replace") as file:
        for line in deque(file, lines):
            # Colours go; whatever else steers a terminal becomes blank.
            typer.echo(printable(_COLOUR.sub("", line.rstrip("\n"))))


def doctor(
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Check certificates, keys, disk, port and versions, and say what to do."""
    from common.checkup import show  # noqa: PLC0415
    from server.doctor import examine  # noqa: PLC0415

    require_own(home, SERVER)
    show(examine(home, datetime.now(UTC)), as_json=as_json)


def healthcheck(home: Home = HERE) -> None:
    """Ask `up` by gRPC whether the server is well; end with 1 if it is not."""
    from common.status import check  # noqa: PLC0415 - gRPC, which no other command needs

    check(home)
    typer.echo("healthy")


def _rounds(home: Path, name: str) -> int:
    path = home / "runs" / name / "rounds.csv"
    if not name or not path.is_file():
        return 0
    with path.open(newline="") as file:
        return sum(1 for _ in csv.DictReader(file))
