from pathlib import Path

import pytest

from client.cli import main as client_main
from common.homes import INSTITUTION, SERVER, Side
from server.cli import main as server_main
from tests.commands import invoke

MAINS = {SERVER: server_main, INSTITUTION: client_main}
OTHERS = [(SERVER, INSTITUTION), (INSTITUTION, SERVER)]


@pytest.mark.parametrize("command", ["up", "doctor"])
@pytest.mark.parametrize(("typed", "other"), OTHERS)
def test_the_other_sides_folder_is_named_as_such(
    tmp_path: Path, typed: Side, other: Side, command: str
) -> None:
    (tmp_path / other.settings).touch()
    told = invoke(MAINS[typed], command, "--home", tmp_path)
    assert (told.code, told.out) == (3, "")
    assert f"this is {other.whose} folder: use {other.command}" in told.err


@pytest.mark.parametrize(
    ("typed", "command"), [(SERVER, "up"), (SERVER, "start"), (INSTITUTION, "up")]
)
def test_a_folder_that_is_no_home_can_be_named(tmp_path: Path, typed: Side, command: str) -> None:
    told = invoke(MAINS[typed], command, "--home", tmp_path)
    assert told.code == 3
    assert f"{tmp_path / typed.settings}: no such file" in told.err
    assert "name the folder by --home" in told.err


@pytest.mark.parametrize(("typed", "other"), OTHERS)
def test_a_folder_of_both_is_either_ones(tmp_path: Path, typed: Side, other: Side) -> None:
    for side in (typed, other):
        (tmp_path / side.settings).touch()
    assert "this is" not in invoke(MAINS[typed], "doctor", "--home", tmp_path).err
