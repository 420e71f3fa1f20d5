import csv
import errno
import gzip
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.reading import read_frame
from client.tables import new_table, rows_at_once, stream, to_frame
from common.errors import ConfigError, DataError, DiskError
from common.schema import FileFormat

COMMA = FileFormat()
ROWS = pa.table(
    {
        "id": ["é", "=1+1", None],
        "x": [1, None, 3],
        "loan.amount": [1.5, 2.5, 3.5],
        "rest": [0, 0, 0],
    }
)


def write(path: Path, table: pa.Table, rows: int = 1) -> Path:
    pq.write_table(table, path, row_group_size=rows)
    return path


def chunks_of(
    path: Path, inputs: str = "x", kept: str = "", rows: int = 2, file: FileFormat = COMMA
) -> list[pa.Table]:
    return list(stream(path, file, inputs.split(), kept.split(), rows))


def complaint(path: Path, inputs: str = "x", kept: str = "") -> str:
    """Return the one line with which reading fails, and check that it names the file."""
    with pytest.raises(DataError) as caught:
        chunks_of(path, inputs, kept)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("end", [".csv", ".csv.gz", ".CSV"])
def test_csv_comes_in_chunks_of_text_under_the_names_asked_for(tmp_path: Path, end: str) -> None:
    content = b"\xef\xbb\xbfid, x ,y\n01,1.0,a\n02,,b\n03\n"
    path = tmp_path / f"t{end}"
    path.write_bytes(gzip.compress(content) if end == ".csv.gz" else content)
    chunks = chunks_of(path, "y x", "id")
    assert [len(chunk) for chunk in chunks] == [1, 2]  # The header is the first chunk's first row.
    assert pa.concat_tables(chunks).to_pydict() == {
        "id": ["01", "02", "03"],
        "y": ["a", "b", ""],
        "x": ["1.0", "", ""],
    }


