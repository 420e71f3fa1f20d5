from collections.abc import Sequence

import pandas as pd
import pytest

from client.cleaning import clean
from common.errors import TableError
from common.schema import FeatureSchema

SCHEMA = FeatureSchema.model_validate({
    "name": "small",
    "label": {"column": "churned", "positive": "yes", "negative": "no"},
    "columns": [
        {"name": "tenure_months", "kind": "numeric", "lo": 0, "hi": 10},
        {"name": "region", "kind": "categorical", "values": ["north", "south"]},
    ],
})  # fmt: skip
ROWS = pd.DataFrame(
    {"tenure_months": ["1", "2"], "region": ["north", "south"], "churned": ["no", "yes"]}
)


def problems(frame: pd.DataFrame) -> tuple[str, ...]:
    with pytest.raises(TableError) as caught:
        clean(frame, SCHEMA, "t.csv")
    return caught.value.problems


@pytest.mark.parametrize(
    ("column", "cells", "hint"),
    [
        ("tenure_months", ["2024-01-31", "31.12.2023"], "are not numbers but look like dates: a"),
        ("tenure_months", pd.to_datetime(["2024-01-31", "2023-12-31"]), "look like dates"),
        ("tenure_months", ["1,5", "1.000,25"], "but have decimal commas: save numbers with a dec"),
        ("tenure_months", ["SECRET", "x"], "are not numbers: correct them"),
        ("region", ["North", "SOUTH"], "most differ in upper and lower case alone: write them as"),
        ("region", ["North", "SECRET"], "correct them, or list them in the column's values or"),
    ],
    ids=str,
)
def test_the_form_of_cells_gives_the_remedy(column: str, cells: Sequence[str], hint: str) -> None:
    (problem,) = problems(ROWS.assign(**{column: cells}))
    assert problem.startswith(f"column '{column}': 2 cells, the first in row 1 below the header, a")
    assert hint in problem
    assert not any(str(cell) in problem for cell in cells)


def test_every_problem_of_the_cells_is_known() -> None:
    frame = ROWS.assign(tenure_months=["x", ""], churned=["maybe", "yes"], region=["", "south"])
    told = problems(frame)
    assert [problem.split(":")[0] for problem in told] == [
        *("column 'tenure_months'", "column 'tenure_months'", "column 'region'"),
        "column 'churned'",
    ]


def test_a_misspelt_column_is_told_its_like() -> None:
    assert problems(ROWS.rename(columns={"tenure_months": "tenure_month"}).assign(extra=1)) == (
        "column 'tenure_months' is missing: add it to the file, or did you mean 'tenure_month', as"
        " the file has it?",
        "column 'extra' is not in the schema: remove it from the file or declare it, if only in"
        " `ignored`",
    )


def test_without_a_header_no_name_is_told() -> None:
    told = problems(ROWS.set_axis(["region", "SECRET", "churnedd"], axis="columns"))
    assert told[0] == "column 'tenure_months' is missing: add it to the file"
    assert told[-1].startswith("2 columns are not in the schema: remove them, and see that the")
    assert not any("SECRET" in problem or "churnedd" in problem for problem in told)
