import gzip
from pathlib import Path

import pandas as pd
import pytest

from client.reading import read_frame
from common.errors import DataError
from common.schema import FileFormat

ROWS = pd.DataFrame({"amount": [1.5, 2.0], "grade": ["a", None]})
TEXT = "amount;grade\n1.5;a\n2.0;\n"
SEMICOLON = FileFormat(delimiter=";")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def complaint(path: Path, file: FileFormat = SEMICOLON) -> str:
    """Return the one line with which reading fails, and check that it names the file."""
    with pytest.raises(DataError) as caught:
        read_frame(path, file)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("end", [".csv", ".csv.gz", ".CSV"])
def test_csv_is_read_as_text(tmp_path: Path, end: str) -> None:
    content = TEXT.encode()
    path = write(tmp_path / f"t{end}", gzip.compress(content) if end == ".csv.gz" else content)
    frame = read_frame(path, SEMICOLON)
    assert frame.to_dict("list") == {"amount": ["1.5", "2.0"], "grade": ["a", ""]}
    assert list(frame.index) == [0, 1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_csv_is_read_in_its_declared_encoding(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "t.csv", "größe,x\n1,é\n".encode(encoding))
    frame = read_frame(path, FileFormat(encoding=encoding))
    assert frame.to_dict("list") == {"größe": ["1"], "x": ["é"]}


def test_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", '"a",b\n1,2\n'.encode("utf-8-sig"))
    assert list(read_frame(path, FileFormat()).columns) == ["a", "b"]


@pytest.mark.parametrize("index", [None, "amount", "rows"])
def test_parquet_keeps_its_columns_and_types(tmp_path: Path, index: str | None) -> None:
    path = tmp_path / "t.parquet"
    frame = ROWS.set_index("amount") if index == "amount" else ROWS
    (frame.set_axis([7, 9]) if index == "rows" else frame).to_parquet(path)
    read = read_frame(path, SEMICOLON)
    assert read["amount"].tolist() == [1.5, 2.0]
    assert read["grade"].isna().tolist() == [False, True]
    assert set(read.columns) == {"amount", "grade"}
    assert list(read.index) == [0, 1]


def test_duplicated_names_survive_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,b,a\n1,2,3\n")
    assert list(read_frame(path, FileFormat()).columns) == ["a", "b", "a"]


def test_missing_file(tmp_path: Path) -> None:
    assert complaint(tmp_path / "gone.csv") == "no such file: check the path"
    (tmp_path / "folder.csv").mkdir()
    assert complaint(tmp_path / "folder.csv") == "is a directory: name the file in it"


def test_unknown_kind(tmp_path: Path) -> None:
    assert "ends in .csv, .csv.gz, .parquet" in complaint(write(tmp_path / "t.xlsx", TEXT))


@pytest.mark.parametrize("end", [".csv", ".parquet"])
def test_empty_file(tmp_path: Path, end: str) -> None:
    assert complaint(write(tmp_path / f"t{end}", "")).startswith("the file is empty: give")


def test_header_without_rows(tmp_path: Path) -> None:
    assert complaint(write(tmp_path / "t.csv", "a;b\n")).startswith("the file has no rows: give")
    ROWS.head(0).to_parquet(tmp_path / "t.parquet")
    assert complaint(tmp_path / "t.parquet").startswith("the file has no rows: give")


@pytest.mark.parametrize(
    "content", [TEXT.replace(";", ","), "a,b\n1,2;3\n", TEXT.replace(";", "\t")]
)
def test_wrong_delimiter(tmp_path: Path, content: str) -> None:
    message = complaint(write(tmp_path / "t.csv", content))
    assert message.startswith("one column found where ';' should separate several")
    assert "declare file.delimiter" in message


def test_single_column_is_no_wrong_delimiter(tmp_path: Path) -> None:
    assert len(read_frame(write(tmp_path / "t.csv", "a\n1\n2\n"), SEMICOLON)) == 2


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
def test_wrong_encoding(tmp_path: Path, encoding: str) -> None:
    message = complaint(write(tmp_path / "t.csv", "name;x\né;1\n".encode(encoding)))
    assert message == "not utf-8 text: save the file as utf-8 or declare file.encoding"


def test_ragged_row(tmp_path: Path) -> None:
    message = complaint(write(tmp_path / "t.csv", "a;b\n1;2\n1;2;SECRET\n"))
    assert message == "not a table: Expected 2 fields in line 3, saw 3: correct that line"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", TEXT.encode()),
        ("t.csv.gz", gzip.compress(TEXT.encode() * 9, mtime=0)[:-12]),
        ("t.parquet", TEXT.encode()),
        ("t.parquet", b"PAR1"),
    ],
)
def test_damaged_file(tmp_path: Path, name: str, content: bytes) -> None:
    message = complaint(write(tmp_path / name, content))
    assert message == "damaged or not what its name says: write it again"
