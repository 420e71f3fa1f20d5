"""What an institution is told before it approves is what will leave it."""

import re
from math import ceil
from pathlib import Path

import pytest
from flwr.app import RecordDict

from common.consent.words import plan_facts
from common.messages import UpdateReply
from common.plan import Plan
from simulations.cli import main
from tests.commands import invoke, trial_file, trial_plan

NAMES = ["ash", "birch", "cedar"]


def numbers(text: str) -> list[int]:
    return [int(found.replace(",", "")) for found in re.findall(r"([\d,]+) bytes", text)]


def leaving(plan: Plan) -> str:
    return dict(plan_facts(plan))["leaves you"]


@pytest.mark.parametrize("score", ["magnitude", "mean_magnitude"])
def test_no_more_leaves_than_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score: str
) -> None:
    # The largest of all rounds is one that is evaluated before anything is pruned.
    sections = {
        "pruning": {"score": score, "start": 0.5, "end": 0.7},
        "evaluation": {"groups": ["age_band"], "rounds": 4},
    }
    sent, pack = list[UpdateReply](), UpdateReply.to_record

    def noted(reply: UpdateReply) -> RecordDict:
        sent.append(reply)
        return pack(reply)

    monkeypatch.setattr(UpdateReply, "to_record", noted)
    run = ("run", trial_file(tmp_path, **sections), "--out", tmp_path / "out", "--seed", 1)
    outcome = invoke(main, *run)
    assert outcome.code == 0, outcome.err
    vector, beside = numbers(leaving(trial_plan(**sections)))
    assert max(len(reply.vector) for reply in sent) == vector
    others = [len(reply.advert) + len(reply.sealed) + len(reply.signature) for reply in sent]
    assert max(others) == beside


def test_magnitudes_are_named_where_they_leave() -> None:
    assert "magnitudes" not in leaving(trial_plan())
    said = leaving(trial_plan(pruning={"score": "mean_magnitude"}))
    assert re.search(r"in \d+ rounds, \d+ to \d+, the magnitudes of your own weights", said)


def test_plain_aggregation_sends_no_keys() -> None:
    plan = trial_plan(aggregation={"kind": "plain"}, evaluation={"noise": "none"})
    assert len(numbers(leaving(plan))) == 1
    assert numbers(leaving(plan))[0] < numbers(leaving(trial_plan()))[0] + ceil(128 / 8)


def test_who_is_counted_apart_is_named() -> None:
    assert "counted apart" not in dict(plan_facts(trial_plan()))
    south = ["elm", "oak", "yew"]
    institutions = [{"name": name, "size": 2600} for name in (*NAMES, *south)]
    evaluation = {"groups": ["age_band"], "pools": {"north": NAMES, "south": south}}
    plan = trial_plan(evaluation=evaluation, institutions=institutions)
    said = dict(plan_facts(plan))["counted apart"]
    assert said.startswith("age_band (age_band=")
    assert said.endswith("; pool north (ash, birch, cedar); pool south (elm, oak, yew)")


def test_what_a_person_at_several_institutions_spends_is_said() -> None:
    said = dict(plan_facts(trial_plan()))["held by many"]
    assert said == "epsilon adds up over the institutions that hold a person, to 6 at all 3"


@pytest.mark.parametrize(
    ("colluders", "said"),
    [(0, "unless an institution is at its side"), (1, "not even with 1 institution at its side")],
)
def test_whom_the_server_would_need_is_said(colluders: int, said: str) -> None:
    plan = trial_plan(aggregation={"colluders": colluders})
    assert dict(plan_facts(plan))["server sees"].endswith(said)
