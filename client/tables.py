"""Tables larger than memory: chunk by chunk in, chunk by chunk out, a file whole or not at all.

Only the columns asked for are kept, and of a Parquet file no other is read. A cell means what
`client.reading` makes of it, whichever chunk it falls into.
"""

import gzip
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from client.reading import as_text, faults_of, of_kind, read_header, require_file
from common.durable import PARTIAL, writing
from common.errors import ConfigError, DataError
from common.schema import FileFormat

Write = Callable[[pa.Table], None]


def stream(
    path: Path, file: FileFormat, inputs: Sequence[str], kept: Sequence[str], rows: int
) -> Iterator[pa.Table]:
    """Yield a file's rows in order, at most ``rows`` at a time, as the columns named.

    Cells of a CSV file are text. Nothing larger than a chunk is held, however large the file
    or a row group of it.

    Args:
        path: CSV or Parquet file.
        file: how a CSV file is written.
        inputs: columns to read as numbers or categories.
        kept: columns to carry along as they are; one may be both.
        rows: how many rows are held at a time.

    Raises:
        DataError: the file is missing, damaged or empty, or a column is missing, occurs twice
            or holds what is neither number nor text.
    """
    reader = of_kind(path, READERS)
    require_file(path)
    empty = True
    with faults_of(path, file):
        for chunk in reader(path, file, inputs, kept, rows):
            empty = False
            yield chunk
    if empty:
        raise DataError(f"{path}: the file has no rows: give one with a header and rows")


def _stream_csv(
    path: Path, file: FileFormat, inputs: Sequence[str], kept: Sequence[str], rows: int
) -> Iterator[pa.Table]:
    header = read_header(path, file)
    wanted = _wanted(path, header, inputs, kept)
    places = [header.index(name) for name in wanted]
    schema = pa.schema([(name, pa.string()) for name in wanted])
    # All columns are parsed: pandas takes a row with too many cells where only some are asked for.
    with pd.read_csv(path, chunksize=rows, **as_text(file)) as chunks:
        for number, chunk in enumerate(chunks):
            cells = chunk[places].iloc[int(number == 0) :].set_axis(wanted, axis="columns")
            if len(cells):
                yield pa.Table.from_pandas(cells, schema, preserve_index=False)


def _stream_parquet(
    path: Path, file: FileFormat, inputs: Sequence[str], kept: Sequence[str], rows: int
) -> Iterator[pa.Table]:
    if path.stat().st_size == 0:
        raise pd.errors.EmptyDataError
    # Arrow would otherwise hold a whole row group, and a file may be a single one.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as table:
        held: pa.Schema = table.schema_arrow
        wanted = _wanted(path, held.names, inputs, kept)
        _require_scalar(path, held, inputs)
        for batch in table.iter_batches(rows, columns=wanted):
            # Arrow goes by paths: asked for "a.b" it also gives the b of a column "a".
            yield pa.Table.from_batches([batch]).select(wanted)


READERS = {".csv": _stream_csv, ".csv.gz": _stream_csv, ".parquet": _stream_parquet}


def _wanted(
    path: Path, header: Sequence[str], inputs: Sequence[str], kept: Sequence[str]
) -> list[str]:
    wanted = list(dict.fromkeys((*kept, *inputs)))
    count = Counter(header)
    if absent := [name for name in wanted if not count[name]]:
        others = f" ({len(absent) - 1} more are missing)" if len(absent) > 1 else ""
        raise DataError(f"{path}: column {absent[0]!r} is missing: add it to the file{others}")
    if repeated := [name for name in wanted if count[name] > 1]:
        raise DataError(f"{path}: column {repeated[0]!r} occurs more than once: keep one of them")
    return wanted


def _require_scalar(path: Path, held: pa.Schema, inputs: Sequence[str]) -> None:
    for name in inputs:
        if not _scalar(kind := held.field(name).type):
            raise DataError(f"{path}: column {name!r} holds {kind}: give it as numbers or as text")


def _scalar(kind: pa.DataType) -> bool:
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    known = (
        *(pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean),
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null),
    )
    return any(test(held) for test in known)


def rows_of(path: Path) -> int | None:
    """Return about how many rows a file has, for whoever waits; None where that takes a while.

    A line of CSV is taken for a row, though a quoted cell may hold several.
    """
    if path.name.endswith(".parquet"):
        with suppress(OSError, pa.ArrowException), pq.ParquetFile(path) as table:
            return int(table.metadata.num_rows)
    elif path.name.endswith(".csv"):
        with suppress(OSError), path.open("rb") as file:
            lines = sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))
            return max(0, lines - 1)
    return None


