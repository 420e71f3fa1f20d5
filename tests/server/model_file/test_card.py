import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from server.model_file.card import json_of, markdown_of, told
from server.model_file.shapes import Grid, Missing, ModelFile, Told, in_column, shown
from tests.cards import FACTS, made, write_audit, write_seeds, write_simulated
from tests.support import FIELDS, PROTECTED, small_plan

HOSTILE = "x|</td><script>alert(1)</script> `*[a](b)\\"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    folder = tmp_path_factory.mktemp("card")
    (folder / "facts.toml").write_text(FACTS)
    return made(
        write_simulated(folder / "run"),
        facts=folder / "facts.toml",
        seeds=write_seeds(folder / "seeds"),
        audit=write_audit(folder / "audit"),
    )


def test_markdown_and_json_say_the_same(file: ModelFile) -> None:
    text, found = markdown_of(file), json.loads(json_of(file))
    assert found["format"] == 1
    lacking = []
    for chapter in found["chapters"].values():
        assert f"## {told(chapter['title'])}\n" in text
        part = text.partition(f"## {told(chapter['title'])}\n")[2].partition("\n## ")[0]
        for fact in chapter["facts"].values():
            assert told(fact["label"]) in part
            if fact["state"] == "missing":
                lacking.append(fact["label"])
                assert f"needs {told(fact['remedy'])}" in part
            else:
                assert all(told(piece) in part for piece in _pieces(fact["value"]))
    assert lacking == [one["label"] for one in found["missing"]]
    assert f"Missing facts: {len(lacking)}." in text
    for one in found["checks"].values():
        row = next(line for line in text.splitlines() if line.startswith(f"| {one['title']} |"))
        assert one["outcome"] in row
        assert told(one["found"]) in row


def _pieces(value: Any) -> list[str]:
    """Return all that Markdown must hold of a value in JSON."""
    match value:
        case {"columns": columns, "rows": rows}:
            return [*columns, *(in_column(cell) for row in rows for cell in row)]
        case list():
            return value
    return [shown(value)]


def test_json_is_read_back_as_it_was(file: ModelFile) -> None:
    found = json.loads(json_of(file))
    del found["missing"]  # It follows from the chapters.
    assert ModelFile.model_validate_json(json.dumps(found)) == file
    assert json_of(ModelFile.model_validate_json(json.dumps(found))) == json_of(file)
    with pytest.raises(ValidationError):
        ModelFile.model_validate_json(json.dumps(found | {"format": 2}))


def test_every_row_of_a_table_has_as_many_cells_as_its_head(file: ModelFile) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", markdown_of(file), re.MULTILINE)
    assert len(tables) > 15
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def test_names_of_others_are_text(tmp_path: Path) -> None:
    columns = [{"name": HOSTILE, "kind": "numeric", "lo": 0, "hi": 1}, *PROTECTED]
    plan = small_plan(schema=FIELDS["schema"] | {"columns": columns})
    (tmp_path / "facts.toml").write_text(f"owner = {json.dumps(HOSTILE)}\n")
    file = made(write_simulated(tmp_path / "run", plan), facts=tmp_path / "facts.toml")
    text = markdown_of(file)
    assert told(HOSTILE) in text
    assert not re.search(r"(?<!\\)<", text.replace("> **Warning.**", ""))
    assert "[a](b)" not in text


def test_a_new_line_in_a_fact_begins_no_heading(tmp_path: Path) -> None:
    (tmp_path / "facts.toml").write_text('owner = "a\\n# Validated\\n\\u001b[31m"\n')
    text = markdown_of(made(write_simulated(tmp_path / "run"), facts=tmp_path / "facts.toml"))
    assert "\n# Validated" not in text
    assert "\x1b" not in text


def test_numbers_are_shown_as_people_read_them() -> None:
    assert [shown(value) for value in (True, 1234567, 0.12345, 1e-5, 12345.6, None)] == [
        *("yes", "1,234,567", "0.1235", "1e-05", "12,346", ""),
    ]
    assert [in_column(value) for value in (0.5, 3, 1e-6, 0.0, "a")] == [
        *("0.5000", "3", "1e-06", "0.0000", "a"),
    ]


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (("a", "a"), ()),
        (("a", "b"), (("x",),)),
        (("a",), (("x", 1),)),
        (("a",), ((float("nan"),),)),
    ],
)
def test_a_table_that_is_none_is_refused(columns: tuple[str, ...], rows: Any) -> None:
    with pytest.raises(ValidationError):
        Grid(columns=columns, rows=rows)


def test_no_member_is_told_from_another_but_by_what_the_server_sees(file: ModelFile) -> None:
    """Names stand beside declared sizes and attendance, which the plan and the journal hold."""
    found = json.loads(json_of(file))
    for chapter, content in found["chapters"].items():
        for key, fact in content["facts"].items():
            named = any(f'"{name}"' in json.dumps(fact) for name in ("ash", "birch", "cedar"))
            assert not named or (chapter, key) == ("data", "institutions")
    assert isinstance(file.chapters["training"].facts["attendance"], Missing)
    assert isinstance(file.chapters["data"].facts["institutions"], Told)
