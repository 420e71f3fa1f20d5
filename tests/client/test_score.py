from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.score import Wishes, score_chunks
from client.scorer import Scorer, load_scorer
from client.tables import to_frame
from common.encoding import encode, read_inputs, to_features
from common.errors import ConfigError, DataError
from common.plan import Plan
from common.schema import FeatureSchema
from tests.models import random_network, write_model
from tests.support import small_plan

SCHEMA: dict[str, Any] = {
    "name": "kinds",
    "label": {"column": "bad", "positive": 1, "negative": 0},
    "ignored": ["id"],
    "columns": [
        {"name": "sex", "kind": "categorical", "values": [1, 2], "protected": True},
        {"name": "debt", "kind": "numeric", "lo": 0, "hi": 100, "log": True},
        {"name": "town", "kind": "categorical", "values": ["a", "b"], "missing": "indicator"},
        {"name": "income", "kind": "numeric", "lo": 0, "hi": 50, "missing": "drop"},
        {"name": "months", "kind": "numeric", "lo": 0, "hi": 9, "codes": [-1], "outside": "refuse"},
        {"name": "limit", "kind": "numeric", "lo": 0, "hi": 9, "outside": "drop"},
    ],
    "ratios": [{"name": "r", "numerator": "debt", "denominator": "income", "lo": 0, "hi": 2}],
}
INPUTS = ["debt", "town", "income", "months", "limit"]
PLAN: Plan = small_plan(schema=SCHEMA)
NETWORK = random_network(PLAN)
GOOD: dict[str, Any] = {"debt": 7, "town": "a", "income": 20, "months": 3, "limit": 5}


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return load_scorer(write_model(tmp_path_factory.mktemp("model"), PLAN, NETWORK), threads=1)


rows = st.lists(
    st.fixed_dictionaries(
        {
            "debt": st.one_of(st.floats(-10, 1e6), st.sampled_from([0, 100])),
            "town": st.sampled_from(["a", "b", "", None]),
            "income": st.floats(0, 60),
            "months": st.sampled_from([-1, 0, 9, 4.5]),
            "limit": st.floats(0, 9),
        }
    ),
    min_size=1,
    max_size=30,
)


def table(*changes: dict[str, Any]) -> pa.Table:
    """Return one good row for each mapping, changed by it."""
    return pa.Table.from_pandas(pd.DataFrame([GOOD | change for change in changes]))


def scored(
    scorer: Scorer, cells: pa.Table, rows: int = 1_000, **wishes: Any
) -> dict[str, list[Any]]:
    chunks = (cells.slice(start, rows) for start in range(0, len(cells), rows))
    answers = score_chunks(chunks, scorer, Wishes(**wishes), "t.csv")
    found: dict[str, list[Any]]
    found = pa.concat_tables([answer.table for answer in answers]).to_pydict()
    if not wishes.get("kept"):
        assert found.pop("row") == list(range(1, len(cells) + 1))
    return found


@settings(max_examples=40)
@given(cells=rows)
def test_score_is_the_networks_on_the_encoded_row(
    scorer: Scorer, cells: list[dict[str, Any]]
) -> None:
    found = scored(scorer, table(*cells))
    features = encode(pd.DataFrame(cells), PLAN.schema_)
    with torch.no_grad():
        expected = torch.sigmoid(NETWORK(torch.from_numpy(features)))
    assert list(found) == ["score"]
    np.testing.assert_allclose(found["score"], expected, atol=1e-6)


@settings(max_examples=25)
@given(cells=rows, size=st.integers(1, 7))
def test_tiny_chunks_are_one_chunk(scorer: Scorer, cells: list[dict[str, Any]], size: int) -> None:
    whole = scored(scorer, table(*cells), pairs=1, kept=("debt",))
    tiny = scored(scorer, table(*cells), size, pairs=1, kept=("debt",))
    assert list(tiny) == list(whole)
    for name, values in whole.items():
        np.testing.assert_allclose(tiny[name], values, atol=1e-5)


GAPS = FeatureSchema.model_validate(
    {
        "name": "gaps",
        "label": SCHEMA["label"],
        "columns": [
            {
                "name": "n",
                "kind": "numeric",
                "lo": 0,
                "hi": 9,
                "codes": [3],
                "missing": "indicator",
            },
            {"name": "c", "kind": "categorical", "values": [0, 1], "missing": "indicator"},
            {"name": "f", "kind": "categorical", "values": [0, 1], "missing": "indicator"},
        ],
    }
)


@settings(max_examples=40)
@given(
    cells=st.lists(
        st.fixed_dictionaries(
            {
                "n": st.one_of(st.none(), st.integers(-5, 15)),
                "c": st.sampled_from([0, 1, None]),
                "f": st.sampled_from([False, True, None]),
            }
        ),
        min_size=1,
        max_size=20,
    ),
    size=st.integers(1, 7),
)
def test_chunks_encode_to_the_bits_of_the_whole(cells: list[dict[str, Any]], size: int) -> None:
    # A chunk with a gap holds floats or objects where one without holds integers or truth values.
    kinds = pa.schema({"n": pa.int64(), "c": pa.int32(), "f": pa.bool_()})
    held = pa.Table.from_pylist(cells, kinds)
    chunks = [held.slice(start, size) for start in range(0, len(held), size)]
    parts = [to_features(read_inputs(to_frame(chunk), GAPS), GAPS) for chunk in chunks]
    np.testing.assert_array_equal(np.concatenate(parts), encode(held.to_pandas(), GAPS))


