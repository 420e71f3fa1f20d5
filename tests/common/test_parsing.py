import os
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from common.errors import ConfigError, PlanError, SchemaError
from common.parsing import read_bytes, read_foreign, read_toml, validated


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: Annotated[int, Field(ge=1)]

    @field_validator("size")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"size {value} is odd: make it even")
        return value


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: Inner
    parts: tuple[Inner, ...] = ()


def parse(path: Path, text: str | bytes) -> Outer:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_toml(Outer.model_validate, path, PlanError)


def test_good_file_is_parsed(tmp_path: Path) -> None:
    assert parse(tmp_path / "a.toml", "inner = { size = 2 }").inner.size == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("inner = { size = 3 }", "inner.size 3: size 3 is odd: make it even"),
        ("inner = { size = 0 }", "inner.size 0: must be at least 1"),
        ("inner = { size = 2, sise = 2 }", "inner.sise 2: unknown key: did you mean size?"),
        ("", "inner: is missing: add it"),
        (
            "inner = { size = 2 }\nparts = [{ size = 2 }, {}]\nother = 1",
            "parts.1.size: is missing: add it; other 1: unknown key: remove it",
        ),
    ],
)
def test_every_problem_is_named_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "a.toml"
    with pytest.raises(PlanError) as caught:
        parse(path, text)
    assert str(caught.value) == f"{path}: {complaint}"


def test_text_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        parse(tmp_path / "a.toml", 'inner = { size = "SECRET" }')
    assert "inner.size" in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "inner = {",
        "inner = 1\ninner = 2",
        b"inner = '\xff'",
        b"\x00",
        f"size = {'1' * 5_000}",
        f"inner = {'[' * 5_000}{']' * 5_000}",
    ],
    ids=["open", "twice", "encoding", "nul", "digits", "depth"],
)
def test_file_that_is_no_toml(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "a.toml"
    with pytest.raises(PlanError) as caught:
        parse(path, text)
    assert str(caught.value).startswith(f"{path}: not readable as TOML: ")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"gone\.toml: no such file: check the path$"):
        read_toml(Outer.model_validate, tmp_path / "gone.toml", SchemaError)
    with pytest.raises(SchemaError, match=r"directory: name a file that can be read$"):
        read_toml(Outer.model_validate, tmp_path, SchemaError)


def test_a_named_file_is_read_whatever_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\0")
    assert read_bytes(tmp_path / "a.json") == b"\xff\0"
    with pytest.raises(ConfigError, match=r"gone\.json: no such file: check the path$"):
        read_bytes(tmp_path / "gone.json")


def test_a_foreign_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"12345")
    assert read_foreign(path, 5) == read_foreign(path, 6) == b"12345"
    with pytest.raises(ConfigError, match=r"a\.json: more than 4 bytes, the most that it may have"):
        read_foreign(path, 4)
    with pytest.raises(ConfigError, match=r"gone\.json: no such file: check the path$"):
        read_foreign(tmp_path / "gone.json", 4)


def test_a_foreign_file_is_no_link_pipe_folder_or_device(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("whole")
    (tmp_path / "dangling").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"link: is a symbolic link: put the file itself there$"):
        read_foreign(tmp_path / "link", 5)
    with pytest.raises(ConfigError, match=r"dangling: is a symbolic link"):
        read_foreign(tmp_path / "dangling", 5)
    with pytest.raises(ConfigError, match=r": Is a directory: name a file that can be read$"):
        read_foreign(tmp_path, 5)
    for other in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ConfigError, match=rf"{other}: is no regular file: put the file itself"):
            read_foreign(other, 5)


@pytest.mark.parametrize("kind", [ConfigError, PlanError, SchemaError])
def test_error_is_of_the_kind_asked_for(kind: type[ConfigError]) -> None:
    with pytest.raises(kind, match=r"^the options: inner: is missing: add it$") as caught:
        validated(Outer.model_validate, {}, "the options", kind)
    assert type(caught.value) is kind


def test_errors_that_are_no_verdict_pass_through() -> None:
    def broken(fields: dict[str, object]) -> Outer:
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        validated(broken, {}, "the plan", PlanError)
