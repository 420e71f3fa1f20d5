import random
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.errors import ConfigError, PlanError, SchemaError
from common.plan import Plan, load_draft, load_plan, plan_from_dict
from common.schema import load_schema
from common.segments import segments_of
from tests.support import (
    FIELDS,
    NORTH,
    PROTECTED,
    SIZES,
    SOUTH,
    customer_plan,
    grouped_plan,
    plan_fields,
    small_plan,
)

SECTIONS = (
    "model",
    "training",
    "privacy",
    "aggregation",
    "optimiser",
    "pruning",
    "evaluation",
)


def shuffled(value: Any, order: random.Random) -> Any:
    """Return the value with every table's keys in another order."""
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    if not isinstance(value, Mapping):
        return value
    keys = list(value)
    order.shuffle(keys)
    return {key: shuffled(value[key], order) for key in keys}


def test_toml_round_trip_keeps_the_hash(tmp_path: Path) -> None:
    plan = small_plan()
    path = tmp_path / "plan.toml"
    path.write_text(plan.to_toml())
    assert load_plan(path) == plan
    assert load_plan(path).digest() == plan.digest()
    assert load_plan(path).to_toml() == plan.to_toml()


def drafted(place: Path, schema: str) -> Path:
    place.mkdir()
    path = place / "plan.toml"
    path.write_text(tomli_w.dumps({**small_plan().to_dict(), "schema": schema}))
    return path


def test_draft_takes_its_schema_from_a_file_beside_it(tmp_path: Path) -> None:
    path = drafted(tmp_path / "home", "own.toml")
    schema = small_plan().schema_.model_dump(mode="json", exclude_none=True)
    (path.parent / "own.toml").write_text(tomli_w.dumps(schema))
    assert load_draft(path).digest() == small_plan().digest()
    assert load_draft(drafted(tmp_path / "named", "credit_consortium")).schema_ == load_schema(
        "credit_consortium"
    )
    # Who approves a plan of others opens no file that it names.
    with pytest.raises(PlanError, match=r"unknown schema 'own\.toml'; known: .* beside the plan"):
        load_plan(path)


@pytest.mark.parametrize("name", ["../own.toml", "/own.toml", "own", "sub/own.toml"])
def test_draft_takes_no_schema_from_elsewhere(tmp_path: Path, name: str) -> None:
    path = drafted(tmp_path / "home", name)
    (tmp_path / "own.toml").write_text("")
    with pytest.raises(PlanError, match="unknown schema"):
        load_draft(path)


def test_draft_names_the_schema_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"home/own\.toml: no such file"):
        load_draft(drafted(tmp_path / "home", "own.toml"))


@given(st.integers(0, 2**32 - 1))
def test_hash_ignores_order_and_white_space(seed: int) -> None:
    text = tomli_w.dumps(shuffled(small_plan().to_dict(), random.Random(seed)), indent=8)
    spaced = "# agreed\n" + text.replace(" = ", "   =  ").replace("\n", "  # note\n\n")
    assert plan_from_dict(tomllib.loads(spaced)).digest() == small_plan().digest()


def test_hash_ignores_whether_a_default_is_written_out() -> None:
    written = small_plan(model={"kind": "wide_and_deep"}, privacy={"epsilon": 1})
    assert written.digest() == small_plan().digest()


BLOCKS = {"granularity": "block"}
SEARCH = {"sparsity": "auto", "guard": "step_back"}

CHANGES: dict[str, dict[str, Any]] = {
    "model": {"kind": "mlp", "hidden": [8, 5], "activation": "tanh", "initial_scale": 0.5},
    "training": {"rounds": 7, "steps": 3, "sample_rate": 0.21, "learning_rate": 0.3},
    "privacy": {"epsilon": 1.1, "delta": 1e-4, "max_grad_norm": 1.5, "accountant": "prv"},
    "aggregation": {
        "kind": "plain",
        "ring_bits": 25,
        "threshold": 4,
        "colluders": 0,
        "attempts": 4,
        "timeout": 6.0,
    },
    "pruning": {
        "score": "taylor",
        "granularity": "neuron",
        "block": 8,
        "allocation": "erk",
        "schedule": "iterative",
        "sparsity": 0.5,
        "start": 0.1,
        "end": 0.7,
        "biases": True,
        "output": False,
        "penalty": "l1",
        "strength": 0.01,
        "guard": "hold",
        "tolerance": 0.01,
    },
    "evaluation": {"rounds": 4, "bins": 11, "noise": "gaussian", "epsilon": 0.5},
}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [(name, key, value) for name, keys in CHANGES.items() for key, value in keys.items()],
)
def test_hash_changes_with_every_value(section: str, key: str, value: object) -> None:
    assert small_plan(**{section: {key: value}}).digest() != small_plan().digest()