def test_kept_columns_come_first_and_as_they_are(scorer: Scorer) -> None:
    cells = table({"id": "=1"}, {"id": None}).append_column("day", pa.array([0, 1], pa.date32()))
    (answer,) = score_chunks([cells], scorer, Wishes(("id", "day", "town")), "t.csv")
    assert answer.table.column_names == ["id", "day", "town", "score"]
    assert answer.table.select(["id", "day", "town"]) == cells.select(["id", "day", "town"])


def test_columns_the_model_does_not_see_are_not_looked_at(scorer: Scorer) -> None:
    odd = table({"sex": "?", "bad": "?", "id": "?", "what": "?"}, {"sex": "?"})
    assert scored(scorer, odd) == scored(scorer, table({}, {}))


def test_equal_rows_are_scored_alike_and_none_is_dropped(scorer: Scorer) -> None:
    found = scored(scorer, table({}, {"debt": 90}, {}, {}))["score"]
    assert found[0] == found[2] == found[3] != found[1]


def test_number_out_of_bounds_is_clipped_where_training_clips(scorer: Scorer) -> None:
    found = scored(scorer, table({"debt": 100, "income": 0}, {"debt": 1e9, "income": 0}))
    assert found["score"][0] == found["score"][1]


REFUSED = [
    ({"debt": "SECRET"}, "column 'debt': the cell in row 3 is no number"),
    ({"debt": np.inf}, "column 'debt': the cell in row 3 is no number"),
    ({"debt": None}, "column 'debt': the cell in row 3 is missing"),
    ({"debt": ""}, "column 'debt': the cell in row 3 is missing"),
    ({"town": "SECRET"}, "column 'town': the cell in row 3 is none of the declared values"),
    ({"months": 12}, "column 'months': the cell in row 3 is outside [0, 9]"),
    ({"months": -2}, "column 'months': the cell in row 3 is outside [0, 9]"),
    ({"income": "SECRET"}, "column 'income': the cell in row 3 is no number"),
]
UNSCORED = [({"income": None}, "is missing"), ({"limit": 10}, "is outside [0, 9]")]


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize(("cell", "said"), REFUSED)
def test_cell_that_training_refuses_refuses_the_table(
    scorer: Scorer, cell: dict[str, Any], said: str, rows: int
) -> None:
    cells = pd.DataFrame([GOOD, GOOD, GOOD | cell, GOOD]).astype(dict.fromkeys(cell, object))
    text = pa.Table.from_pandas(cells.astype("str").where(cells.notna(), None))
    with pytest.raises(DataError) as caught:
        scored(scorer, text, rows)
    assert str(caught.value).startswith(f"t.csv: {said}: correct it, or give --blank")
    assert "SECRET" not in str(caught.value)


def test_first_row_that_does_not_fit_is_named(scorer: Scorer) -> None:
    with pytest.raises(DataError, match="'months': the cell in row 2 is outside"):
        scored(scorer, table({}, {"months": 50}, {"debt": None}))


@pytest.mark.parametrize("pairs", [0, 2])
@pytest.mark.parametrize(("cell", "said"), [*REFUSED, *UNSCORED])
def test_row_without_an_answer_is_blank_on_request(
    scorer: Scorer, cell: dict[str, Any], said: str, pairs: int
) -> None:
    cells = pd.DataFrame([GOOD, GOOD | cell, GOOD]).astype(dict.fromkeys(cell, object))
    text = pa.Table.from_pandas(cells.astype("str").where(cells.notna(), None))
    (answer,) = score_chunks([text], scorer, Wishes(("debt",), True, pairs), "t.csv")
    whole = scored(scorer, table({}, {}), kept=("debt",), pairs=pairs)
    assert answer.unscored == 1
    ((column, problem), count) = next(iter(answer.faults.items()))
    assert (column, count) == (next(iter(cell)), 1)
    assert said.endswith(problem)
    for name in answer.table.column_names[1:]:
        first, blank, last = answer.table.column(name).to_pylist()
        assert blank is None
        assert [first, last] == pytest.approx(whole[name], abs=1e-6)


@pytest.mark.parametrize(("cell", "said"), UNSCORED)
def test_row_that_training_drops_is_blank_unasked(
    scorer: Scorer, cell: dict[str, Any], said: str
) -> None:
    found = scored(scorer, table({}, cell, {}))["score"]
    assert [score is None for score in found] == [False, True, False]
    assert said


def test_table_of_rows_that_all_do_not_fit_is_all_blank(scorer: Scorer) -> None:
    found = scored(scorer, table({"limit": 10}, {"limit": 11}), pairs=1)
    assert all(values == [None, None] for values in found.values())


def test_explanation_adds_up_and_names_each_input(scorer: Scorer) -> None:
    found = scored(scorer, table({}, {"debt": 90, "town": "b"}, {"town": None}), pairs=2)
    parts = [f"contribution:{name}" for name in INPUTS]
    assert list(found) == ["score", "logit", "base", *parts]
    total = np.sum([found[name] for name in ("base", *parts)], axis=0)
    np.testing.assert_allclose(total, found["logit"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(1 / (1 + np.exp(-total)), found["score"], atol=1e-6)
    assert len(set(found["base"])) == 1
    assert np.ptp(found["contribution:town"]) > 0.01


@pytest.mark.parametrize(("kept", "pairs"), [("score", 0), ("logit", 1), ("contribution:debt", 1)])
def test_kept_column_must_not_share_a_written_name(scorer: Scorer, kept: str, pairs: int) -> None:
    cells = table({kept: 1})
    with pytest.raises(ConfigError, match=f"column '{kept}' is also one that is written"):
        scored(scorer, cells, kept=(kept,), pairs=pairs)
    if kept != "score":
        assert scored(scorer, cells, kept=(kept,))[kept] == [1]
