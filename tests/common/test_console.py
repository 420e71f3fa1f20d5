import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table

from common import console
from common.console import (
    EXIT_CODES,
    command_line,
    errors,
    log_to_console,
    log_to_file,
    new_app,
    progress_bars,
    show_table,
)
from common.errors import (
    AggregationError,
    AuditError,
    BudgetError,
    ConfigError,
    DataError,
    DiskError,
    FedpruneError,
    ModelError,
    PlanError,
    PolicyError,
    ProtocolError,
    SchemaError,
    TableError,
    TooFewSurvivorsError,
)
from tests.commands import ROOT, Outcome, invoke

CODES = {
    FedpruneError: 1,
    ConfigError: 3,
    PlanError: 3,
    SchemaError: 3,
    ModelError: 3,
    DataError: 4,
    PolicyError: 5,
    ProtocolError: 5,
    DiskError: 1,
    AggregationError: 6,
    TooFewSurvivorsError: 6,
    BudgetError: 7,
    AuditError: 8,
}


def failing(error: BaseException, *arguments: str) -> Outcome:
    """Return how a command ends whose only act is to raise ``error``."""
    app = new_app("Fails.")

    @app.command()
    def fail() -> None:
        raise error

    return invoke(lambda: command_line(app), *arguments)


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_each_error_is_one_line_and_its_exit_code(kind: type[FedpruneError], code: int) -> None:
    outcome = failing(kind("size 3 is below 5: raise it"))
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.complaint == "size 3 is below 5: raise it"


def test_every_kind_of_error_is_tested() -> None:
    kinds = [FedpruneError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    ours = {kind for kind in kinds if kind.__module__ == FedpruneError.__module__}
    # That one is told in tests/client/test_misfits.py: it has a line for each problem.
    assert ours == set(CODES) | {TableError}
    assert {kind.exit_code for kind in kinds} == set(CODES.values())


def test_help_names_every_exit_code() -> None:
    codes = {*CODES.values(), 0, 2, 130}
    assert all(f" {code} " in EXIT_CODES for code in codes)
    app = new_app("Nothing.")
    app.callback()(lambda: None)
    app.command("rest")(lambda: None)
    outcome = invoke(lambda: command_line(app), "--help")
    assert outcome.code == 0
    assert f"--debug shows the traceback of an error. {EXIT_CODES}" in " ".join(outcome.out.split())


def test_done_is_zero_and_silent() -> None:
    outcome = invoke(lambda: command_line(lambda: None))
    assert outcome == Outcome(0, "", "")


def test_usage_is_two() -> None:
    outcome = failing(ConfigError("unreached"), "--colour")
    assert outcome.code == 2
    assert "--colour" in outcome.err
    assert "unreached" not in outcome.err


@pytest.mark.parametrize("place", [("--debug",), ()])
def test_debug_alone_shows_the_traceback(place: tuple[str, ...]) -> None:
    outcome = failing(DataError("too few rows"), *place)
    assert outcome.code == 4
    assert outcome.err.splitlines()[-1] == "error: too few rows"
    assert ("Traceback" in outcome.err) is bool(place)


def test_unexpected_error_keeps_its_text_to_itself() -> None:
    outcome = failing(ValueError("age 47, income 31000"))
    assert (outcome.code, outcome.complaint) == (1, "unexpected ValueError; --debug shows where")
    assert "31000" in failing(ValueError("age 47, income 31000"), "--debug").err


def test_machine_fault_names_the_file() -> None:
    outcome = failing(PermissionError(13, "Permission denied", "runs/a"))
    assert (outcome.code, outcome.complaint) == (1, "runs/a: Permission denied")
    assert failing(OSError("disc is full")).complaint == "disc is full"


def test_hostile_text_cannot_steer_the_terminal() -> None:
    outcome = failing(PlanError("key 'a\nb\x1b[2J\r' of [bold]plan[/bold] :bank: is unknown"))
    assert outcome.complaint == "key 'a b [2J ' of [bold]plan[/bold] :bank: is unknown"


def test_long_error_stays_one_line() -> None:
    text = "column " + "x" * 500 + " is missing"
    assert failing(DataError(text)).complaint == text


def test_interrupt_is_130() -> None:
    outcome = failing(KeyboardInterrupt())
    assert (outcome.code, outcome.out) == (130, "")
    assert "Traceback" not in outcome.err

    def bare() -> None:
        raise KeyboardInterrupt

    assert invoke(lambda: command_line(bare)) == Outcome(130, "", "interrupted\n")


def test_reader_that_leaves_is_no_error() -> None:
    script = (
        "from common.console import command_line\n"
        "command_line(lambda: [print('x' * 100) for _ in range(10_000)])"
    )
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (0, b"")


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    handlers, level = logging.root.handlers, logging.root.level
    logging.root.handlers = []
    yield logging.root
    logging.root.handlers, logging.root.level = handlers, level


def test_log_shows_warnings_once_and_as_they_are(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    root_logger.addHandler(logging.StreamHandler(sys.stderr))
    log_to_console()
    logging.getLogger("fedprune.test").warning("[red]bank-01[/red] left")
    logging.getLogger("fedprune.test").info("all is well")
    captured = capsys.readouterr()
    assert captured.err.split() == ["WARNING", "[red]bank-01[/red]", "left"]
    assert captured.out == ""


def test_a_logged_name_adds_no_line_of_its_own(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_file()
    try:
        raise ValueError("ash\n2026-01-01 00:00:00,000 INFO round 7\x1b[2J")
    except ValueError:
        logging.getLogger("fedprune.test").exception("%s left", "ash\n2026 INFO\x1b]0;owned\x07")
    first, *traceback = capsys.readouterr().err.splitlines()
    assert first.endswith("ERROR ash 2026 INFO ]0;owned  left")
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)
    assert any("round 7" in line for line in traceback)


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, False),
        ({"TTY_COMPATIBLE": "1"}, True),
        ({"TTY_COMPATIBLE": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(variables: dict[str, str], coloured: bool) -> None:
    script = (
        "from common.console import command_line\nfrom common.errors import ConfigError\n"
        "def fail(): raise ConfigError('no plan')\ncommand_line(fail)"
    )
    asked = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=asked | {"TERM": "xterm"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 3
    assert ("\x1b[" in ran.stderr) is coloured
    assert "error: no plan" in ran.stderr


@pytest.mark.parametrize("shown", [True, False])
def test_progress_is_drawn_for_a_person_alone(
    shown: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> str:
        with progress_bars(shown=shown) as progress:
            progress.update(progress.add_task("rounds", total=4, state="AUC"), completed=4)
        return capsys.readouterr().err

    assert drawn() == ""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert ("rounds" in (seen := drawn())) is shown
    assert ("4/4" in seen) is shown


def test_progress_is_kept_from_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    errors.print("round 1")
    assert capsys.readouterr() == ("", "round 1\n")


def test_a_table_cuts_no_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    table, cells = Table("run", "state"), ("loans-" + "x" * 50, "[running] completed")
    table.add_row(*cells)
    show_table(table)
    shown = capsys.readouterr().out
    assert all(cell in shown for cell in cells)


def test_seconds_that_cannot_be_counted_are_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for terminal in (True, False):
        shown = StringIO()
        monkeypatch.setattr(console, "errors", Console(file=shown, force_terminal=terminal))
        with console.working("reckoning"):
            pass
        assert ("reckoning" in shown.getvalue()) is terminal