def test_every_choice_of_the_plan_is_among_the_changes() -> None:
    together = {("privacy", key) for key in ("noise", "unit", "rows_per_customer")}
    together |= {("optimiser", key) for key in ("kind", "momentum", "second")}
    together |= {("pruning", key) for key in ("rewind", "regrowth", "floor")}
    together |= {("evaluation", key) for key in ("groups", "cuts", "pools")}
    plan = small_plan().to_dict()
    keys = {(name, key) for name in SECTIONS for key in plan[name]} - together
    assert keys == {(name, key) for name, section in CHANGES.items() for key in section}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"institutions": FIELDS["institutions"][:3]},
        {"institutions": FIELDS["institutions"][::-1]},
        {"institutions": [*FIELDS["institutions"][:3], {"name": "elm", "size": 201}]},
        {"schema": {"columns": FIELDS["schema"]["columns"][::-1]}},
        {"schema": {"label": {"column": "bad", "positive": 0, "negative": 1}}},
    ],
)
def test_hash_covers_members_and_schema(change: dict[str, Any]) -> None:
    assert small_plan(**change).digest() != small_plan().digest()


def test_named_schema_is_hashed_by_its_content() -> None:
    named = plan_from_dict(FIELDS | {"schema": "credit_consortium"})
    written = plan_from_dict(
        FIELDS | {"schema": load_schema("credit_consortium").model_dump(mode="json")}
    )
    assert named.digest() == written.digest()
    assert named.to_dict()["schema"]["label"]["column"] == "default"


SHARED: dict[str, Any] = {"privacy": {"noise": "shared"}, "training": {"steps": 1}}


def test_shared_noise_and_its_optimiser_are_part_of_the_agreement() -> None:
    plans = [
        small_plan(**SHARED),
        small_plan(**SHARED, optimiser={"momentum": 0.5}),
        small_plan(**SHARED, optimiser={"kind": "adam"}),
        small_plan(**SHARED, optimiser={"kind": "adam", "second": 0.9}),
        small_plan(training={"steps": 1}),
    ]
    assert len({plan.digest() for plan in plans}) == len(plans)
    assert plans[0].noise_shares == 3 - 1


