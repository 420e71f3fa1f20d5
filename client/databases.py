"""A query to raw rows: what a database gives, as if it had been read from a file.

Any SQLAlchemy URL whose driver is installed; PostgreSQL by pg8000 and SQLite are tested. One
statement is sent, it may only read, and it is read chunk by chunk. Nothing that a driver says is
repeated, for it may quote rows or the URL: its code alone is put into words.

``client.toml`` names a `Database`, and most trips need no row: pandas and SQLAlchemy are imported
where one is read.
"""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from datetime import time as clock_time
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from common.errors import DataError
from common.secret_files import DATA_PASSWORD

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import URL, Connection

ROWS = 20_000
"""Rows fetched at a time."""

_SECRET = re.compile("pass|pwd|secret|token|odbc_connect", re.IGNORECASE)
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)

_READ_ONLY = {
    "postgresql": ("SET TRANSACTION READ ONLY", "SET LOCAL statement_timeout = {milliseconds}"),
    "sqlite": ("PRAGMA query_only = ON",),
}
"""What is said before the query; of other databases the account must not be able to write."""

_CODES = {
    "28": f"the user of data.url or {DATA_PASSWORD} is wrong",
    "3D": "it has no such database: correct data.url",
    "42501": "its user may not read that: have the right to SELECT granted",
    "42": "it does not understand data.query: try it in the database's own console",
    "0A": "data.query would change data, or is none that rows come from one by one",
    "25006": "data.query would change data: give one that only reads",
    "57014": "data.query took longer than data.timeout: raise it, or ask for less",
    "22": "data.query asks for a value to be converted that cannot be: look at its casts",
    "08": "the connection broke: start again",
    "SQLITE_ERROR": "it does not understand data.query: try it in the database's own console",
    "SQLITE_READONLY": "data.query would change data: give one that only reads",
    "SQLITE_INTERRUPT": "data.query took longer than data.timeout: raise it, or ask for less",
    "SQLITE_NOTADB": "the file is no SQLite database, or is damaged",
    "SQLITE_BUSY": "another program holds the database: try again",
}
"""What a code, or else how it begins, means: SQLSTATE (SQL:2016, part 2, 24.1) and SQLite's."""


