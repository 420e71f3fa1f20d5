import sqlite3
import traceback
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr.app import Context, RecordDict

from client.config import NODE_KEY, institution_of, load_config, load_institution
from client.databases import Database
from client.keys import create_identity, read_identity
from client.ledger_file import SqliteStore
from common.consent.refusals import NotApprovedError
from common.crypto.roster import Roster
from common.entropy import SystemEntropy
from common.errors import ConfigError, DataError
from common.plan import Plan
from tests.support import WIDTH, customer_plan, roster_of, small_examples, small_plan

ROWS = 300


@pytest.fixture
def plan() -> Plan:
    return small_plan(aggregation={"kind": "plain"})


@pytest.fixture
def client_file(tmp_path: Path, plan: Plan) -> Path:
    """Return a client.toml whose plan and table lie beside it."""
    examples = small_examples(ROWS, seed=3)
    table = pd.DataFrame(examples.features, columns=[f"x{index}" for index in range(WIDTH)])
    table.assign(bad=examples.labels.astype(np.int64)).to_csv(tmp_path / "loans.csv", index=False)
    (tmp_path / "plan.toml").write_text(plan.to_toml())
    path = tmp_path / "client.toml"
    path.write_text(
        f'name = "ash"\nplan = "plan.toml"\nplan_hash = "{plan.digest()}"\ndata = "loans.csv"\n'
    )
    return path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_paths_are_relative_to_the_file(client_file: Path, tmp_path: Path) -> None:
    config = load_config(client_file)
    assert (config.plan, config.data) == (tmp_path / "plan.toml", tmp_path / "loans.csv")
    edit(client_file, '"loans.csv"', '"/elsewhere/loans.csv"')
    assert load_config(client_file).data == Path("/elsewhere/loans.csv")


def test_institution_is_opened_with_its_rows(client_file: Path, plan: Plan) -> None:
    institution = load_institution(client_file)
    assert (institution.name, institution.plan) == ("ash", plan)
    assert isinstance(institution.entropy, SystemEntropy)
    parts = (institution.splits.train, institution.splits.validation, institution.splits.test)
    assert sum(map(len, parts)) == ROWS


def test_rows_are_brought_into_the_plans_units(client_file: Path, plan: Plan) -> None:
    by_customer = customer_plan(2, aggregation={"kind": "plain"})
    client_file.with_name("plan.toml").write_text(by_customer.to_toml())
    edit(client_file, plan.digest(), by_customer.digest())
    table = client_file.with_name("loans.csv")
    pd.read_csv(table).assign(id=np.arange(ROWS) // 3).to_csv(table, index=False)
    splits = load_institution(client_file).splits
    parts = (splits.train, splits.validation, splits.test)
    assert sum(map(len, parts)) == ROWS * 2 / 3
    splits.require_units(by_customer.customer_cap)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("data =", "colour = 1\ndata =", r"colour.*: unknown key"),
        ('name = "ash"\n', "", "name: is missing: add it"),
        ('plan_hash = "', 'plan_hash = "x', "plan_hash: "),
        ("plan_hash =", "seed = 3\nplan_hash =", r"seed.*: unknown key"),
        ("data =", "data ", "not readable as TOML"),
        ('name = "ash"', 'name = "oak"', "'oak' is not a member"),
        ('plan = "plan.toml"', 'plan = "gone.toml"', "gone.toml: no such file"),
    ],
)
def test_bad_file_is_one_line(client_file: Path, old: str, new: str, problem: str) -> None:
    edit(client_file, old, new)
    with pytest.raises(ConfigError, match=problem) as caught:
        load_institution(client_file)
    assert "\n" not in str(caught.value)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"client\.toml: no such file: check the path"):
        load_config(tmp_path / "client.toml")


def test_a_plan_of_another_hash_is_not_approved(client_file: Path, plan: Plan) -> None:
    edit(client_file.with_name("plan.toml"), "rounds = 6", "rounds = 7")
    with pytest.raises(
        NotApprovedError, match=f"approved {plan.digest()}: read the plan"
    ) as caught:
        load_institution(client_file)
    assert small_plan(aggregation={"kind": "plain"}, training={"rounds": 7}).digest() in str(
        caught.value
    )


def test_comments_in_the_plan_need_no_new_approval(client_file: Path, plan: Plan) -> None:
    edit(client_file.with_name("plan.toml"), "rounds = 6", "rounds    = 6 # agreed in June")
    assert load_institution(client_file).plan == plan


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (None, "loans.csv"),
        ("x0,x1,x2,x3,bad\n" + "0,0,0,0,1\n" * 40, "rows"),
        ("x0,x1,x2,x3,bad\n" + "".join(f"0,0,0,{i / 400},1\n" for i in range(400)), "same label"),
    ],
)
def test_unfit_table_is_found_before_any_round(
    client_file: Path, table: str | None, problem: str
) -> None:
    path = client_file.with_name("loans.csv")
    path.unlink()
    if table is not None:
        path.write_text(table)
    institution = load_institution(client_file)
    with pytest.raises(DataError, match=problem) as caught:
        _ = institution.splits
    assert "\n" not in str(caught.value)


