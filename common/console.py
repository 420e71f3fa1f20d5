"""One look for the three commands: errors in one line, exit codes from the error tree."""

import os
import sys
from collections.abc import Callable

import typer
from rich.console import Console

from common.errors import FedpruneError

INTERRUPTED = 130
EXIT_CODES = (
    "Exit codes: 0 done, 1 a fault of ours or the machine's, 2 usage, 3 configuration, 4 data,"
    " 5 refused by policy, 6 aggregation, 7 privacy budget, 130 interrupted."
)
DEBUG = "--debug"

errors = Console(stderr=True, soft_wrap=True, highlight=False)
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
        errors.print(f"error: {error}", style="red", markup=False)
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
        errors.print(f"error: {where}{error.strerror or error}", style="red", markup=False)
        sys.exit(1)
    except Exception as error:
        if debug:
            errors.print_exception()
        kind = type(error).__name__
        errors.print(f"error: unexpected {kind}; {DEBUG} shows where", style="red", markup=False)
        sys.exit(1)


def new_app(help_text: str) -> typer.Typer:
    """Return a typer app with the house's settings."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        epilog=f"{DEBUG} shows the traceback of an error. {EXIT_CODES}",
    )
