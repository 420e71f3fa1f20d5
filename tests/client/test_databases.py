import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from client import databases
from client.data import Splits, load_table, prepare
from client.databases import Database, read_query
from common.errors import DataError
from common.schema import FeatureSchema
from common.secret_files import DATA_PASSWORD
from tests.client.postgres import SECRET, Cluster, certify, missing, postgres

ROWS = 400
SCHEMA = FeatureSchema.model_validate(
    {
        "name": "loans",
        "label": {"column": "bad", "positive": 1, "negative": 0},
        "customer": "id",
        "ignored": ["note"],
        "columns": [
            {"name": "amount", "kind": "numeric", "lo": 0, "hi": 1000, "missing": "indicator"},
            {"name": "income", "kind": "numeric", "lo": 0, "hi": 1},
            {"name": "age", "kind": "numeric", "lo": 0, "hi": 99, "missing": "indicator"},
            {"name": "grade", "kind": "categorical", "values": ["a", "é"], "missing": "indicator"},
            {"name": "married", "kind": "categorical", "values": [0, 1], "missing": "indicator"},
            {
                "name": "since",
                "kind": "categorical",
                "values": ["2023-06-30", "2024-01-31"],
                "protected": True,
            },
        ],
    }
)


def table() -> pa.Table:
    """Return rows of every kind of column, some cells missing, with types as databases have."""
    draw = np.random.default_rng(0)

    def some(values: list[Any], share: float) -> list[Any]:
        gone = draw.random(ROWS) < share
        return [None if absent else value for value, absent in zip(values, gone, strict=True)]

    return pa.table(
        {
            # Beyond 2^53: as floating-point numbers, neighbours would be one customer.
            "id": [2**60 + number // 2 for number in range(ROWS)],
            "amount": pa.array(
                some([Decimal(int(cents)) / 100 for cents in draw.integers(0, 99_999, ROWS)], 0.1),
                pa.decimal128(12, 2),
            ),
            "income": draw.random(ROWS),
            "age": pa.array(some(draw.integers(18, 99, ROWS).tolist(), 0.1), pa.int32()),
            "grade": some(draw.choice(["a", "é"], ROWS).tolist(), 0.1),
            "married": pa.array(some((draw.random(ROWS) < 0.5).tolist(), 0.1), pa.bool_()),
            "since": pa.array(
                [date(2023, 6, 30) if one else date(2024, 1, 31) for one in draw.random(ROWS) < 0.5]
            ),
            "note": some(["it's; 12:30, 100 %"] * ROWS, 0.5),
            "bad": draw.integers(0, 2, ROWS),
        }
    )


def literal(cell: object, *, truth: tuple[str, str]) -> str:
    """Return a cell as SQL writes it."""
    if cell is None:
        return "NULL"
    if isinstance(cell, bool):
        return truth[cell]
    if isinstance(cell, str | date):
        return "'" + str(cell).replace("'", "''") + "'"
    return repr(cell) if isinstance(cell, float) else str(cell)


def statements(kinds: str, truth: tuple[str, str]) -> tuple[str, str]:
    """Return what makes and fills a table of these columns."""
    rows = (
        f"({', '.join(literal(cell, truth=truth) for cell in row.values())})"
        for row in table().to_pylist()
    )
    return f"CREATE TABLE loans ({kinds})", f"INSERT INTO loans VALUES {', '.join(rows)}"


def lite(path: Path, *texts: str) -> Database:
    """Return a SQLite database after these statements."""
    with closing(sqlite3.connect(path)) as connection:
        for text in texts:
            connection.execute(text)
        connection.commit()
    return Database(url=f"sqlite:///{path}", query="SELECT * FROM loans")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Return a PostgreSQL server that holds the table."""
    if reason := missing():
        pytest.skip(reason)
    kinds = (
        "id bigint, amount numeric(12, 2), income double precision, age integer, grade varchar(9),"
        " married boolean, since date, note text, bad smallint"
    )
    with postgres() as running:
        running.execute(*statements(kinds, ("false", "true")))
        yield running


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    """Return a SQLite database that holds the table."""
    kinds = (
        "id INTEGER, amount NUMERIC, income REAL, age INTEGER, grade TEXT, married INTEGER,"
        " since TEXT, note TEXT, bad INTEGER"
    )
    return lite(tmp_path / "loans.sqlite", *statements(kinds, ("0", "1")))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return the table as CSV and as Parquet."""
    rows = table()
    whole = rows.set_column(5, "married", rows["married"].cast(pa.int8()))
    frame = whole.to_pandas(types_mapper=pd.ArrowDtype)
    frame.to_csv(tmp_path / "loans.csv", index=False)
    pq.write_table(rows, tmp_path / "loans.parquet")
    return [tmp_path / "loans.csv", tmp_path / "loans.parquet"]


def of(cluster: Cluster, query: str = "SELECT * FROM loans", **settings: Any) -> Database:
    return Database(url=cluster.url, query=query, **settings)


def require_equal(first: Splits, second: Splits) -> None:
    for name in ("train", "validation", "test"):
        one, other = getattr(first, name), getattr(second, name)
        assert len(one) > 0
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.customers, other.customers)
        assert one.protected.astype(str).equals(other.protected.astype(str))