def chunks_of(
    frame: pd.DataFrame, inputs: Sequence[str], kept: Sequence[str], rows: int
) -> Iterator[pa.Table]:
    """Yield a frame's rows in order, at most ``rows`` at a time, as the columns named.

    Raises:
        DataError: it has no rows, or a column is missing, occurs twice or holds what is neither
            number nor text.
    """
    source = Path("the frame")
    wanted = _wanted(source, list(map(str, frame.columns)), inputs, kept)
    if frame.empty:
        raise DataError(f"{source}: has no rows: give at least one")
    for start in range(0, len(frame), rows):
        cells = frame[wanted].iloc[start : start + rows]
        try:
            chunk = pa.Table.from_pandas(cells, preserve_index=False)
        except pa.ArrowException as error:
            # Its text shows cells.
            raise DataError(
                f"{source}: a column holds numbers beside text: have one kind in each"
            ) from error
        _require_scalar(source, chunk.schema, inputs)
        yield chunk


def to_frame(cells: pa.Table) -> pd.DataFrame:
    """Return a chunk for `common.encoding`; a truth value is 1 or 0, beside missing ones or not."""
    for place, field in enumerate(cells.schema):
        if pa.types.is_boolean(field.type):
            cells = cells.set_column(place, field.name, cells.column(place).cast(pa.int8()))
    frame: pd.DataFrame = cells.to_pandas(ignore_metadata=True)
    return frame


@contextmanager
def new_table(path: Path, file: FileFormat, *, force: bool = False) -> Iterator[Write]:
    """Give a function that appends chunks of one schema; the file appears when all is written.

    A CSV file is UTF-8 with the schema's delimiter. Cells of text are copied as they are: one
    that begins with "=" is a formula to a spreadsheet.

    Raises:
        ConfigError: the file exists and ``force`` is not given, or its directory does not.
        DataError: the name's end says no kind of table, or CSV cannot hold a column.
        DiskError: the disk is full or fails; what stood there before still stands.
    """
    opened = of_kind(path, WRITERS)
    if path.exists() and not force:
        raise ConfigError(f"{path}: exists: name another file with --out, or replace it by --force")
    if not path.parent.is_dir():
        raise ConfigError(
            f"{path.parent}: no such directory: create it, or name another with --out"
        )
    # Each process writes its own: of two to one name the last wins, and each is whole.
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        # What cannot be read in between is a `DataError` by then.
        with writing(path), partial.open("wb") as sink:
            with ExitStack() as stack:
                writers: list[Write] = []

                def write(chunk: pa.Table) -> None:
                    if not writers:
                        writers.append(opened(stack, sink, chunk.schema, file))
                    writers[0](chunk)

                yield write
            sink.flush()
            os.fsync(sink.fileno())
            partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _parquet(stack: ExitStack, sink: IO[bytes], schema: pa.Schema, _: FileFormat) -> Write:
    write: Write = stack.enter_context(pq.ParquetWriter(sink, schema)).write_table
    return write


def _csv(stack: ExitStack, sink: IO[bytes], schema: pa.Schema, file: FileFormat) -> Write:
    plain = pa.schema([(field.name, _textual(field)) for field in schema])
    options = pc.WriteOptions(delimiter=file.delimiter)
    writer = stack.enter_context(pc.CSVWriter(sink, plain, write_options=options))
    return lambda chunk: writer.write_table(chunk.cast(plain))


def _textual(field: pa.Field) -> pa.DataType:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise DataError(f"column {field.name!r} holds {kind}, which CSV cannot: write Parquet")
    return pa.string() if pa.types.is_string_view(kind) else kind


def _csv_gz(stack: ExitStack, sink: IO[bytes], schema: pa.Schema, file: FileFormat) -> Write:
    # No name and no time in its header: the same scores are the same bytes.
    packed = gzip.GzipFile("", "wb", fileobj=sink, mtime=0, compresslevel=6)
    return _csv(stack, stack.enter_context(cast(IO[bytes], packed)), schema, file)


WRITERS = {".csv": _csv, ".csv.gz": _csv_gz, ".parquet": _parquet}


def rows_at_once(columns: int, cells: int = 4_000_000, most: int = 65_536) -> int:
    """Return how many rows of so many columns and features to hold: tens of megabytes."""
    return max(1, min(most, cells // columns))