def refuse(section: str, key: str, value: object) -> tuple[dict[str, Any], str]:
    return {section: {key: value}}, rf"{section}\.{key}"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        refuse("model", "kind", "forest"),
        refuse("model", "hidden", [0]),
        refuse("model", "hidden", [5000]),
        refuse("model", "activation", "gelu"),
        refuse("model", "initial_scale", 0),
        refuse("training", "rounds", 0),
        refuse("training", "rounds", 2.5),
        refuse("training", "steps", 0),
        refuse("training", "sample_rate", 0),
        refuse("training", "sample_rate", 1.1),
        refuse("training", "learning_rate", 0),
        refuse("training", "learning_rate", "fast"),
        refuse("training", "learning_rate", float("inf")),
        refuse("privacy", "epsilon", 0),
        refuse("privacy", "epsilon", 51),
        refuse("privacy", "epsilon", float("nan")),
        refuse("privacy", "epsilon", "much"),
        refuse("privacy", "delta", 0),
        refuse("privacy", "delta", 1),
        refuse("privacy", "max_grad_norm", -1),
        refuse("privacy", "noise", "remote"),
        refuse("optimiser", "kind", "lion"),
        refuse("optimiser", "momentum", 1),
        refuse("optimiser", "second", -0.1),
        ({"optimiser": {"momentum": 0.5}}, "acts on shared noise alone: set privacy.noise"),
        ({"privacy": {"noise": "shared"}}, "one step a round, not 2: set training.steps to 1"),
        (SHARED | {"aggregation": {"kind": "plain", "colluders": 2}}, "leaves 1 noise shares"),
        refuse("privacy", "accountant", "gdp"),
        refuse("aggregation", "kind", "clear"),
        refuse("aggregation", "ring_bits", 15),
        refuse("aggregation", "ring_bits", 33),
        refuse("aggregation", "threshold", -1),
        refuse("aggregation", "attempts", 0),
        refuse("aggregation", "timeout", 0),
        refuse("pruning", "sparsity", 1),
        refuse("pruning", "start", -0.1),
        refuse("pruning", "end", 1.1),
        refuse("evaluation", "rounds", 0),
        refuse("evaluation", "bins", 1),
        refuse("evaluation", "noise", "laplace"),
        refuse("evaluation", "epsilon", 0),
        refuse("evaluation", "epsilon", 51),
        ({"pruning": {"score": "l3"}}, "unknown pruning score 'l3'; known: .*magnitude"),
        ({"pruning": {"schedule": "now"}}, "unknown pruning schedule 'now'; known: .*cubic"),
        ({"pruning": {"granularity": "filter"}}, "unknown pruning granularity 'filter'; known: "),
        ({"pruning": {"allocation": "fair"}}, "unknown pruning allocation 'fair'; known: "),
        ({"pruning": {"penalty": "l0"}}, "unknown pruning penalty 'l0'; known: "),
        ({"pruning": BLOCKS | {"sparsity": 0.6}}, "no whole number of 4 weights a block"),
        ({"pruning": BLOCKS | {"sparsity": "auto"}}, "no whole number of 4 weights a block"),
        ({"pruning": BLOCKS | {"sparsity": 0.9}}, "no whole number of 4 weights a block"),
        ({"pruning": BLOCKS | {"allocation": "erk"}}, "set allocation to global"),
        ({"pruning": {"rewind": True}}, "schedule cubic leave no time .* set schedule"),
        ({"pruning": {"regrowth": 0.1}}, "schedule cubic leave no time .* set schedule"),
        ({"pruning": {"sparsity": "auto"}}, "set guard to step_back"),
        (
            {"pruning": BLOCKS | {"sparsity": 0.5, "regrowth": 0.2, "schedule": "iterative"}},
            "only single weights regrow",
        ),
        (
            {"pruning": SEARCH | {"start": 0.6, "end": 0.6}, "evaluation": {"rounds": 3}},
            r"no evaluation from pruning\.start 0\.6 on leaves two",
        ),
        (
            {"pruning": {"penalty": "group_lasso"}, "model": {"kind": "logistic"}},
            r"no neurons: set pruning\.penalty",
        ),
        ({"pruning": SEARCH | {"score": "mean_magnitude"}}, "set score to magnitude"),
        ({"pruning": {"guard": "hold"}, "evaluation": {"rounds": 2}}, "2 evaluations are too few"),
        (
            {
                "pruning": {"score": "mean_magnitude"},
                "privacy": {"noise": "shared"},
                "training": {"steps": 1},
            },
            "no institution has weights of its own: set pruning.score",
        ),
        (
            {"pruning": {"granularity": "neuron"}, "model": {"kind": "logistic"}},
            "no neurons: set pruning.granularity",
        ),
        ({"pruning": {"start": 0.7, "end": 0.6}}, r"start 0\.7 is after end 0\.6: set"),
        ({"aggregation": {"threshold": 2}}, "threshold 2 of 4 .* from 3 to 4"),
        ({"aggregation": {"threshold": 5}}, "threshold 5 of 4 .* from 3 to 4"),
        ({"aggregation": {"kind": "plain", "threshold": 2}}, "threshold 2 of 4 .* from 3 to 4"),
        ({"aggregation": {"threshold": 4, "colluders": 3}}, "withstands 2 colluders, not 3: lower"),
        ({"aggregation": {"ring_bits": 16}}, None),
        ({"privacy": {"delta": 0.005}}, "delta 0.005 is not below 1 / declared size 200: set"),
        (
            {
                "privacy": {"delta": 0.5, "epsilon": "none"},
                "evaluation": {"noise": "gaussian"},
            },
            "delta 0.5 is not below 1 / declared size 200: set",
        ),
        ({"privacy": {"max_grad_norm": 1e39}}, r"privacy\.max_grad_norm"),
        ({"privacy": {"max_grad_norm": 1e-42}}, r"privacy\.max_grad_norm"),
        ({"training": {"learning_rate": 101.0}}, "by more than 100 a step: lower training"),
        ({"training": {"sample_rate": 0.01}}, "less than one row a batch: raise training"),
        ({"version": 2}, "version"),
        ({"name": "Small Plan"}, "name"),
        (
            {"institutions": [{"name": "ash", "size": 49}] * 3},
            "institution 'ash', size 49: must be at least 50",
        ),
        ({"institutions": [{"name": "ash", "size": 90}] * 3}, "listed twice"),
        ({"institutions": FIELDS["institutions"][:2]}, "2 institutions are fewer than 3"),
        ({"institutions": []}, "0 institutions are fewer"),
        ({"schema": "nowhere"}, "unknown schema 'nowhere'; known: bank_marketing"),
        ({"schema": "../plan.toml"}, "unknown schema"),
    ],
)
def test_each_refusal_names_its_place(change: dict[str, Any], problem: str | None) -> None:
    fields = {
        name: value if isinstance(value, str) else plan_fields(**{name: value})[name]
        for name, value in change.items()
    }
    if problem is None:  # Sixteen bits hold four times 200 counts.
        assert plan_from_dict(FIELDS | fields).aggregation.ring_bits == 16
        return
    with pytest.raises(PlanError, match=problem) as caught:
        plan_from_dict(FIELDS | fields, "my.toml")
    assert str(caught.value).startswith("my.toml: ")
    assert "\n" not in str(caught.value)


