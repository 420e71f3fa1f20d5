import importlib
import shlex
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import typer

from common.console import EXITS
from tests.commands import Outcome, invoke
from tests.reference.commands import APPS, FILE, every_command, reference

MODULES = {
    "fedprune-server": "server.cli",
    "fedprune-client": "client.cli",
    "fedprune-sim": "simulations.cli",
}
COMMANDS = dict(every_command())
NAMES = sorted(COMMANDS)

APART = {
    "--epsilon": "one budget, or those to compare",
    "--home": "restore needs one that does not exist",
    "--name": "of a federation, an operator, an institution",
    "--out": "a file of scores, a directory of results",
    "--reason": "one that institutions are told, or a note that stays at home",
    "--run": "the name of a new run, or which to show",
    "--schema": "needed, or only with a table",
    "--data": "a table that needs no label, or one to train on",
    "--sparsity": "one share, those to compare, or search",
    "--rows-per-customer": "as a plan has it, or in its place",
}
"""Options that mean different things to different commands, and so have words of their own."""

BLANK = {
    "fedprune-server init": "--name fed --address nowhere",
    "fedprune-server operator": "--name ???",
    "fedprune-client init": "--name ???",
    "fedprune-client leave": "",
    "fedprune-server revoke": "ash",
    # What is said of each remedy stands on standard error too, but for programs.
    "fedprune-server doctor": "--home home --json",
    "fedprune-client doctor": "--home home --json",
    "fedprune-server restore": "missing --home home",
    "fedprune-client restore": "missing --home home",
    "fedprune-server release withdraw": "first --reason wrong --home home",
    "fedprune-server logs": "superlink --home home",
    "fedprune-client ledger close": "run --home home",
    "fedprune-client score": "--model missing --data missing.csv --out scores.csv",
    "fedprune-client check": "missing.csv --schema uci_default",
    "fedprune-server audit compare": "missing missing --home home",
    "fedprune-client audit compare": "missing missing --home home",
}
"""What to type where the first that is wrong is not a missing file or home."""


def main_of(name: str) -> Callable[[], None]:
    """Return the entry point of a command."""
    main: Callable[[], None] = importlib.import_module(MODULES[name.split(maxsplit=1)[0]]).main
    return main


def typed(name: str, *arguments: object) -> Outcome:
    """Run a command by what is typed."""
    return invoke(main_of(name), *name.split()[1:], *arguments)


def missing(name: str) -> list[str]:
    """Return arguments that name what does not exist."""
    if name in BLANK:
        return shlex.split(BLANK[name])
    command = COMMANDS[name]
    arguments = ["missing" for one in command.params if isinstance(one, click.Argument)]
    homes = any("--home" in one.opts for one in command.params)
    return [*arguments, *(["--home", "home"] if homes else [])]


def test_the_reference_is_current() -> None:
    assert FILE.read_text() == reference(), "run python -m tests.reference.commands"


def test_the_reference_names_every_command_and_exit_code() -> None:
    text = FILE.read_text()
    assert all(f"\n### {name}\n" in text for name in NAMES)
    assert all(f"\n| {code} | {told} |" in text for code, told in EXITS.items())
    assert {name.split()[0] for name in NAMES} == set(APPS) == set(MODULES)


def test_each_command_and_option_says_what_it_is_for() -> None:
    for name, command in COMMANDS.items():
        assert (command.help or "").splitlines()[0].endswith("."), name
        for one in command.params:
            if isinstance(one, click.Option):
                assert one.help, f"{name} {one.opts[0]}"


def test_an_option_means_the_same_everywhere() -> None:
    meant = defaultdict[str, set[str]](set)
    for command in COMMANDS.values():
        for one in command.params:
            if isinstance(one, click.Option):
                meant[one.opts[0]].add(str(one.help))
    assert {name for name, words in meant.items() if len(words) > 1} == set(APART)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_option_is_one_line_that_says_where_to_look(name: str) -> None:
    outcome = typed(name, "--no-such-option")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--no-such-option" in outcome.complaint
    assert outcome.complaint.endswith(f"see `{name} --help`")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_one_line_and_a_documented_code(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPRUNE_PASSPHRASE", "")
    outcome = typed(name, *missing(name))
    assert outcome.code in set(EXITS) - {0, 2}, outcome
    assert outcome.complaint
    assert "unexpected" not in outcome.complaint
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("app", APPS)
def test_debug_shows_where_an_error_comes_from(app: str, tmp_path: Path) -> None:
    name = {"fedprune-server": "fedprune-server plan", "fedprune-sim": "fedprune-sim run"}.get(
        app, "fedprune-client ledger verify"
    )
    home = ["--home", tmp_path] if "ledger" in name else [tmp_path / "missing.toml"]
    quiet, loud = typed(name, *home), typed(name, *home, "--debug")
    assert quiet.code == loud.code == 3
    assert "Traceback" in loud.err
    assert "Traceback" not in quiet.err
    assert loud.err.endswith(quiet.err)


@pytest.mark.parametrize("app", APPS)
def test_nothing_typed_shows_the_help(app: str) -> None:
    outcome = invoke(main_of(app))
    assert outcome.code == 2
    assert "Usage: " in outcome.err + outcome.out
    assert "Exit codes: 0 done" in outcome.err + outcome.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("app", APPS)
def test_the_shell_completes(app: str, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"_{app.upper().replace('-', '_')}_COMPLETE"
    monkeypatch.setenv(variable, f"source_{shell}")
    script = invoke(main_of(app))
    assert script.code == 0
    assert variable in script.out
    assert f"complete_{shell}" in script.out
    monkeypatch.setenv(variable, "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"{app} do")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert ("doctor" in invoke(main_of(app)).out.split()) is (app != "fedprune-sim")


def test_every_app_can_install_its_completion() -> None:
    for app in APPS.values():
        names = {name for one in typer.main.get_command(app).params for name in one.opts}
        assert {"--install-completion", "--show-completion"} <= names
