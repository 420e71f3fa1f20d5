"""`fedprune-client validate`, and `release list|show|verify|take|sign-off|object`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from client.consent import KEYS
from client.consent_cli import open_home
from client.keys import read_identity
from client.releases import Releases
from common.consent.agreement import grouped, mark_of, require_meant
from common.console import HERE, AsJson, confirmed, new_app, show_table, tell, tell_json
from common.errors import ConfigError
from common.parsing import read_foreign
from common.release.folder import LONGEST, MANIFEST, VERDICT, VERDICTS, WITHDRAWAL
from common.release.kept import Kept
from common.release.verdict import Word
from common.release.words import manifest_facts, release_fields, standing_facts
from common.trail.interface import refusals_noted

Home = Annotated[Path, typer.Option("--home", help="The institution's folder.")]
Run = Annotated[str, typer.Argument(help="The run, as `fedprune-client release list` names it.")]
Mark = Annotated[
    str, typer.Argument(help="How `all of this` began where it was read; else it is asked for.")
]

app = new_app("Finished models that were released to this institution.")


def validate(
    run: Run,
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled table [default: the test rows of the one in client.toml]."),
    ] = None,
    as_json: AsJson = False,
    home: Home = HERE,
) -> None:
    """Test a released model on own rows; nothing leaves this machine, so it costs no privacy.

    Beside it stand the figures of all institutions' test rows together, as the release has them.
    """
    # pandas, scikit-learn and onnxruntime cost seconds, which `up` does without.
    from client.validation import validate as tested  # noqa: PLC0415

    release = Releases(home).open(run)
    found = tested(release, home, data)
    told = release.manifest.metrics.get("test", {})
    if as_json:
        federation = {name: figure.model_dump() for name, figure in told.items()}
        tell_json({"here": found, "federation": federation})
        return
    table = Table("figure", *found, "all institutions")
    for name in next(iter(found.values())):
        here = [
            f"{own[name]:,.0f}" if name == "rows" else f"{own[name]:.3f}" for own in found.values()
        ]
        figure = told.get(name)
        there = "" if figure is None else f"{figure.value:.3f} (sd {figure.sd or 0:.3f})"
        table.add_row(name, *here, there)
    Console(highlight=False, markup=False, soft_wrap=True).print(table)
    mark = mark_of(release.bundle.digest)
    typer.echo(f"Then: fedprune-client release sign-off {run} {mark}, or object {run} {mark}")


@app.command(name="list")
def list_releases(as_json: AsJson = False, home: Home = HERE) -> None:
    """List the releases that were received, and where each stands."""
    name, releases = open_home(home).name, Releases(home)
    found = [releases.open(run) for run in releases.runs]
    if as_json:
        tell_json([_shown(releases, release) for release in found])
        return
    table = Table("run", "release", "state", "signed off", "said here", title=name)
    for release in found:
        own, standing = releases.verdict(release), release.standing
        table.add_row(
            release.manifest.run,
            str(release.manifest.number),
            standing.state,
            f"{len(standing.signed)} of {standing.quorum}",
            own.word if own is not None else "nothing",
        )
    show_table(table)


@app.command()
def show(run: Run, as_json: AsJson = False, home: Home = HERE) -> None:
    """Show what a release says of its model, and who has said what of it."""
    releases = Releases(home)
    release = releases.open(run)
    if as_json:
        tell_json(_shown(releases, release))
        return
    tell([*manifest_facts(release.manifest), *standing_facts(release.standing)])
    tell([("all of this", grouped(release.bundle.digest))])


@app.command()
def verify(run: Run, home: Home = HERE) -> None:
    """Check signatures, files and sign-offs of a release; end with 5 if one does not hold."""
    release = Releases(home).open(run)
    release.require_files()
    tell(standing_facts(release.standing))


@app.command()
def take(
    folder: Annotated[Path, typer.Argument(help="A copy of the server's folder of the release.")],
    home: Home = HERE,
) -> None:
    """Take a release, or what was said of it since, that came as files."""
    releases = _releases(home)
    with refusals_noted(releases.trail, "release"):
        manifest = read_foreign(folder / MANIFEST, LONGEST)
        # A link that leads nowhere is there, to be refused.
        verdicts, withdrawal = (
            read_foreign(folder / name, LONGEST) if os.path.lexists(folder / name) else b""
            for name in (VERDICTS, WITHDRAWAL)
        )
        release = releases.receive(manifest, verdicts.splitlines(), withdrawal)
        sizes = {str(name): file.size for name, file in release.manifest.files.items()}
        for name in release.folder.missing(release.manifest):
            data = read_foreign(folder / name, sizes[name])
            releases.deliver(release.manifest.run, name, data)
    tell([*manifest_facts(release.manifest), *standing_facts(release.standing)])


@app.command(name="sign-off")
def sign_off(run: Run, mark: Mark = "", home: Home = HERE) -> None:
    """Sign that this institution takes the model; only that signature leaves, no figure."""
    _judge(home, run, mark, "sign-off")


@app.command(name="object")
def objection(
    run: Run,
    mark: Mark = "",
    reason: Annotated[str, typer.Option(help="Noted in this institution's own log alone.")] = "",
    home: Home = HERE,
) -> None:
    """Sign that this institution does not take the model; the reason stays here."""
    if len(reason) > 1000:
        raise ConfigError(f"a reason of {len(reason)} characters: take 1000 at most")
    _judge(home, run, mark, "objection", reason)


def _shown(releases: Releases, release: Kept) -> dict[str, Any]:
    own = releases.verdict(release)
    return release_fields(release) | {"said_here": None if own is None else own.word}


def _judge(home: Path, run: str, mark: str, word: Word, reason: str = "") -> None:
    releases = _releases(home)
    with refusals_noted(releases.trail, f"{word} of {run}"):
        # A later release may have come since this one was read and tested.
        digest = releases.open(run).bundle.digest
        require_meant(digest, mark, lambda: _agreed(home, run, word))
        name, identity = open_home(home).name, read_identity(home / KEYS)
        release = releases.judge(run, digest, name, word, identity, reason)
    tell(standing_facts(release.standing))
    typer.echo(
        "The operators' next `release collect` takes it, or send them"
        f" {release.folder.path / VERDICT}"
    )


def _agreed(home: Path, run: str, word: Word) -> bool:
    show(run, home=home)
    return confirmed(f"Sign this {word}?")


def _releases(home: Path) -> Releases:
    """Open the releases of a home, with the revocations that its ledger noted."""
    place = open_home(home)
    revoked = place.shrunk.revoked if place.shrunk is not None else ()
    return Releases(home, place.trail, tuple(revoked))
