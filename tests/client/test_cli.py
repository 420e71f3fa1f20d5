import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from client.cli import main
from tests.commands import Outcome, invoke

ROWS = 200
SCHEMA = """
name = "trial"
duplicates = "drop"

[label]
column = "bad"
positive = 1
negative = 0

[[columns]]
name = "amount[/b] :bank:"
kind = "numeric"
lo = 0
hi = 100
missing = "drop"

[[columns]]
name = "town"
kind = "categorical"
values = ["a", "b"]
"""
AMOUNT = "amount[/b] :bank:"


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            AMOUNT: [index / 2 for index in range(ROWS)],
            "town": ["a", "b"] * (ROWS // 2),
            "bad": [0, 0, 0, 1] * (ROWS // 4),
        }
    )


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "schema.toml"
    path.write_text(SCHEMA)
    return path


def check(rows: pd.DataFrame, schema: object, *arguments: object, name: str = "t.csv") -> Outcome:
    path = Path(str(schema)).parent / name
    rows.to_csv(path, index=False)
    return invoke(main, "check", path, "--schema", schema, *arguments)


def cells(outcome: Outcome) -> list[list[str]]:
    """Return the rows of the table shown."""
    lines = [line for line in outcome.out.splitlines() if "│" in line]
    return [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in lines]


def test_good_table_is_reported(schema: Path) -> None:
    outcome = check(table(), schema, "--batch", 20)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0] == str(schema.with_name("t.csv"))
    shown = cells(outcome)
    assert ["read", "", "200"] in shown
    assert ["kept", "", "200"] in shown
    parts = {row[0]: int(row[2]) for row in shown if row[0] in {"train", "validation", "test"}}
    assert sum(parts.values()) == 200
    assert parts["train"] > parts["test"] > parts["validation"] > 0


def test_what_cleaning_does_is_counted(schema: Path) -> None:
    rows = pd.concat([table(), table().head(3)], ignore_index=True)
    rows[AMOUNT] = rows[AMOUNT].astype(object)
    rows.loc[10, AMOUNT] = ""
    rows.loc[[11, 12], AMOUNT] = 1_000
    shown = cells(check(rows, schema))
    assert ["duplicates", "", "3"] in shown
    # Names are shown as they are: neither markup nor emoji.
    assert ["missing", AMOUNT, "1"] in shown
    assert ["out of range", AMOUNT, "2"] in shown
    assert ["kept", "", "199"] in shown


def rows_with(column: str, value: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows[column] = rows[column].astype(object)
        rows.loc[7, column] = value
        return rows

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: rows.drop(columns="town"), "column 'town' is missing"),
        (lambda rows: rows.assign(extra=1), "'extra'"),
        (lambda rows: rows.assign(bad=0), "training rows have the same label"),
        (lambda rows: rows.head(0), "the file has no rows"),
        (rows_with("town", "SECRET"), "'town'"),
        (rows_with("bad", "SECRET"), "'bad'"),
        (rows_with(AMOUNT, "SECRET"), "amount"),
    ],
    ids=["missing", "undeclared", "one class", "empty", "category", "label", "text"],
)
def test_bad_table_is_one_line_without_its_cells(
    schema: Path, change: Callable[[pd.DataFrame], pd.DataFrame], complaint: str
) -> None:
    outcome = check(change(table()), schema)
    assert (outcome.code, outcome.out) == (4, "")
    assert "t.csv" in outcome.complaint
    assert complaint in outcome.complaint
    assert "SECRET" not in outcome.complaint


def test_every_problem_of_a_table_is_told_at_once(schema: Path) -> None:
    outcome = check(table().assign(extra=1).drop(columns="town"), schema)
    assert (outcome.code, outcome.out) == (4, "")
    first, second, last = outcome.err.splitlines()
    assert "t.csv: column 'town' is missing" in first
    assert "t.csv: column 'extra' is not in the schema" in second
    assert last.endswith("t.csv: 2 problems, a line each above: mend them, then check again")