POOLS = {"south": SOUTH, "north": NORTH}
"""As in the plan, which the changes replace."""


@pytest.mark.parametrize(
    ("evaluation", "problem"),
    [
        ({"groups": ["x0"], "cuts": {}}, "unknown group column 'x0'; known: sex, age: set eval"),
        ({"groups": ["age"], "cuts": {}}, r"'age' is numeric: give .* evaluation\.cuts"),
        ({"groups": ["sex"]}, "cuts of 'age', no numeric column of evaluation.groups: remove"),
        ({"cuts": {"age": [30], "sex": [1]}}, "cuts of 'sex', no numeric column"),
        ({"cuts": {"age": []}}, r"cuts \[\] of 'age' do not rise between 18 and 100: order"),
        ({"cuts": {"age": [50, 30]}}, "do not rise"),
        ({"cuts": {"age": [30, 30]}}, "do not rise"),
        ({"cuts": {"age": [18]}}, "do not rise"),
        ({"cuts": {"age": [100]}}, "do not rise"),
        ({"cuts": {"age": [float("nan")]}}, "finite number"),
        ({"groups": ["sex", "age", "sex"]}, "two groups have one name: list each column"),
        ({"pools": {"north": [*NORTH, "oak"]}}, "'north' holds 'oak', who is no member: name"),
        ({"pools": {"north": [*NORTH, "ash"]}}, "pool 'north' lists an institution twice"),
        ({"pools": {"North": NORTH}}, "pools.North: must be lower-case letters"),
        ({"pools": {"north": NORTH[:2]}}, "'north' of 2 institutions is smaller than 3: a sum"),
        ({"pools": POOLS | {"also": SOUTH}}, "two pools hold the same institutions, or one holds"),
        ({"pools": {"all": NORTH + SOUTH}}, "or one holds all: keep one of them"),
        (
            {"pools": {"north": [*NORTH, "elm"]}},
            "pools set 2 institutions apart, fir, gum, which no pool holds: a difference of sums",
        ),
        (
            {"pools": POOLS | {"more": [*NORTH, "elm"]}},
            "pools set 1 institutions apart, elm, which only more and south hold: a difference",
        ),
    ],
    ids=str,
)
def test_groups_and_pools_that_show_somebody_are_refused_by_name(
    evaluation: dict[str, Any], problem: str
) -> None:
    assert list(grouped_plan().evaluation.pools) == ["north", "south"]
    with pytest.raises(PlanError, match=problem) as caught:
        grouped_plan(evaluation=evaluation)
    assert "\n" not in str(caught.value)