def test_parquet_comes_in_chunks_with_its_types(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", ROWS, rows=3)
    chunks = chunks_of(path, "loan.amount x", "id")
    assert [len(chunk) for chunk in chunks] == [2, 1]
    assert pa.concat_tables(chunks) == ROWS.select(["id", "loan.amount", "x"])


def test_column_both_kept_and_read_comes_once(tmp_path: Path) -> None:
    (chunk,) = chunks_of(write(tmp_path / "t.parquet", ROWS, rows=3), "x", "x", rows=9)
    assert chunk.column_names == ["x"]


def test_pandas_index_is_a_column_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": ["a", "b"], "x": [1, 2]}).set_index("id").to_parquet(path)
    frame = to_frame(chunks_of(path, "x", "id")[0])
    assert frame.to_dict("list") == {"id": ["a", "b"], "x": [1, 2]}


def test_part_of_a_column_is_no_column_of_its_name(tmp_path: Path) -> None:
    nested = pa.table({"x": [{"y": 1}], "x.y": [2]})
    (chunk,) = chunks_of(write(tmp_path / "t.parquet", nested), "x.y")
    assert chunk.to_pydict() == {"x.y": [2]}


cells = st.text(st.sampled_from('ab,"\n\r =é'), max_size=4)


@settings(max_examples=40)
@given(
    table=st.lists(st.tuples(cells.map("k".__add__), cells), min_size=1, max_size=9),
    rows=st.integers(1, 10),
)
def test_csv_in_chunks_is_the_csv_read_whole(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, str]], rows: int
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    pd.DataFrame(table, columns=["x", "y"]).to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    whole = read_frame(path, COMMA)
    streamed = pa.concat_tables(chunks_of(path, "x y", rows=rows)).to_pydict()
    assert streamed == whole.to_dict("list")
    assert list(zip(streamed["x"], streamed["y"], strict=True)) == table


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_row_with_too_many_cells_is_refused_wherever_a_chunk_begins(
    tmp_path: Path, place: int, rows: int
) -> None:
    lines = ["1,2"] * 6
    lines[place] = "1,2,SECRET"
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,y", *lines]))
    with pytest.raises(DataError) as caught:
        chunks_of(path, rows=rows)
    where = f"line {place + 2}, saw 3: correct that line"
    assert str(caught.value) == f"{path}: not a table: Expected 2 fields in {where}"


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    table = pa.table({"x": range(1000), "other": range(1000)})
    path = write(tmp_path / "t.parquet", table, rows=100)
    groups = pq.ParquetFile(path).metadata
    data = bytearray(path.read_bytes())

    def damage(group: int, column: int) -> None:
        place = groups.row_group(group).column(column)
        start = place.dictionary_page_offset or place.data_page_offset
        data[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size

    for group in range(10):
        damage(group, 1)
    path.write_bytes(data)
    assert len(pa.concat_tables(chunks_of(path, rows=100))) == 1000
    assert complaint(path, "other").startswith("damaged")
    damage(9, 0)
    path.write_bytes(data)
    # Whoever read ahead would meet the damaged end before the first chunk.
    chunks = stream(path, COMMA, ["x"], [], 100)
    assert [len(next(chunks)) for _ in range(9)] == [100] * 9
    with pytest.raises(DataError, match="damaged"):
        next(chunks)


def test_one_large_row_group_is_never_held_whole(tmp_path: Path) -> None:
    rows = 2_000_000
    path = write(tmp_path / "t.parquet", pa.table({"x": range(rows)}), rows=rows)
    before, most, total = pa.total_allocated_bytes(), 0, 0
    for chunk in stream(path, COMMA, ["x"], [], 50_000):
        most = max(most, pa.total_allocated_bytes() - before)
        total += len(chunk)
    assert total == rows
    assert most < 8 * rows / 2


def test_truth_values_become_numbers_and_missing_stays_missing() -> None:
    for flags in ([True, False], [True, False, None]):
        frame = to_frame(pa.table({"flag": flags}))
        assert frame["flag"][:2].tolist() == [1, 0]
        assert frame["flag"].isna().tolist() == [flag is None for flag in flags]


@pytest.mark.parametrize(
    ("inputs", "kept", "said"),
    [
        ("gone x", "", "column 'gone' is missing: add it to the file"),
        ("gone x lost", "", "column 'gone' is missing: add it to the file (1 more are missing)"),
        ("x", "gone", "column 'gone' is missing: add it to the file"),
        ("twice", "", "column 'twice' occurs more than once: keep one of them"),
        ("x", "twice", "column 'twice' occurs more than once: keep one of them"),
    ],
)
@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_columns_must_be_there_once(
    tmp_path: Path, end: str, inputs: str, kept: str, said: str
) -> None:
    path = tmp_path / f"t.{end}"
    if end == "csv":
        path.write_text("x,twice,twice\n1,2,3\n")
    else:
        write(path, pa.Table.from_arrays([pa.array([1])] * 3, names=["x", "twice", "twice"]))
    assert complaint(path, inputs, kept) == said


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([1.5], pa.float16()),
        pa.array([Decimal("1.5")]),
        pa.array(["1.5"]).dictionary_encode(),
        pa.array([None]),
        pa.array([True]),
        pa.array(["1.5"], pa.large_string()),
    ],
    ids=lambda cells: str(cells.type),
)
def test_numbers_and_text_may_be_held_in_many_types(tmp_path: Path, cells: pa.Array) -> None:
    (chunk,) = chunks_of(write(tmp_path / "t.parquet", pa.table({"x": cells})))
    assert len(to_frame(chunk)) == 1


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([0], pa.timestamp("ns")),
        pa.array([0], pa.date32()),
        pa.array([[1]]),
        pa.array([{"a": 1}]),
        pa.array([b"1"]),
        pa.array([b"1"]).dictionary_encode(),
    ],
    ids=lambda cells: str(cells.type),
)
def test_what_is_neither_number_nor_text_is_refused_by_column(
    tmp_path: Path, cells: pa.Array
) -> None:
    path = write(tmp_path / "t.parquet", pa.table({"x": cells, "y": [1]}))
    assert complaint(path).startswith("column 'x' holds ")
    assert complaint(path).endswith(": give it as numbers or as text")
    assert len(chunks_of(path, "y", "x")) == 1


def test_unreadable_files_are_told_as_in_training(tmp_path: Path) -> None:
    assert complaint(tmp_path / "gone.csv") == "no such file: check the path"
    assert "ends in .csv, .csv.gz, .parquet" in complaint(tmp_path / "t.xlsx")
    for name, content, said in (
        ("empty.csv", b"", "the file is empty"),
        ("empty.parquet", b"", "the file is empty"),
        ("header.csv", b"x,y\n", "the file has no rows"),
        ("other.csv", b"x;y\n1;2\n", "one column found where ',' should separate several"),
        ("latin.csv", "x,y\n1,é\n".encode("latin-1"), "not utf-8 text"),
        ("text.parquet", b"x,y\n", "damaged or not what its name says"),
        ("cut.csv.gz", gzip.compress(b"x,y\n1,2\n" * 99)[:-12], "damaged or not what its name"),
    ):
        (tmp_path / name).write_bytes(content)
        assert complaint(tmp_path / name).startswith(said)
    write(tmp_path / "t.parquet", ROWS.slice(0, 0))
    assert complaint(tmp_path / "t.parquet").startswith("the file has no rows")


