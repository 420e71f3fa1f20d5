"""The README's commands, typed as they stand there."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from client.cli import main as client_main
from client.consent import Home
from server.cli import main as server_main
from server.home import ServerHome
from tests.commands import ROOT, invoke
from tests.support import plan_fields

BANKS = ("bank-a", "bank-b", "bank-c")
MAINS = {"fedprune-server": server_main, "fedprune-client": client_main}


def sections(title: str) -> Iterator[list[str]]:
    """Yield the commands of a section's first block, as its comments divide them."""
    text = (ROOT / "README.md").read_text().partition(f"## {title}\n")[2]
    block = text.split("```\n")[1].replace("\\\n", "")
    for part in re.split(r"^#.*\n", block, flags=re.MULTILINE)[1:]:
        yield part.splitlines()


class Typist:
    """Types commands in a folder, with what earlier ones have shown in place of KEY and HASH."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}

    def type(self, line: str) -> None:
        for word, value in self.shown.items():
            line = re.sub(rf"\b{word}\b", value, line)
        program, *arguments = shlex.split(line, comments=True)
        if program == "cp":
            shutil.copy(*arguments)
            return
        outcome = invoke(MAINS[program], *arguments)
        assert outcome.code == 0, f"{line}: {outcome.err}"
        if found := re.search(r"^operator +bob=(\w+)$", outcome.out, re.MULTILINE):
            self.shown["KEY"] = found[1]
        if found := re.search(r"^all of this +([0-9a-f ]+)$", outcome.out, re.MULTILINE):
            self.shown["HASH"] = found[1].replace(" ", "")


def fill_in(plan: Path) -> None:
    """Write the members, and a model that trains in no time, into the plan that `init` made."""
    board = ServerHome(plan.parent).operators.model_dump()
    institutions = [{"name": name, "size": 300} for name in BANKS]
    evaluation = {"noise": "gaussian", "epsilon": 1.0}
    fields = plan_fields(operators=board, institutions=institutions, evaluation=evaluation)
    plan.write_text(tomli_w.dumps(fields))


def test_a_federation_is_founded_by_what_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typist = Typist()
    for part in sections("Founding a federation"):
        if any("publish" in line for line in part):
            fill_in(Path("federation/plan.toml"))
        for bank in BANKS if any("bank-a" in line for line in part) else ("",):
            for line in part:
                typist.type(line.replace("bank-a", bank))
    pins = [Home(Path(bank)).pin for bank in BANKS]
    charter = ServerHome(Path("federation")).bundle
    assert charter is not None
    assert [pin and pin.charter for pin in pins] == [charter.digest] * 3