def test_pools_hide_two_institutions_beside_the_colluders() -> None:
    assert grouped_plan().least_pool == 3
    with pytest.raises(PlanError, match="'north' of 3 institutions is smaller than 4"):
        grouped_plan(aggregation={"colluders": 2})
    plain = grouped_plan(aggregation={"kind": "plain", "colluders": 2})
    assert plain.least_pool == 3


def test_codes_are_no_ages_and_no_two_groups_share_a_name() -> None:
    schema = FIELDS["schema"]
    coded = PROTECTED[1] | {"codes": [99]}
    with pytest.raises(PlanError, match="cuts of 'age', whose codes are no amounts: group by"):
        grouped_plan(
            schema=schema | {"columns": [*schema["columns"], coded]}, evaluation={"groups": ["age"]}
        )
    twins = [
        {"name": name, "kind": "categorical", "values": [value], "protected": True}
        for name, value in (("a", "b=c"), ("a=b", "c"))
    ]
    with pytest.raises(PlanError, match="two groups have one name"):
        small_plan(
            schema=schema | {"columns": [*schema["columns"], *twins]},
            evaluation={"groups": ["a", "a=b"]},
        )


GUARDED = {"guard": "hold", "floor": 0.6}


def test_a_floor_needs_somebody_to_watch_it_and_somebody_above_it() -> None:
    assert grouped_plan(pruning=GUARDED).pruning.floor == 0.6
    with pytest.raises(PlanError, match=r"floor 0\.6 is watched by nobody: set guard to hold"):
        grouped_plan(pruning={"floor": 0.6})
    with pytest.raises(PlanError, match=r"floor 0\.6 has nobody above it: name evaluation"):
        small_plan(pruning=GUARDED)
    for floor in (-0.1, 1.0):
        with pytest.raises(PlanError, match="floor"):
            grouped_plan(pruning=GUARDED | {"floor": floor})


def test_hash_covers_who_is_looked_at_apart_but_not_the_order_of_pools() -> None:
    plan = grouped_plan()
    changes: list[dict[str, Any]] = [
        {"groups": ["sex"], "cuts": {}},
        {"groups": ["age", "sex"]},
        {"cuts": {"age": [30, 51]}},
        {"pools": {"north": NORTH}},
        {"pools": {"north": SOUTH, "south": NORTH}},
    ]
    digests = {grouped_plan(evaluation=change).digest() for change in changes}
    digests |= {plan.digest(), grouped_plan(pruning=GUARDED).digest()}
    digests.add(grouped_plan(pruning=GUARDED | {"floor": 0.7}).digest())
    assert len(digests) == len(changes) + 3
    swapped = grouped_plan(evaluation={"pools": dict(sorted(POOLS.items()))})
    assert swapped.digest() == plan.digest()
    assert (swapped, hash(swapped)) == (plan, hash(plan))
    assert hash(plan) != hash(grouped_plan(evaluation=changes[0]))
    assert segments_of(swapped, 2, 40) == segments_of(plan, 2, 40)
    assert plan_from_dict(tomllib.loads(plan.to_toml())) == plan


def test_counts_must_fit_the_ring() -> None:
    many = [{"name": f"i{index}", "size": 8_200} for index in range(4)]
    fields = plan_fields(institutions=many, privacy={"delta": 1e-5})
    assert plan_from_dict(fields | {"aggregation": {"ring_bits": 17}}).names
    with pytest.raises(PlanError, match=r"4 x 8200 records overflow a ring of 16 bits: raise"):
        plan_from_dict(fields | {"aggregation": {"ring_bits": 16}})


