"""Files to raw rows: every way in which a file cannot be read, in one clear line.

CSV cells stay text. What a cell means is the schema's to say, not a guess from the other
cells of its column, and a header read as a row keeps duplicated names that pandas renames.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import DataError
from common.schema import FileFormat

T = TypeVar("T")

DELIMITERS = (",", ";", "\t", "|")


def read_frame(path: Path, file: FileFormat) -> pd.DataFrame:
    """Return the rows of a CSV or Parquet file under its own column names, indexed from 0.

    Raises:
        DataError: the file is missing, empty, of another kind, encoding or delimiter.
    """
    reader = of_kind(path, READERS)
    require_file(path)
    with faults_of(path, file):
        frame = reader(path, file)
    if frame.empty:
        raise DataError(f"{path}: the file has no rows: give one with a header and rows")
    return frame


def of_kind(path: Path, kinds: Mapping[str, T]) -> T:
    """Return what belongs to the end of a file's name, which need not exist yet."""
    if path.is_dir():
        raise DataError(f"{path}: is a directory: name the file in it")
    found = next((kind for end, kind in kinds.items() if path.name.lower().endswith(end)), None)
    if found is None:
        raise DataError(f"{path}: unknown kind of file: give one that ends in {', '.join(kinds)}")
    return found


def require_file(path: Path) -> None:
    """Refuse to read what is not there."""
    if not path.is_file():
        raise DataError(f"{path}: no such file: check the path")


@contextmanager
def faults_of(path: Path, file: FileFormat) -> Iterator[None]:
    """Put whatever pandas and Arrow find wrong with a file into one `DataError` line."""
    try:
        yield
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: the file is empty: give one with a header and rows") from error
    except UnicodeError as error:
        raise _wrong_encoding(path, file) from error
    except pd.errors.ParserError as error:
        detail = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise DataError(f"{path}: not a table: {detail}: correct that line") from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{path}: damaged or not what its name says: write it again") from error


def _read_csv(path: Path, file: FileFormat) -> pd.DataFrame:
    header = read_header(path, file)
    cells: pd.DataFrame = pd.read_csv(path, **as_text(file))
    return cells.iloc[1:].reset_index(drop=True).set_axis(header, axis="columns")


def read_header(path: Path, file: FileFormat) -> list[str]:
    """Return the column names of a CSV file; raise `DataError` where it is written otherwise."""
    header = pd.read_csv(path, nrows=1, **as_text(file)).iloc[0].tolist()
    if any("\0" in name for name in header):
        raise _wrong_encoding(path, file)
    if len(header) == 1:
        _require_delimiter(path, file, header[0])
    return [name.strip() for name in header]


def as_text(file: FileFormat) -> dict[str, Any]:
    """Return how pandas reads a CSV file: every cell text, the header a row like any other."""
    return {
        "sep": file.delimiter,
        "encoding": file.encoding,
        "header": None,
        "dtype": str,
        "keep_default_na": False,
    }


def _read_parquet(path: Path, file: FileFormat) -> pd.DataFrame:
    if path.stat().st_size == 0:
        raise pd.errors.EmptyDataError
    frame: pd.DataFrame = pq.ParquetFile(path).read().to_pandas()
    # A named index is a column that pandas moved aside; any other only counts rows.
    return frame.reset_index(drop=frame.index.name is None)


READERS: dict[str, Callable[[Path, FileFormat], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".parquet": _read_parquet,
}


def _require_delimiter(path: Path, file: FileFormat, header: str) -> None:
    for other in DELIMITERS:
        if other != file.delimiter and other in header:
            raise DataError(
                f"{path}: one column found where {file.delimiter!r} should separate several; the"
                f" header holds {other!r}: save the file with {file.delimiter!r} or declare"
                " file.delimiter"
            )


def _wrong_encoding(path: Path, file: FileFormat) -> DataError:
    return DataError(
        f"{path}: not {file.encoding} text: save the file as {file.encoding} or declare"
        " file.encoding"
    )
