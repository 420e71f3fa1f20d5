"""One look for the three commands: errors in one line, exit codes from the error tree."""

import logging
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from common.errors import FedpruneError

INTERRUPTED = 130
EXIT_CODES = (
    "Exit codes: 0 done, 1 a fault of ours or the machine's, 2 usage, 3 configuration, 4 data,"
    " 5 refused by policy, 6 aggregation, 7 privacy budget, 8 audit failed, 130 interrupted."
)
DEBUG = "--debug"

errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
"""Progress and errors; standard output is for results alone."""


def command_line(app: Callable[..., object]) -> None:
    """Run a typer app; end the process with the exit code of what went wrong.

    ``--debug`` anywhere on the command line shows the traceback as well.
    """
    debug = DEBUG in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != DEBUG]
    try:
        app()
    except FedpruneError as error:
        if debug:
            errors.print_exception()
        _print_line(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        errors.print("interrupted", style="red")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of standard output has left; the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if debug:
            errors.print_exception()
        where = f"{error.filename}: " if error.filename else ""
        _print_line(f"{where}{error.strerror or error}")
        sys.exit(1)
    except Exception as error:
        if debug:
            errors.print_exception()
        _print_line(f"unexpected {type(error).__name__}; {DEBUG} shows where")
        sys.exit(1)


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


def confirmed(question: str) -> bool:
    """Ask the person at the terminal; nobody there says no."""
    return sys.stdin.isatty() and typer.confirm(question)


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


def new_app(help_text: str) -> typer.Typer:
    """Return a typer app with the house's settings."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        # Markup would swallow the brackets of "[default: ...]".
        rich_markup_mode=None,
        epilog=f"{DEBUG} shows the traceback of an error. {EXIT_CODES}",
    )
