"""Files to raw rows: every way in which a file cannot be read, in one clear line.

CSV cells stay text. What a cell means is the schema's to say, not a guess from the other
cells of its column, and a header read as a row keeps duplicated names that pandas renames.
"""

import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import DataError
from common.schema import FileFormat

DELIMITERS = (",", ";", "\t", "|")


def read_frame(path: Path, file: FileFormat) -> pd.DataFrame:
    """Return the rows of a CSV or Parquet file under its own column names, indexed from 0.

    Raises:
        DataError: the file is missing, empty, of another kind, encoding or delimiter.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a directory: name the file in it")
    reader = next((read for end, read in READERS.items() if path.name.lower().endswith(end)), None)
    if reader is None:
        raise DataError(f"{path}: unknown kind of file: give one that ends in {', '.join(READERS)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file: check the path")
    try:
        frame = reader(path, file)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: the file is empty: give one with a header and rows") from error
    except UnicodeError as error:
        raise _wrong_encoding(path, file) from error
    except pd.errors.ParserError as error:
        detail = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise DataError(f"{path}: not a table: {detail}: correct that line") from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{path}: damaged or not what its name says: write it again") from error
    if frame.empty:
        raise DataError(f"{path}: the file has no rows: give one with a header and rows")
    return frame


def _read_csv(path: Path, file: FileFormat) -> pd.DataFrame:
    header = _read_text(path, file, rows=1).iloc[0]
    if any("\0" in name for name in header):
        raise _wrong_encoding(path, file)
    if len(header) == 1:
        _require_delimiter(path, file, header.iloc[0])
    frame = _read_text(path, file).iloc[1:].reset_index(drop=True)
    frame.columns = pd.Index(header.str.strip(), name=None)
    return frame


def _read_text(path: Path, file: FileFormat, rows: int | None = None) -> pd.DataFrame:
    return pd.read_csv(
        path,
        sep=file.delimiter,
        encoding=file.encoding,
        header=None,
        nrows=rows,
        dtype=str,
        keep_default_na=False,
    )


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