def complaint(database: Database, password: str | None = SECRET) -> str:
    """Return the one line with which reading fails, and check that it tells no secret."""
    with pytest.raises(DataError) as caught:
        read_query(database, password)
    told = str(caught.value)
    assert told.startswith(f"{database}: ")
    assert "\n" not in told
    assert not caught.value.__cause__
    assert caught.value.__suppress_context__ or not caught.value.__context__
    for secret in (SECRET, "reader@", "HIDDEN"):
        assert secret not in told
    return told.removeprefix(f"{database}: ")


@pytest.mark.parametrize("rows", [20_000, 7])
def test_sqlite_means_what_files_mean(
    files: list[Path], sqlite: Database, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(databases, "ROWS", rows)
    sources: list[Path | Database] = [*files, sqlite]
    csv, parquet, ours = (prepare(load_table(source, SCHEMA), SCHEMA, 2) for source in sources)
    require_equal(csv, parquet)
    require_equal(csv, ours)


@pytest.mark.parametrize("rows", [20_000, 7])
def test_postgresql_means_what_files_mean(
    files: list[Path], cluster: Cluster, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(databases, "ROWS", rows)
    monkeypatch.setenv(DATA_PASSWORD, SECRET)
    sources: list[Path | Database] = [files[0], of(cluster)]
    csv, ours = (prepare(load_table(source, SCHEMA), SCHEMA, 2) for source in sources)
    require_equal(csv, ours)


def test_rows_come_in_pieces(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []

    def first(rows: list[Any], names: list[str], source: str) -> pd.DataFrame:
        pieces.append(len(rows))
        raise KeyboardInterrupt

    monkeypatch.setattr(databases, "_frame", first)
    # Whoever waits for all of it waits for longer than the database lets him.
    with pytest.raises(KeyboardInterrupt):
        read_query(of(cluster, "SELECT generate_series(1, 2000000000)", timeout=30), SECRET)
    assert pieces == [databases.ROWS]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT '12:30'::text AS a, 7 % 4 AS b, 'x%y;' AS c, 1 AS a; ",
        "-- a comment; with a semicolon\nSELECT '12:30' AS a, 3 AS b, 'x%y;' AS c, 1 AS a",
        "/* a; b */ WITH one AS (SELECT 1) SELECT '12:30' a, 3 b, 'x%y;' AS c, 1 a FROM one",
    ],
)
def test_the_query_is_sent_as_it_stands(cluster: Cluster, query: str) -> None:
    frame = read_query(of(cluster, query), SECRET)
    assert list(frame.columns) == ["a", "b", "c", "a"]
    assert frame.iloc[0].tolist() == ["12:30", 3, "x%y;", 1]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM loans",
        "SELECT 1; DROP TABLE loans",
        "SELECT 'a'; SELECT 2;",
        "EXPLAIN SELECT 1",
        "selection",
        "",
        "-- SELECT 1",
    ],
)
def test_only_one_select_is_taken(query: str) -> None:
    with pytest.raises(ValidationError, match="one statement that begins with SELECT or WITH"):
        Database(url="sqlite:///t.sqlite", query=query)


