from common.facts import facts_of
from tests.support import FIELDS, small_plan


def test_the_unit_is_told_with_its_cap() -> None:
    schema = FIELDS["schema"] | {"customer": "id"}
    assert facts_of(small_plan())["unit"] == "record"
    assert facts_of(small_plan(schema=schema))["unit"] == "record"
    for rows, told in ((1, "id, at most 1 row each"), (4, "id, at most 4 rows each")):
        privacy = {"unit": "id", "rows_per_customer": rows}
        assert facts_of(small_plan(schema=schema, privacy=privacy))["unit"] == told
