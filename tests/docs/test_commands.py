"""Every command in docs/ is typed: the simulator's with fewer rounds, founding as it stands."""

import json
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
import pandas as pd
import pytest
import typer

from client.cli import main as client_main
from common.schema import FeatureSchema, load_schema
from server.cli import main as server_main
from simulations.cli import main as simulator_main
from simulations.consortium import consortium
from tests.commands import ROOT, Outcome, invoke
from tests.docs.blocks import DOCS, Block, blocks_of, pages
from tests.reference.commands import APPS

MAINS = {
    "fedprune-sim": simulator_main,
    "fedprune-client": client_main,
    "fedprune-server": server_main,
}
SMALLER = {
    "run": ("--rounds", "2", "--institutions", "4"),
    "compare": ("--rounds", "2", "--institutions", "4", "--seeds", "1"),
    "audit": ("--rounds", "2", "--draws", "1000", "--canaries", "8"),
}
"""What is put behind a simulator's command, whose last word counts."""

BANKS = ("bank-a", "bank-b", "bank-c")


def run(words: list[str], shorter: bool = True) -> Outcome:
    """Run one typed command in this process."""
    if words[0] == "python":
        script = words[1]

        def main() -> None:
            with patch.object(sys, "argv", ["fedprune-sim", *sys.argv[1:]]):
                runpy.run_path(script, run_name="__main__")

    else:
        main = MAINS[words[0]]
    arguments = words[2:] if words[0] == "python" else words[1:]
    if words[0] in ("python", "fedprune-sim") and shorter:
        arguments += SMALLER.get(arguments[0], ())
    return invoke(main, *arguments)


def type_all(blocks: list[Block], change: Callable[[str], str] = str) -> Iterator[Outcome]:
    """Write each block's file or run its commands, all in the current folder."""
    for block in blocks:
        if block.file is not None:
            how, name = block.file
            path = Path(name)
            before = path.read_text() if how == "Add to" else ""
            path.write_text(before + block.text)
        for words in [] if block.parsed else block.commands:
            outcome = run([change(word) for word in words])
            assert outcome.code == 0, (block.page, words, outcome.err)
            yield outcome


def table_of(schema: FeatureSchema, rows: int) -> pd.DataFrame:
    """Return rows that fit a schema, with an identifier that it does not know."""
    rng = np.random.default_rng(1)
    columns = {
        column.name: rng.integers(int(column.lo), int(column.hi), rows)
        if column.kind == "numeric"
        else rng.choice(np.array(column.values), rows)
        for column in schema.columns
    }
    return pd.DataFrame(columns | {schema.label.column: rng.integers(0, 2, rows)})


@pytest.mark.timeout(900)
def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcomes = list(type_all(blocks_of(DOCS / "tutorial.md")))
    assert len(outcomes) == 8
    # What the text has people look at is there.
    for said in ("dense", "logistic", "bytes up per institution", "auc seen by the server"):
        assert said in outcomes[0].out
    assert "NO differential privacy" in outcomes[2].err
    for path in ("first/report.html", "which/compare.html", "smaller/report.html"):
        assert (tmp_path / "runs" / path).stat().st_size > 0


@pytest.mark.timeout(900)
def test_the_researchers_guide_and_the_model_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    guide = blocks_of(DOCS / "researcher.md")
    assert list(type_all(guide[:1])) == []
    table = table_of(load_schema("loans.toml"), 3000)
    table.to_csv("loans.csv", index=False)
    table.assign(loan_id=range(3000)).to_parquet("new.parquet")
    with patch.dict("common.pruning.scores.SCORES._entries"):
        list(type_all(guide[1:]))
    assert (tmp_path / "runs/trial/groups.csv").is_file()
    assert "steady" in (tmp_path / "runs/mine/compare.csv").read_text()
    list(type_all(blocks_of(DOCS / "model-files.md")))
    assert {"loan_id", "score", "base"} <= {*pd.read_parquet("scores.parquet").columns}
    told = re.findall(r"^\| `([\w.]+)` \|", (DOCS / "model-files.md").read_text(), re.MULTILINE)
    assert told
    assert all((tmp_path / "runs/loans" / name).is_file() for name in told)


@pytest.mark.timeout(900)
def test_the_model_owners_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    *_, written = type_all(blocks_of(DOCS / "model-file.md"))
    page = tmp_path / "runs" / "seeds" / "0" / "validation.html"
    assert str(page.relative_to(tmp_path)) in written.out
    found = json.loads(page.with_name("model-card.json").read_text())
    lacks = {f"{one['chapter']}.{one['key']}" for one in found["missing"]}
    assert not lacks & {"stability.models", "pruning.dense", "privacy.audit", "purpose.owner"}


def test_the_founding_of_three_banks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("typer.confirm", lambda _: True)
    # Somebody is at the terminal to agree, and wants no passphrase.
    monkeypatch.setenv("FEDPRUNE_PASSPHRASE", "")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    story = [
        block
        for name in ("central-bank", "institution", "security-officer")
        for block in blocks_of(DOCS / f"{name}.md")
        if block.step is not None
    ]
    key, tables = "", consortium(institutions=len(BANKS))
    for block in sorted(story, key=lambda block: block.step or 0):
        if block.step == 6:
            for bank, table in zip(BANKS, tables.values(), strict=True):
                table.to_csv(tmp_path / bank / "records.csv", index=False)
        for bank in BANKS if block.each else BANKS[:1]:

            def change(word: str, bank: str = bank, key: str = key) -> str:
                return word.replace("bank-a", bank).replace("=KEY", f"={key}")

            told = "".join(outcome.out for outcome in type_all([block], change))
            key = key or re.findall(r"\bbob=([0-9a-f]{64})|$", told)[0]
    assert key
    assert {line.step for line in story} == {*range(11)}


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.stem)
def test_each_command_and_option_exists(path: Path) -> None:
    for block in blocks_of(path):
        for words in block.commands:
            if words[0] == "cp":
                continue
            if words[0] == "make":
                assert re.search(f"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            elif words[0] == "python":
                require_parsed(["fedprune-sim", *words[2:]])
            else:
                require_parsed(words)


def require_parsed(words: list[str]) -> None:
    """Have the program itself take a command apart, without doing it; its files need not exist."""
    group = typer.main.get_command(APPS[words[0]])
    arguments = words[1:]
    with click.Context(group) as context:
        while isinstance(group, click.Group):
            name, command, arguments = group.resolve_command(context, arguments)
            assert name is not None
            assert command is not None
            group = command
        group.make_context(words[-1], arguments)


@pytest.mark.parametrize(
    "line",
    ["fedprune-sim runs", "fedprune-sim run --epsilom 1", "fedprune-server resume", "fedprune-x a"],
)
def test_what_does_not_exist_is_found(line: str) -> None:
    with pytest.raises((click.UsageError, KeyError)):
        require_parsed(line.split())


def test_a_failing_command_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Block("page.md", "console", "fedprune-server plan gone.toml\n", None, False, False, None)
    with pytest.raises(AssertionError, match=r"gone\.toml"):
        list(type_all([page]))


def test_no_page_types_a_program_outside_a_console_block() -> None:
    for path in pages()[:-1]:
        for block in blocks_of(path):
            if block.language != "console":
                assert not re.search(r"^fedprune-", block.text, re.MULTILINE), path