def test_nothing_is_changed_even_so(cluster: Cluster, tmp_path: Path) -> None:
    cluster.execute("CREATE SEQUENCE counted")
    writes = "WITH gone AS (DELETE FROM loans RETURNING *) SELECT * FROM gone"
    for query in (writes, "SELECT nextval('counted')"):
        assert complaint(of(cluster, query)).startswith("data.query would change data")
    assert len(read_query(of(cluster), SECRET)) == ROWS
    database = lite(tmp_path / "t.sqlite", "CREATE TABLE loans (a)", "INSERT INTO loans VALUES (1)")
    writes = "WITH one AS (SELECT 1) DELETE FROM loans RETURNING a"
    hasty = database.model_copy(update={"query": writes})
    assert complaint(hasty).startswith("data.query would change data")
    assert len(read_query(database, None)) == 1


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("SELECT * FROM gone", "it does not understand data.query"),
        ("SELECT HIDDEN FROM loans", "it does not understand data.query"),
        ("SELECT 'HIDDEN'::integer", "data.query asks for a value to be converted"),
        ("SELECT 1 / (bad - bad) FROM loans", "data.query asks for a value to be converted"),
        ("SELECT array['HIDDEN'] AS a", "column 'a' holds list: have data.query cast it"),
        ("SELECT 1 AS a WHERE false", "data.query gives no rows: give one that does"),
    ],
)
def test_what_drivers_say_is_not_repeated(
    cluster: Cluster, query: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert complaint(of(cluster, query)).startswith(problem)
    # SQLAlchemy would log a cursor that cannot be closed, with all that the driver said.
    assert caplog.text == ""


def test_a_slow_query_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    slow = of(cluster, "SELECT pg_sleep(60)", timeout=0.2)
    assert complaint(slow).startswith("data.query took longer than data.timeout: raise it")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    endless += " SELECT count(*) FROM n"
    database = lite(tmp_path / "t.sqlite")
    slow = database.model_copy(update={"query": endless, "timeout": 0.2})
    assert complaint(slow).startswith("data.query took longer than data.timeout: raise it")


@pytest.mark.parametrize("password", ["HIDDEN", None])
def test_a_wrong_password_is_refused(cluster: Cluster, password: str | None) -> None:
    told = complaint(of(cluster, "SELECT 1"), password)
    assert told.endswith(f"check data.url, data.ca and {DATA_PASSWORD}") == (password is None)
    assert DATA_PASSWORD in told


def test_the_server_is_known_by_its_certificate(cluster: Cluster, tmp_path: Path) -> None:
    secure = of(cluster, "SELECT ssl FROM pg_stat_ssl", ca=cluster.certificate)
    assert read_query(secure, SECRET)["ssl"].tolist() == [1]
    stranger = of(cluster, "SELECT 1", ca=certify(tmp_path / "other.pem"))
    assert complaint(stranger).startswith("it does not prove by TLS who it is: name its authority")


@pytest.mark.parametrize("host", ["db.bank", "10.0.0.8"])
def test_no_server_elsewhere_is_trusted_unseen(host: str) -> None:
    away = Database(url=f"postgresql+pg8000://reader@{host}/loans", query="SELECT 1")
    context = databases._arguments(away, away.address)["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql+pg8000://reader@127.0.0.1:1/loans", "cannot be read or reached"),
        ("oracular://reader@host/loans", "the driver of data.url is not installed"),
        ("postgresql+psycopg://reader@127.0.0.1/loans", "the driver of data.url is not installed"),
    ],
)
def test_a_database_that_is_not_there(url: str, problem: str) -> None:
    assert complaint(Database(url=url, query="SELECT 1", timeout=5)).startswith(problem)


def test_a_sqlite_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    database = Database(url=f"sqlite:///{path}", query="SELECT 1")
    with pytest.raises(DataError, match=r"t\.sqlite: no such file: check the path"):
        read_query(database, None)
    assert not path.exists()
    path.write_bytes(b"HIDDEN" * 1000)
    asked = database.model_copy(update={"query": "SELECT * FROM loans"})
    assert complaint(asked) == "the file is no SQLite database, or is damaged"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://reader:{SECRET.replace('@', '%40')}@host/loans",
        "postgresql://reader:HIDDEN@host/loans",
        "postgresql://reader@host/loans?password=HIDDEN",
        "mysql://reader@host/loans?passwd=HIDDEN",
        "mssql+pyodbc:///?odbc_connect=PWD%3DHIDDEN",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Database(url=url, query="SELECT 1")
    (problem,) = caught.value.errors()
    assert problem["msg"].endswith(f"holds a password: take it out, and give it in {DATA_PASSWORD}")


@pytest.mark.parametrize("url", ["", "loans.sqlite", "HIDDEN@host/loans"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Database(url=url, query="SELECT 1")
    (problem,) = caught.value.errors()
    assert problem["msg"].startswith("Value error, no SQLAlchemy URL: write dialect://user@host")


def test_columns_of_several_kinds_are_read_as_text(tmp_path: Path) -> None:
    cells = ("1", "2.5", "'x'", "NULL", str(2**62))
    texts = (f"INSERT INTO loans VALUES ({cell})" for cell in cells)
    frame = read_query(lite(tmp_path / "t.sqlite", "CREATE TABLE loans (a)", *texts), None)
    assert frame["a"].tolist()[:3] == ["1", "2.5", "x"]
    assert frame["a"].isna().tolist() == [False, False, False, True, False]
    assert str(Database(url="sqlite:///t.sqlite", query="SELECT 1")) == "sqlite:///t.sqlite"
    assert "reader" not in repr(Database(url="mysql://reader@host/loans", query="SELECT 1"))
