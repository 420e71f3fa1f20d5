"""A federation of four that was founded, approved a plan, ran to its end and may be released."""

import shutil
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from client.app import build_app
from client.config import load_institution
from client.stages import Institution
from common.consent.agreement import mark_of
from common.release.standing import read_release
from common.trail.events import Event
from common.trail.examination import read
from common.trail.file import files_of
from server.app import OUT_KEY, PLAN_KEY, ROSTER_KEY, STATE_KEY, app
from server.exchange import Exchange
from server.home import ServerHome
from server.release_app import Reached, hand_round
from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from tests.commands import ROOT, Outcome
from tests.founding import NAMES, Federation, found, good

RUN = "first"
SECONDS = 2.0


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Have fedprune look installed, as a bill of materials wants it, where it only lies here."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            distribution("fedprune")
        except PackageNotFoundError:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            lines = ["Metadata-Version: 2.4", "Name: fedprune", f"Version: {project['version']}"]
            lines += [f"Requires-Dist: {needed}" for needed in project["dependencies"]]
            made = folder / "fedprune.dist-info"
            made.mkdir(parents=True)
            (made / "METADATA").write_text("\n".join(lines) + "\n")
            patch.syspath_prepend(folder)
        yield


def finished(path: Path) -> Federation:
    """Found a federation, train two rounds, and leave the run's directory as it is then."""
    federation = found(path)
    federation.publish(2, training={"rounds": 2, "steps": 2, "sample_rate": 0.2})
    federation.approve(*NAMES)
    home = federation.server
    paths = {
        PLAN_KEY: home / "plan.toml",
        ROSTER_KEY: home / "roster.json",
        OUT_KEY: home / "runs" / RUN,
        STATE_KEY: home / "state",
    }
    config = {key: str(path) for key, path in paths.items()}
    grid = grid_of(federation, NAMES)
    app(grid, Context(RUN_ID, SERVER_NODE, {}, RecordDict(), dict(config)))
    return federation


def grid_of(federation: Federation, names: Sequence[str]) -> InProcessGrid:
    """Return a grid on which these institutions are connected, opened anew."""
    opened: dict[int, Institution] = {
        SERVER_NODE + 1 + place: load_institution(federation.at(name) / "client.toml")
        for place, name in enumerate(names)
    }
    return InProcessGrid(build_app(lambda context: opened[context.node_id]), opened)


def handed(federation: Federation, *names: str) -> Reached:
    """Hand the release round to the institutions that are connected, all by default."""
    home = ServerHome(federation.server)
    grid = grid_of(federation, names or NAMES)
    return hand_round(home, RUN, Exchange(grid, SECONDS, trail=home.trail))


def release(federation: Federation, name: str, command: str, *arguments: object) -> Outcome:
    """Type a command on releases, at the server or an institution."""
    if name in ("server", "bob"):
        return federation.operate("release", command, *arguments, home=name)
    return federation.do(name, "release", command, *arguments)


def mark_at(federation: Federation, name: str) -> str:
    """Return by what a person names the release that lies there."""
    file = federation.at(name) / "releases" / RUN / "release.json"
    return mark_of(read_release(file.read_bytes()).digest)


def sign_off(federation: Federation, *names: str) -> None:
    for name in names:
        good(release(federation, name, "sign-off", RUN, mark_at(federation, name)))


def noted(home: Path) -> list[Event]:
    """Return what a home's log tells."""
    return [line.event for line in read(files_of(home / "audit")).lines]


def copy_of(federation: Federation, name: str) -> Path:
    """Return a copy of a release's folder, as somebody carries it."""
    source = federation.at(name) / "releases" / RUN
    target = federation.path / "carried"
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))