def test_a_node_names_its_file_and_opens_it_once(client_file: Path) -> None:
    context = Context(1, 2, {NODE_KEY: str(client_file)}, RecordDict(), {})
    assert institution_of(context) is institution_of(context)
    assert institution_of(context).name == "ash"
    with pytest.raises(ConfigError, match="--node-config 'client-file="):
        institution_of(Context(1, 2, {}, RecordDict(), {}))


def test_secure_aggregation_needs_a_membership(client_file: Path, plan: Plan) -> None:
    secure = small_plan()
    client_file.with_name("plan.toml").write_text(secure.to_toml())
    edit(client_file, plan.digest(), secure.digest())
    with pytest.raises(ConfigError, match=r"needs keys: add a \[membership\]"):
        load_institution(client_file)
    here = client_file.parent
    create_identity(here / "keys.json", SystemEntropy().stream("identity"))
    own = read_identity(here / "keys.json")
    roster = roster_of(secure)
    roster = Roster(members=roster.members | {"ash": own.member("ash")})
    (here / "roster.json").write_bytes(roster.to_bytes())
    with client_file.open("a") as file:
        file.write(
            f'[membership]\nkeys = "keys.json"\nroster = "roster.json"\n'
            f'roster_hash = "{roster.digest}"\n'
        )
    institution = load_institution(client_file)
    assert institution.membership is not None
    assert institution.membership.roster == roster
    assert isinstance(institution.ledger._store, SqliteStore)
    assert (here / "ledger.sqlite").exists()


@pytest.fixture
def in_database(client_file: Path) -> Path:
    """Return the same client.toml with its table in a SQLite database beside it."""
    table = pd.read_csv(client_file.with_name("loans.csv"))
    with closing(sqlite3.connect(client_file.with_name("loans.sqlite"))) as connection:
        table.to_sql("loans", connection, index=False)
    edit(
        client_file,
        'data = "loans.csv"\n',
        '[data]\nurl = "sqlite:///loans.sqlite"\nquery = "SELECT * FROM loans"\n',
    )
    return client_file


def test_a_table_may_lie_in_a_database(in_database: Path, tmp_path: Path) -> None:
    config = load_config(in_database)
    assert isinstance(config.data, Database)
    assert config.data.url == f"sqlite:///{tmp_path}/loans.sqlite"
    splits = load_institution(in_database).splits
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == ROWS
    assert splits.source == f"sqlite:///{tmp_path}/loans.sqlite"


def test_certificates_of_a_database_lie_beside_the_file(in_database: Path) -> None:
    edit(in_database, "sqlite:///loans.sqlite", "postgresql+pg8000://me@db.bank/loans")
    edit(in_database, "query =", 'ca = "ca.pem"\nquery =')
    data = load_config(in_database).data
    assert isinstance(data, Database)
    assert data.ca == in_database.with_name("ca.pem")
    edit(in_database, "postgresql+pg8000", "postgresql+psycopg")
    with pytest.raises(ConfigError, match=r"data: ca is for postgresql\+pg8000: tell another"):
        load_config(in_database)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "sqlite:///loans.sqlite",
            "postgresql://me:HIDDEN@host/loans",
            r"client\.toml: data\.url: holds a password: take it out, and give it in FEDPRUNE_",
        ),
        ("sqlite:///loans.sqlite", "HIDDEN", r"client\.toml: data\.url: no SQLAlchemy URL: write"),
        ("SELECT * FROM", "DELETE FROM", r"data\.query: give one statement that begins with"),
        ("query =", "password = 'HIDDEN'\nquery =", r"data\.password: unknown key"),
        ("query =", "timeout = 0\nquery =", r"data\.timeout 0: must be above 0"),
    ],
)
def test_a_bad_database_is_one_line_without_secrets(
    in_database: Path, old: str, new: str, problem: str
) -> None:
    edit(in_database, old, new)
    with pytest.raises(ConfigError, match=problem) as caught:
        load_config(in_database)
    assert "\n" not in str(caught.value)
    assert "HIDDEN" not in str(caught.value)


def test_a_password_in_the_url_is_not_in_the_traceback_either(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text('name = "ash"\n[data]\nurl = "sqlite://u:HIDDEN@h/d"\nquery = "SELECT 1"\n')
    with pytest.raises(ConfigError, match="holds a password") as caught:
        load_config(file)
    assert "HIDDEN" not in "".join(traceback.format_exception(caught.value))