def test_batch_larger_than_the_table_is_refused(schema: Path) -> None:
    outcome = check(table(), schema, "--batch", 190)
    assert outcome.code == 4
    assert "fewer than one batch of 190" in outcome.complaint


def test_missing_and_unknown_files(schema: Path, tmp_path: Path) -> None:
    outcome = invoke(main, "check", tmp_path / "gone.csv", "--schema", schema)
    assert (outcome.code, outcome.out) == (4, "")
    assert outcome.complaint.endswith("gone.csv: no such file: check the path")
    outcome = check(table(), schema, name="t.xlsx")
    assert outcome.code == 4
    assert "unknown kind of file" in outcome.complaint


def test_bad_schema_is_three(schema: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n")
    outcome = invoke(main, "check", tmp_path / "t.csv", "--schema", "nope")
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.complaint.startswith("unknown schema 'nope'; known: ")
    schema.write_text(SCHEMA.replace("hi = 100", "hi = -100"))
    outcome = check(table(), schema)
    assert outcome.code == 3
    assert "bounds [0, -100] are empty" in outcome.complaint


@pytest.mark.parametrize("typed", [(), ("--batch", "0"), ("--batch", "x")])
def test_wrong_usage_is_two(tmp_path: Path, typed: tuple[str, ...]) -> None:
    outcome = invoke(main, "check", tmp_path / "t.csv", *typed)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Traceback" not in outcome.err


def test_real_table_is_checked(shared_data: Path) -> None:
    path = shared_data / "uci_default" / "UCI_Credit_Card.csv.gz"
    outcome = invoke(main, "check", path, "--schema", "uci_default")
    assert outcome.code == 0
    assert ["kept", "", "30,000"] in cells(outcome)
    other = invoke(main, "check", path, "--schema", "bank_marketing")
    assert (other.code, other.out) == (4, "")
    assert "file.delimiter" in other.complaint or "';'" in other.complaint


def test_rows_that_a_cap_leaves_are_counted(schema: Path) -> None:
    schema.write_text(SCHEMA.replace("[label]", 'customer = "id"\n\n[label]', 1))
    held = table().assign(id=[index // 4 for index in range(ROWS)])
    shown = cells(check(held, schema, "--rows-per-customer", 3))
    assert ["used of customers", "id", "150"] in shown
    assert ["kept", "", "200"] in shown
    parts = [int(row[2]) for row in shown if row[0] in {"train", "validation", "test"}]
    assert sum(parts) == 150
    assert not any(row[0] == "used of customers" for row in cells(check(held, schema)))
    schema.write_text(SCHEMA)
    refused = check(table(), schema, "--rows-per-customer", 3)
    assert (refused.code, "names no customer column" in refused.complaint) == (4, True)


def test_a_database_is_checked_like_a_file(schema: Path) -> None:
    path = schema.with_name("t.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        table().to_sql("loans", connection, index=False)
    url, query = f"sqlite:///{path}", f'SELECT "{AMOUNT}", town, bad FROM loans'
    outcome = invoke(main, "check", "--schema", schema, "--url", url, "--query", query)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0] == url
    assert cells(outcome) == cells(check(table(), schema))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give a table, or --url and --query of a database: one of them"),
        (
            ["t.csv", "--url", "sqlite:///t", "--query", "SELECT 1"],
            "give a table, or --url and --query of a database: one of them",
        ),
        (["--url", "sqlite:///t"], "--url and --query: query: is missing: add it"),
        (
            ["--url", "mysql://me:HIDDEN@host/loans", "--query", "SELECT 1"],
            "--url and --query: url: holds a password: take it out, and give it in"
            " FEDPRUNE_DATA_PASSWORD",
        ),
    ],
)
def test_a_table_or_a_database_is_named(schema: Path, arguments: list[str], problem: str) -> None:
    outcome = invoke(main, "check", *arguments, "--schema", schema)
    assert (outcome.code, outcome.complaint) == (3, problem)
