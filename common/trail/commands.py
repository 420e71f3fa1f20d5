"""`audit verify|show|rotate|compare|vouch`: one for both sides, who say where their logs lie."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from common.console import HERE, AsJson, Home, new_app, printable, tell, tell_json
from common.errors import ConfigError
from common.trail.comparison import differences
from common.trail.events import EVENTS, Began
from common.trail.examination import CURRENT, Examined, examined, read
from common.trail.file import FOLDER, FileTrail, files_of, own_key, read_head, still
from common.trail.lines import Author, Line
from common.trail.refusals import TrailError

SHOWN = 16
"""Characters of a hash or key that tell it apart."""


@dataclass(frozen=True)
class Place:
    """A log as its owner's home knows it.

    ``trusted`` are the long-lived keys in hexadecimal of which one must sign for the log's key,
    None where there are none. ``noted`` are hashes of its lines that stand elsewhere, after words
    that say where, in the order in which they were noted. ``members`` are the long-lived keys of
    others' logs, as far as they are known.
    """

    trail: FileTrail
    trusted: Collection[str] | None = None
    noted: Sequence[tuple[str, str]] = ()
    members: Mapping[Author, Collection[str]] | None = None


Open = Callable[[Path], Place]
Only = Annotated[str, typer.Option("--run", help="Only this run [default: all].")]


def audit_app(opened: Open, owner: Callable[[Path], bytes]) -> typer.Typer:
    """Return the commands on the log of the home that ``opened`` opens.

    ``owner`` reads the long-lived private key that signs for it.
    """
    app = new_app("The audit log: what was done here, in order, signed.")

    @app.command()
    def verify(
        home: Home = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Prove that no line was altered, removed, reordered or cut off, or say which were."""
        place = opened(home)
        found = look_at(place)
        facts = _facts(found)
        if as_json:
            tell_json(facts | {"findings": list(found.findings)})
        else:
            tell((name, str(fact)) for name, fact in facts.items())
            for finding in found.findings:
                typer.echo(f"FOUND: {printable(finding)}")
        if found.findings:
            raise TrailError(
                f"{place.trail.folder}: the log is not what was written:"
                f" {len(found.findings)} findings; keep it as it is and restore from a backup"
            )

    @app.command()
    def show(
        home: Home = HERE,
        event: Annotated[str, typer.Option(help="Only events of this name.")] = "",
        run: Only = "",
        last: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many.")] = 40,
        as_json: AsJson = False,
    ) -> None:
        """Show the latest events in plain words, whether the log is whole or not."""
        _require_known(event)
        found = _read(opened(home).trail.folder)
        chosen = [
            line
            for line in found.lines
            if event in ("", line.event.kind) and run in ("", getattr(line.event, "run", None))
        ]
        if as_json:
            tell_json([_as_told(line) for line in chosen[-last:]])
            return
        for line in chosen[-last:]:
            typer.echo(printable(in_words(line)))

    @app.command()
    def rotate(home: Home = HERE) -> None:
        """Begin another file that goes on with the chain; the old one stays where it is."""
        place = opened(home)
        look_at(place).require_whole()
        closed = place.trail.rotate()
        typer.echo(str(closed) if closed is not None else "the log is empty: nothing to rotate")

    @app.command()
    def compare(
        server: Annotated[Path, typer.Argument(help="The server's home, audit folder or log.")],
        institutions: Annotated[list[Path], typer.Argument(help="Institutions', likewise.")],
        run: Only = "",
        home: Home = HERE,
        as_json: AsJson = False,
    ) -> None:
        """Hold the logs of both sides against each other, and name each difference.

        Keys that the home knows must have signed for each log's; a home without keys asks for none.
        """
        members = opened(home).members or {}
        left = _whole(server, members)
        compared = []
        for path in institutions:
            right = _whole(path, members)
            found = list(differences(left, right, run))
            compared.append({"path": str(path), "log": _name(right), "differences": found})
            if as_json:
                continue
            for difference in found:
                typer.echo(f"DIFFERENCE: {printable(difference)}")
            if not found:
                typer.echo(f"{path}: {_name(right)} tells the same as the server")
        if as_json:
            tell_json(compared)
        if told := sum(len(one["differences"]) for one in compared):
            raise TrailError(f"the logs differ in {told} points")

    @app.command()
    def vouch(home: Home = HERE) -> None:
        """Sign for the log's key, whatever the log lacks: `verify` goes on to name that.

        After another log was begun or put back, or new operators were published.
        """
        place = opened(home)
        place.trail.vouch(owner(home), [digest for _, digest in place.noted], anew=True)
        typer.echo("The log's key is signed for.")

    return app


def look_at(place: Place) -> Examined:
    """Return what a home's log holds and what is wrong with it."""
    folder = place.trail.folder
    with still(folder):
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no log here: it begins with the first thing done")
        files, head, key = files_of(folder), read_head(folder), own_key(folder)
    found = examined(files, head, place.trusted, place.noted)
    if found.author is not None and key != found.key:
        other = "the key beside the log is gone, or is not the one that signs it"
        found = Examined(
            found.author, found.key, found.lines, found.vouchers, (*found.findings, other)
        )
    return found


def in_words(line: Line) -> str:
    """Return a line for a person: when, what, and each of its facts."""
    facts = line.event.model_dump(mode="json")
    told = " ".join(f"{name}={_short(value)}" for name, value in facts.items())
    return f"{line.sequence} {line.time} {line.event.kind} {told}".rstrip()


def _as_told(line: Line) -> dict[str, Any]:
    facts = line.event.model_dump(mode="json")
    return {"line": line.sequence, "time": line.time, "event": line.event.kind, **facts}


def _whole(path: Path, members: Mapping[Author, Collection[str]]) -> Examined:
    """Read a log that was handed over; it must be whole, and its key known if any is."""
    if not path.exists():
        raise ConfigError(f"{path}: no such log: give its folder or one file")
    place = path / FOLDER if (path / FOLDER).is_dir() else path
    if not files_of(place):
        raise ConfigError(f"{place}: holds no {CURRENT}: name an audit folder or a home")
    found = _read(place)
    try:
        found.require_whole()
        if found.author is None:
            raise TrailError("its first line is missing, which names its key")
        trusted = members.get(found.author)
        if trusted is None and members:
            raise TrailError(f"the home knows no {found.author.role} {found.author.name!r}")
        if trusted is not None and not {*trusted} & {*found.vouchers}:
            raise TrailError(f"no key of {found.author.name!r} has signed for the log's key")
    except TrailError as error:
        raise TrailError(f"{path}: {error}") from error
    return found


def _facts(found: Examined) -> dict[str, Any]:
    lines = found.lines
    return {
        "log": _name(found),
        "lines": len(lines),
        "from": lines[0].time if lines else "",
        "to": lines[-1].time if lines else "",
        "key": found.key.hex(),
        "signed for by": ", ".join(sorted({*found.vouchers})) or "nobody",
        "last line": lines[-1].hash if lines else "",
    }


def _name(found: Examined) -> str:
    return f"{found.author.role} {found.author.name}" if found.author is not None else "unknown"


def _read(place: Path) -> Examined:
    with still(place):
        return read(files_of(place))


def _require_known(event: str) -> None:
    try:
        EVENTS.require(event or Began.kind)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _short(value: object) -> str:
    """Return a value in a line's words; hashes to tell them apart by."""
    if isinstance(value, list):
        return "[" + ",".join(map(_short, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_short(one)}" for name, one in value.items()) + "}"
    text = str(value)
    return text[:SHOWN] if len(text) >= 64 and " " not in text else text