def save(path: Path, *chunks: pa.Table, file: FileFormat = COMMA, force: bool = False) -> Path:
    with new_table(path, file, force=force) as append:
        for chunk in chunks:
            append(chunk)
    return path


def test_chunks_are_one_table_in_the_file(tmp_path: Path) -> None:
    halves = ROWS.slice(0, 2), ROWS.slice(2)
    assert pq.read_table(save(tmp_path / "t.parquet", *halves)).equals(ROWS)
    text = '"id";"x";"loan.amount";"rest"\n"é";1;1.5;0\n"=1+1";;2.5;0\n;3;3.5;0\n'
    semicolon = FileFormat(delimiter=";")
    path = save(tmp_path / "t.csv", *halves, file=semicolon)
    assert path.read_text(encoding="utf-8") == text
    packed = save(tmp_path / "t.csv.gz", *halves, file=semicolon)
    assert gzip.decompress(packed.read_bytes()).decode() == text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["t.csv", "t.csv.gz", "t.parquet"]


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    file = FileFormat(delimiter="\t")
    hard = pa.table({"id": ["\t", '"', "a\nb", "=1", " "], "score": [0.1, 1e-9, 1.0, 0.0, 0.5]})
    frame = read_frame(save(tmp_path / "t.csv", hard, file=file), file)
    assert frame["id"].tolist() == hard["id"].to_pylist()
    assert frame["score"].astype(float).tolist() == hard["score"].to_pylist()


def test_csv_takes_dates_and_dictionaries_and_refuses_lists_by_column(tmp_path: Path) -> None:
    held = {"day": pa.array([0], pa.date32()), "town": pa.array(["a"]).dictionary_encode()}
    path = save(tmp_path / "t.csv", pa.table(held | {"view": pa.array(["v"], pa.string_view())}))
    assert path.read_text().splitlines()[1] == '1970-01-01,"a","v"'
    with pytest.raises(DataError, match=r"column 'x' holds list<.*>, which CSV cannot: write Parq"):
        save(tmp_path / "u.csv", pa.table({"x": [[1]]}))
    assert not list(tmp_path.glob("u*"))
    save(tmp_path / "u.parquet", pa.table({"x": [[1]]}))


def test_existing_file_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"t.parquet: exists: name another .* by --force"):
        save(path, ROWS)
    assert path.read_text() == "mine"
    save(path, ROWS, force=True)
    assert pq.read_table(path).equals(ROWS)


@pytest.mark.parametrize("end", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("fault", [KeyboardInterrupt, DataError])
def test_fault_leaves_what_was_there(tmp_path: Path, end: str, fault: type[BaseException]) -> None:
    path = tmp_path / f"t.{end}"

    def fail(append: Callable[[pa.Table], None]) -> None:
        append(ROWS.select(["x"]))
        (partial,) = (file for file in tmp_path.iterdir() if file != path)
        assert partial.suffix == ".partial"
        raise fault

    with pytest.raises(fault), new_table(path, COMMA) as append:
        fail(append)
    assert not list(tmp_path.iterdir())
    path.write_text("mine")
    with pytest.raises(fault), new_table(path, COMMA, force=True) as append:
        fail(append)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("end", ["csv", "csv.gz", "parquet"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"t.{end}"
    path.write_text("mine")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=rf"t.{end}: cannot be written: No space left .*: make"):
        save(path, ROWS, force=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_kind_of_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown kind of file"):
        save(tmp_path / "t.xlsx", ROWS)
    with pytest.raises(DataError, match="is a directory"):
        save(tmp_path, ROWS)
    with pytest.raises(ConfigError, match="gone: no such directory: create it"):
        save(tmp_path / "gone" / "t.csv", ROWS)


@pytest.mark.parametrize(
    ("columns", "rows"), [(1, 65_536), (61, 65_536), (400, 10_000), (10**7, 1)]
)
def test_wider_rows_are_held_in_smaller_chunks(columns: int, rows: int) -> None:
    assert rows_at_once(columns) == rows