class Database(BaseModel):
    """Where a table lies in a database: ``[data]`` of ``client.toml``.

    ``timeout`` is in seconds. ``ca`` holds the certificates by which pg8000 knows a server; without
    it those of the system count, and on this machine itself none are asked for. Other drivers are
    told in the URL.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(repr=False)]
    query: Annotated[str, Field(repr=False)]
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    ca: Path | None = None

    @field_validator("url")
    @classmethod
    def _without_password(cls, text: str) -> str:
        from sqlalchemy.engine import make_url  # noqa: PLC0415
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            # Not chained: it may hold a password.
            raise ValueError("no SQLAlchemy URL: write dialect://user@host/database") from None
        if url.password is not None or any(map(_SECRET.search, url.query)):
            raise ValueError(f"holds a password: take it out, and give it in {DATA_PASSWORD}")
        return text

    @field_validator("query")
    @classmethod
    def _only_reads(cls, query: str) -> str:
        bare = _QUOTED.sub(" ", query).strip().removesuffix(";")
        if ";" in bare or not re.match(r"\s*(select|with)\b", bare, re.IGNORECASE):
            raise ValueError("give one statement that begins with SELECT or WITH")
        return query.strip().removesuffix(";")

    @model_validator(mode="after")
    def _ca_is_heeded(self) -> Self:
        if self.ca is not None and self.address.get_driver_name() != "pg8000":
            raise ValueError("ca is for postgresql+pg8000: tell another driver in its url")
        return self

    @property
    def address(self) -> URL:
        """The URL, parsed."""
        from sqlalchemy.engine import make_url  # noqa: PLC0415

        return make_url(self.url)

    def __str__(self) -> str:
        """Say which database, but not who reads it or how."""
        url = self.address
        place = f"{url.host or ''}{f':{url.port}' if url.port else ''}"
        return f"{url.get_backend_name()}://{place}/{url.database or ''}"

    def under(self, here: Path) -> Database:
        """Return it with paths relative to the folder ``here``."""
        url, ca = self.address, None if self.ca is None else here / self.ca
        if _file_of(url) is not None:
            url = url.set(database=str(here / str(url.database)))
        return self.model_copy(update={"url": url.render_as_string(), "ca": ca})


def read_query(database: Database, password: str | None) -> pd.DataFrame:
    """Return the rows of a query under its own column names, indexed from 0.

    Raises:
        DataError: the database or its driver is missing or refuses, or there are no rows.
    """
    import pandas as pd  # noqa: PLC0415
    from sqlalchemy import NullPool, create_engine, text  # noqa: PLC0415

    from client.reading import require_file  # noqa: PLC0415

    url, deadline = database.address, time.monotonic() + database.timeout
    if (path := _file_of(url)) is not None:
        require_file(path)
    with _faults_of(database):
        engine = create_engine(
            url if None in (password, url.username) else url.set(password=password),
            poolclass=NullPool,
            hide_parameters=True,
            connect_args=_arguments(database, url),
        )
        chunks = []
        with engine.connect() as connection:
            _prepare(connection, database, deadline)
            # A colon is the query's own: nothing is ever put into it.
            query = text(database.query.replace(":", r"\:"))
            options = {"stream_results": True, "max_row_buffer": ROWS}
            result = connection.execute(query, execution_options=options)
            names = list(result.keys())
            # Without a size they would be one, all that there is.
            for rows in result.partitions(ROWS):
                chunks.append(_frame(rows, names, str(database)))
                if time.monotonic() > deadline:
                    raise DataError(f"{database}: {_CODES['57014']}")
    if not chunks:
        raise DataError(f"{database}: data.query gives no rows: give one that does")
    return pd.concat(chunks, ignore_index=True).set_axis(names, axis="columns")


def _file_of(url: URL) -> Path | None:
    """Return the file of a SQLite database; None for any other."""
    if url.get_backend_name() != "sqlite" or str(url.database).startswith("file:"):
        return None
    return Path(url.database or "")


def _arguments(database: Database, url: URL) -> dict[str, Any]:
    """Return what the driver is told beside the URL."""
    if url.get_backend_name() == "sqlite":
        return {"timeout": database.timeout}
    if url.get_driver_name() != "pg8000":
        return {}
    # Longer than the database's own, which says what happened.
    arguments: dict[str, Any] = {"timeout": database.timeout + 10}
    # Left to itself the driver would take whoever answers for the database.
    if database.ca is not None or not _local(url.host):
        arguments["ssl_context"] = ssl.create_default_context(cafile=database.ca)
    return arguments


def _local(host: str | None) -> bool:
    try:
        return host in (None, "", "localhost") or ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _prepare(connection: Connection, database: Database, deadline: float) -> None:
    """Have the database refuse to write, and give up in time."""
    backend = connection.dialect.name
    for statement in _READ_ONLY.get(backend, ()):
        milliseconds = max(1, round(1000 * database.timeout))
        connection.exec_driver_sql(statement.format(milliseconds=milliseconds))
    if backend == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)


@contextmanager
def _faults_of(database: Database) -> Iterator[None]:
    """Put what drivers find wrong into one `DataError` line of our own words."""
    from sqlalchemy.exc import DBAPIError, NoSuchModuleError  # noqa: PLC0415

    # Not chained and not logged: what a driver says may quote a row, the query or the URL.
    log = logging.getLogger("sqlalchemy")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    except (NoSuchModuleError, ImportError):
        raise DataError(
            f"{database}: the driver of data.url is not installed: install it, such as by pip"
            " install 'fedprune[postgresql]'"
        ) from None
    except DBAPIError as error:
        raise DataError(f"{database}: {_meaning(error.orig)}") from None
    except ssl.SSLError:
        raise DataError(
            f"{database}: it does not prove by TLS who it is: name its authority in data.ca"
        ) from None
    except TimeoutError:
        raise DataError(f"{database}: {_CODES['57014']}") from None
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{database}: {_meaning(error)}") from None
    finally:
        log.setLevel(level)


def _meaning(error: BaseException | None) -> str:
    """Return what a driver's code means; its words are for nobody."""
    told = error.args[0] if error is not None and error.args else None
    found = told.get("C") if isinstance(told, dict) else None
    code = str(found or getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", ""))
    for known, meaning in _CODES.items():
        if code and code.startswith(known):
            return meaning
    where = f", code {code}" if code else ""
    return (
        f"cannot be read or reached ({type(error).__name__}{where}): check data.url, data.ca and"
        f" {DATA_PASSWORD}"
    )


def _frame(rows: Sequence[Sequence[Any]], names: Sequence[str], source: str) -> pd.DataFrame:
    """Return a chunk, its columns numbered: names may occur twice, which others complain of."""
    import pandas as pd  # noqa: PLC0415

    columns = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            place: _cells(column, f"{source}: column {names[place]!r}")
            for place, column in enumerate(columns)
        }
    )


def _cells(column: Sequence[Any], where: str) -> pd.api.extensions.ExtensionArray:
    """Return cells as what a file would hold: whole numbers, numbers, or text; None is missing."""
    import pandas as pd  # noqa: PLC0415

    kinds = {type(cell) for cell in column} - {type(None)}
    if kinds <= {int, bool} and all(abs(cell or 0) < 2**63 for cell in column):
        return pd.array([None if cell is None else int(cell) for cell in column], dtype="Int64")
    if kinds <= {float, int, bool}:
        return pd.array([None if cell is None else float(cell) for cell in column], dtype="Float64")
    return pd.array([None if cell is None else _text(cell, where) for cell in column], dtype="str")


def _text(cell: object, where: str) -> str:
    if isinstance(cell, Decimal):
        return format(cell, "f")  # Never with an exponent, as databases print it.
    if isinstance(cell, bool):
        return str(int(cell))
    if isinstance(cell, str | int | float | date | clock_time | UUID):
        return str(cell)
    raise DataError(
        f"{where} holds {type(cell).__name__}: have data.query cast it to numbers or text"
    )
