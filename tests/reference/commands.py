"""`python -m tests.reference.commands`: docs/commands.md, from the commands themselves."""

import inspect
from collections.abc import Iterator, Mapping

import click
import typer

from client.cli import app as client
from common.console import DEBUG, EXITS, command_line
from common.durable import write_atomically
from common.errors import FedpruneError
from server.cli import app as server
from simulations.cli import app as sim
from tests.commands import ROOT

FILE = ROOT / "docs" / "commands.md"
APPS: Mapping[str, typer.Typer] = {
    "fedprune-server": server,
    "fedprune-client": client,
    "fedprune-sim": sim,
}

HEAD = f"""\
# Commands

Generated from the commands themselves by `python -m tests.reference.commands`.

Results go to standard output, progress and errors to standard error. `--json` prints JSON alone,
one shape a command. An error is one line that names the remedy; `{DEBUG}`, anywhere, shows the
trace before it. Progress, with the time left, is drawn on a terminal only; colours too, unless
`NO_COLOR` is set. `--install-completion` has the shell complete commands and options.

## Exit codes

"""


def commands_of(app: typer.Typer, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command by what is typed, in the order of the help."""
    yield from _walk(typer.main.get_command(app), name)


def every_command() -> list[tuple[str, click.Command]]:
    """Return the commands of all three."""
    return [found for name, app in APPS.items() for found in commands_of(app, name)]


def _walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    for word, below in command.commands.items():
        yield from _walk(below, f"{name} {word}")


def reference() -> str:
    """Return the whole text."""
    parts = [HEAD, _exits()]
    for name, app in APPS.items():
        about = inspect.cleandoc(str(app.info.help))
        parts += [f"\n## {name}\n\n{about}\n", *map(_command, commands_of(app, name))]
    return "".join(parts)


def _exits() -> str:
    kinds = [FedpruneError]
    for kind in kinds:
        kinds += [
            one for one in kind.__subclasses__() if one.__module__ == FedpruneError.__module__
        ]
    rows = [
        (
            str(code),
            told,
            ", ".join(f"`{kind.__name__}`" for kind in kinds if kind.exit_code == code),
        )
        for code, told in EXITS.items()
    ]
    return _table(("code", "meaning", "errors"), rows)


def _command(found: tuple[str, click.Command]) -> str:
    name, command = found
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    usage = " ".join([name, *(one.make_metavar(click.Context(command)) for one in arguments)])
    rows = [_row(one, click.Context(command)) for one in command.params]
    told = inspect.cleandoc(command.help or "")
    return f"\n### {name}\n\n`{usage}`\n\n{told}\n" + (
        f"\n{_table(('option', 'takes', 'meaning'), rows)}" if rows else ""
    )


def _row(one: click.Parameter, context: click.Context) -> tuple[str, str, str]:
    said = str(getattr(one, "help", None) or "")
    if isinstance(one, click.Argument):
        return f"`{one.make_metavar(context)}`", "", said
    assert isinstance(one, click.Option)
    names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    takes = "" if one.is_flag else f"`{one.make_metavar(context)}`"
    if one.required:
        said = f"{said} Required."
    elif not one.is_flag and one.default not in (None, "") and "[default:" not in said:
        said = f"{said} [default: {one.default}]"
    return names, takes, said.strip()


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]] | list[tuple[str, str, str]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    cells = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines]
    return "".join(f"| {line} |\n" for line in cells)


def main() -> None:
    """Write the file."""
    write_atomically(FILE, reference().encode())


if __name__ == "__main__":
    command_line(main)
