"""`fedprune-server release offer|collect|accept|list|show|verify|withdraw`."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from common.consent.acts import Proposal
from common.console import HERE, AsJson, new_app, printable, show_table, tell, tell_json
from common.errors import ConfigError, FedpruneError
from common.parsing import read_bytes
from common.release.kept import Kept
from common.release.manifest import Withdrawal
from common.release.refusals import NoReleaseError
from common.release.verdict import Verdict
from common.release.words import manifest_facts, release_fields, standing_facts
from common.trail.interface import refusals_noted
from server.founding_cli import propose
from server.home import ServerHome
from server.releases import folder_of, open_release, released_runs, take_verdict

POLL_SECONDS = 0.3

REACH = ("holds", "absent", "refused")
"""Whom a release reached, as `server.release_app` notes it."""

Home = Annotated[Path, typer.Option("--home", help="The server's folder.")]
Run = Annotated[str, typer.Argument(help="The run, as `fedprune-server status` names it.")]

app = new_app("Finished models: signed by operators, signed off by institutions.")


@app.command()
def offer(
    run: Run,
    anew: Annotated[
        bool, typer.Option("--anew", help="Release it once more, in place of an earlier release.")
    ] = False,
    home: Home = HERE,
) -> None:
    """Release a finished run's model: sign its manifest, then hand it to the institutions.

    As for every act, as many operators must sign as the plan says. The release is final once as
    many institutions have signed it off as the plan's [release] says.
    """
    place = ServerHome(home)
    if anew or not _released(place, run):
        # The accountants and ONNX cost seconds, which the other commands do without.
        from server.releasing import propose_release  # noqa: PLC0415

        with refusals_noted(place.trail, f"release of {run}"):
            proposal = propose_release(place, run, int(time.time()))
        if not propose(place, proposal, f"release-{run}"):
            return
    _hand_round(place, run)


@app.command()
def collect(run: Run, home: Home = HERE) -> None:
    """Ask institutions for what their people have signed since, and tell them what others have."""
    place = ServerHome(home)
    open_release(place, run)
    _hand_round(place, run)


@app.command()
def accept(
    file: Annotated[Path, typer.Argument(help="An institution's verdict.json.")],
    home: Home = HERE,
) -> None:
    """Take a sign-off or objection that came as a file."""
    place, verdict = ServerHome(home), Verdict.from_bytes(read_bytes(file))
    with refusals_noted(place.trail, f"word of {verdict.name} on a release"):
        standing = take_verdict(place, verdict)
    tell(standing_facts(standing))


@app.command(name="list")
def list_releases(as_json: AsJson = False, home: Home = HERE) -> None:
    """List releases, and where each stands."""
    place = ServerHome(home)
    found = [open_release(place, run) for run in released_runs(place)]
    if as_json:
        tell_json([release_fields(release) for release in found])
        return
    columns = ("run", "release", "made", "state", "signed off", "objected")
    table = Table(*columns, title=place.settings.name)
    for release in found:
        standing, made = release.standing, datetime.fromtimestamp(release.manifest.made, UTC)
        table.add_row(
            release.manifest.run,
            str(release.manifest.number),
            f"{made:%Y-%m-%d %H:%M}",
            standing.state,
            f"{len(standing.signed)} of {standing.quorum}",
            str(len(standing.objected)),
        )
    show_table(table)


@app.command()
def show(run: Run, as_json: AsJson = False, home: Home = HERE) -> None:
    """Show a release's manifest, who has said what of it, and who holds it."""
    release = open_release(ServerHome(home), run)
    if as_json:
        # None of each until it was handed round.
        tell_json(release_fields(release) | dict.fromkeys(REACH) | _reached(release))
        return
    tell([*manifest_facts(release.manifest), *standing_facts(release.standing)])
    _tell_reached(release)


@app.command()
def verify(run: Run, home: Home = HERE) -> None:
    """Check signatures, files and sign-offs of a release; end with 5 if one does not hold."""
    release = open_release(ServerHome(home), run)
    release.folder.require_files(release.manifest)
    tell(standing_facts(release.standing))


@app.command()
def withdraw(
    run: Run,
    reason: Annotated[str, typer.Option(help="What institutions are told.")],
    home: Home = HERE,
) -> None:
    """Take a release back for good: sign that as an operator; then `release collect` tells it."""
    place = ServerHome(home)
    release = open_release(place, run)
    if release.withdrawal is not None:
        raise ConfigError(f"release of run {run} is withdrawn already")
    if len(reason) > 200:
        raise ConfigError(f"a reason of {len(reason)} characters: take 200 at most")
    act = Withdrawal(
        federation=release.manifest.federation,
        run=run,
        manifest=release.bundle.digest,
        made=int(time.time()),
        reason=printable(reason),
    )
    propose(place, Proposal(act=act), f"withdraw-{run}")


def _released(place: ServerHome, run: str) -> bool:
    try:
        return bool(folder_of(place, run).bundle)
    except NoReleaseError:
        return False


def _hand_round(place: ServerHome, run: str) -> None:
    """Have the executor hand a release round, and wait: it comes after a run that goes on."""
    from server import control  # noqa: PLC0415 - Flower takes a second to import
    from server.desk import OFFER, find_desk  # noqa: PLC0415

    desk = find_desk(place.path)
    control.await_superlink(desk)
    with control.at(desk) as superlink:
        number = control.start_run(superlink, f"{OFFER}{run}")
    while True:
        with control.at(desk) as superlink:
            (state,) = [one for one in control.runs(superlink) if one.number == number]
        if state.finished:
            break
        time.sleep(POLL_SECONDS)
    if state.outcome != control.COMPLETED:
        raise FedpruneError(f"release of run {run}: {state.outcome}: {state.details}")
    release = open_release(place, run)
    tell(standing_facts(release.standing))
    _tell_reached(release)


def _tell_reached(release: Kept) -> None:
    tell((what, ", ".join(names) or "nobody") for what, names in _reached(release).items())


def _reached(release: Kept) -> dict[str, list[str]]:
    """Return whom it reached the last time that it was handed round; nothing before the first."""
    from server.release_app import REACHED  # noqa: PLC0415 - Flower takes a second to import

    file = release.folder.path / REACHED
    reached: dict[str, list[str]] = json.loads(file.read_bytes()) if file.is_file() else {}
    return reached
