"""One look for the three commands: errors in one line, exit codes from the error tree."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Final

import click
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from common.errors import FedpruneError

USAGE, INTERRUPTED = 2, 130
EXITS: Final = {
    0: "done",
    1: "a fault of ours or the machine's",
    USAGE: "usage",
    3: "configuration",
    4: "data",
    5: "refused by policy",
    6: "aggregation",
    7: "privacy budget",
    8: "audit failed",
    INTERRUPTED: "interrupted",
}
EXIT_CODES = f"Exit codes: {', '.join(f'{code} {told}' for code, told in EXITS.items())}."
DEBUG = "--debug"

Home = Annotated[Path, typer.Option("--home", help="Folder of the server, or of the institution.")]
HERE = Path()
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]

WIDEST = 1000
"""Columns of a table that is printed."""

errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
"""Progress and errors; standard output is for results alone."""


def command_line(app: Callable[..., object]) -> None:
    """Run a typer app; end the process with the exit code of what went wrong.

    ``--debug`` anywhere on the command line shows the traceback as well.
    """
    debug = DEBUG in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != DEBUG]
    try:
        # Not standalone: click would tell a wrong option in its own way, on several lines.
        code = app(standalone_mode=False, **_named(app)) if isinstance(app, typer.Typer) else app()
        if code == INTERRUPTED:
            _print_interrupted()
    except (Exception, KeyboardInterrupt) as error:
        code = _ended_by(error, debug=debug)
    if isinstance(code, int) and code:
        sys.exit(code)


def _named(app: typer.Typer) -> dict[str, str]:
    """Have help and completion say what a person types, however the command was started."""
    return {"prog_name": app.info.name} if isinstance(app.info.name, str) else {}


def _ended_by(error: BaseException, *, debug: bool) -> int:
    """Say in one line what went wrong, after its trace if asked; return the exit code."""
    match error:
        case KeyboardInterrupt() | click.Abort():
            _print_interrupted()
            return INTERRUPTED
        case BrokenPipeError():
            # Standard output's reader has left; the interpreter must not flush into it again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return USAGE
        case click.UsageError():
            help_of = f": see `{error.ctx.command_path} --help`" if error.ctx else ""
            code, line = USAGE, error.format_message().rstrip(".") + help_of
        case FedpruneError():
            code, line = error.exit_code, str(error)
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            code, line = 1, f"{where}{error.strerror or error}"
        case _:
            code, line = 1, f"unexpected {type(error).__name__}; {DEBUG} shows where"
    if debug:
        errors.print_exception()
    _print_line(line)
    return code


def _print_interrupted() -> None:
    errors.print("interrupted", style="red")


def _print_line(text: str) -> None:
    errors.print(f"error: {printable(text)}", style="red", markup=False)


def printable(text: str) -> str:
    """Return a line that cannot steer the terminal: names in it come from files of others."""
    return "".join(char if char.isprintable() else " " for char in text)


def tell(facts: Iterable[tuple[str, str]]) -> None:
    """Print facts, each a line: a table would cut a hash to the width of a terminal."""
    told = [(printable(name), printable(value)) for name, value in facts]
    width = max((len(name) for name, _ in told), default=0)
    for name, value in told:
        typer.echo(f"{name:{width}}  {value}")


def show_table(table: Table) -> None:
    """Print a table as wide as its cells are: a name that is cut is of no use to type."""
    out = Console(highlight=False, markup=False, soft_wrap=True, width=WIDEST)
    out.width = Measurement.get(out, out.options, table).maximum
    out.print(table)


def confirmed(question: str) -> bool:
    """Ask the person at the terminal; nobody there says no."""
    return sys.stdin.isatty() and typer.confirm(question)


def tell_json(value: object) -> None:
    """Print a result for programs: one line, alone on standard output."""
    typer.echo(json.dumps(value, allow_nan=False))


def progress_bars(*, shown: bool = True) -> Progress:
    """Return bars on standard error, each with a ``state`` and the time left.

    Nothing is drawn where no person looks: in a file, a pipe, or unless ``shown``.
    """
    return Progress(
        TextColumn("{task.description:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
        console=errors,
        disable=not (shown and errors.is_terminal),
    )


@contextmanager
def working(on: str) -> Iterator[None]:
    """Show a person at a terminal that seconds pass ``on`` something that cannot be counted."""
    with errors.status(on) if errors.is_terminal else nullcontext():
        yield


def warn(warnings: Iterable[str]) -> None:
    """Say loudly, one line each, what whoever runs the command should know."""
    for warning in warnings:
        errors.print(f"WARNING: {warning}", style="bold red")


def log_to_console() -> None:
    """Show warnings of the log above any progress, in place of handlers that libraries set."""
    handler = RichHandler(console=errors, show_path=False, show_time=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)


class OneLine(logging.Formatter):
    """A line for each record: parts of it come from others, who might add lines of their own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return a traceback, whose lines are indented under the record's."""
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


def log_to_file() -> None:
    """Log what a process that runs for months does, for a file or systemd's journal."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("fedprune").setLevel(logging.INFO)


def new_app(help_text: str, name: str | None = None) -> typer.Typer:
    """Return a typer app with the house's settings; ``name`` is that of a whole command."""
    return typer.Typer(
        name=name,
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        # Markup would swallow the brackets of "[default: ...]".
        rich_markup_mode=None,
        epilog=f"{DEBUG} shows the traceback of an error. {EXIT_CODES}",
    )