@pytest.mark.parametrize("section", ["", *SECTIONS, "schema"])
def test_unknown_key_is_refused(section: str) -> None:
    fields = deepcopy(small_plan().to_dict())
    (fields[section] if section else fields)["colour"] = 1
    with pytest.raises(PlanError, match=rf"{section and section + '.'}colour 1: unknown key"):
        plan_from_dict(fields)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(PlanError, match=r"training\.rounds 0: .*; privacy\.delta 2: "):
        small_plan(training={"rounds": 0}, privacy={"delta": 2})


def test_plan_is_frozen() -> None:
    plan = small_plan()
    with pytest.raises(ValidationError, match="frozen"):
        plan.training.rounds = 9


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        (b"name = ", "not readable"),
        (b"\xff", "not readable"),
        (b"", ": name: "),
    ],
)
def test_bad_file_is_one_line(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "plan.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlanError, match=problem) as caught:
        load_plan(path)
    assert isinstance(caught.value, ConfigError)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_threshold_names_weights_and_batches_follow_from_the_members() -> None:
    plan = small_plan(institutions=FIELDS["institutions"][::-1])
    assert plan.threshold == 3
    assert small_plan(aggregation={"threshold": 4}).threshold == 4
    assert plan.names == tuple(SIZES)
    assert [plan.weight(name) for name in plan.names] == [1, 0.75, 0.5, 1]
    assert [plan.expected_batch(name) for name in plan.names] == pytest.approx(
        [0.2 * 0.72 * size for size in SIZES.values()]
    )


@pytest.mark.parametrize(("members", "threshold"), [(3, 3), (4, 3), (5, 4), (6, 5), (10, 7)])
def test_default_threshold_is_two_thirds_and_one(members: int, threshold: int) -> None:
    institutions = [{"name": f"i{index}", "size": 100} for index in range(members)]
    assert small_plan(institutions=institutions).threshold == threshold


def test_plain_sums_may_be_of_few() -> None:
    plan: Plan = small_plan(institutions=FIELDS["institutions"][:1], aggregation={"kind": "plain"})
    assert (plan.names, plan.threshold) == (("ash",), 1)


def test_a_customer_as_the_unit_divides_what_a_row_may_move() -> None:
    plan = small_plan()
    assert (plan.customer_cap, plan.rows_per_unit, plan.row_norm) == (None, 1, 1.0)
    plan = customer_plan(4, privacy={"max_grad_norm": 2.0})
    assert (plan.customer_cap, plan.rows_per_unit, plan.row_norm) == (4, 4, 0.5)
    named = customer_plan(1)
    assert (named.customer_cap, named.rows_per_unit) == (1, 1)
    by_record = small_plan(schema=FIELDS["schema"] | {"customer": "id"})
    assert len({plan.digest() for plan in (plan, named, by_record)}) == 3
    assert plan_from_dict(tomllib.loads(plan.to_toml())) == plan


@pytest.mark.parametrize(
    ("customer", "privacy", "problem"),
    [
        (None, {"unit": "id"}, r"unknown unit 'id'; known: record: set privacy\.unit"),
        ("id", {"unit": "x0"}, r"unknown unit 'x0'; known: record, id: set privacy\.unit"),
        ("id", {"unit": "ID"}, "unknown unit 'ID'; known: record, id"),
        ("id", {"unit": ""}, "unknown unit ''; known: record, id"),
        (
            "id",
            {"rows_per_customer": 2},
            "rows_per_customer 2 caps nothing where the unit is a rec",
        ),
        ("id", {"unit": "id", "rows_per_customer": 0}, r"privacy\.rows_per_customer 0"),
        ("id", {"unit": "id", "rows_per_customer": 1_001}, r"privacy\.rows_per_customer 1001"),
        ("record", {}, "customer column has the name of the other unit, 'record': rename"),
    ],
)
def test_a_unit_is_a_record_or_the_customer_that_the_schema_names(
    customer: str | None, privacy: dict[str, Any], problem: str
) -> None:
    schema = FIELDS["schema"] | ({} if customer is None else {"customer": customer})
    with pytest.raises(PlanError, match=problem) as caught:
        small_plan(schema=schema, privacy=privacy)
    assert "\n" not in str(caught.value)
