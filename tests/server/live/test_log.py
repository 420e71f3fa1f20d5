from functools import reduce

import pytest

from common.trail.events import (
    Admitted,
    Arrived,
    Asked,
    Event,
    Refused,
    Revoked,
    RunBegan,
    RunEnded,
    WasRefused,
    WasRefusedAgain,
)
from common.trail.lines import GENESIS, Author, written
from server.live.log import (
    MOST_LINES,
    MOST_REFUSALS,
    MOST_RUNS,
    LogStory,
    Refusal,
    Trips,
    said,
    told,
)
from tests.server.live.federations import HASH, PRIVATE


def story_of(*events: Event) -> LogStory:
    lines = written(events, Author("server", "spring"), 1_800_000_000, (0, GENESIS), PRIVATE)
    return reduce(told, lines, LogStory())


def refusal(name: str, reason: str = "budget") -> WasRefused:
    return WasRefused(institution=name, what="train.update", told=reason)


def asked(run: str, *cohort: str) -> Asked:
    hashes = dict.fromkeys(("plan", "roster", "descriptor", "model", "mask"), HASH)
    return Asked.model_validate({**hashes, "run": run, "round": 3, "epoch": 4, "cohort": cohort})


def test_refusals_of_both_sides_are_told() -> None:
    own = Refused(what="plan", told="refused", because="a reason of the server's own")
    again = WasRefusedAgain(institution="ash", what="train.update", told="policy", times=7)
    log = story_of(refusal("ash"), own, refusal("ash", "policy"), again)
    time = "2027-01-15T08:00:00Z"
    assert log.refusals == (
        Refusal(time, "ash", "train.update", "budget"),
        Refusal(time, "", "plan", "refused"),
        Refusal(time, "ash", "train.update", "policy"),
    )
    assert (log.refused, log.last_refusals) == (10, {"ash": "policy"})


def test_a_run_is_told_apart_from_others() -> None:
    log = story_of(
        RunBegan(run="a", plan=HASH, roster="", round=0),
        Arrived(run="a", institution="ash", plan=HASH, head=""),
        asked("a", "ash", "elm"),
        RunBegan(run="b", plan=HASH, roster="", round=0),
        RunEnded(run="a", outcome="failed", error="too few"),
    )
    assert log.runs == {
        "a": Trips(frozenset({"ash"}), frozenset({"ash", "elm"}), 3, "failed", "too few"),
        "b": Trips(),
    }
    again = story_of(
        RunEnded(run="a", outcome="failed", error="too few"),
        RunBegan(run="a", plan=HASH, roster="", round=3),
    )
    assert again.runs == {"a": Trips()}


def test_the_revoked_are_known_until_they_are_admitted_again() -> None:
    revoked = Revoked(institution="ash", signing_public=HASH, signers=())
    admitted = Admitted(institution="ash", signing_public=HASH, replaces="", signers=())
    assert story_of(revoked).revoked == {"ash"}
    assert story_of(revoked, admitted).revoked == frozenset()


def test_what_is_kept_is_bounded() -> None:
    runs = [RunBegan(run=f"r{number}", plan=HASH, roster="", round=0) for number in range(100)]
    log = story_of(*(refusal("ash") for _ in range(100)), *runs)
    assert len(log.refusals) == MOST_REFUSALS
    assert log.refused == 100
    assert [entry.sequence for entry in log.entries] == list(range(201 - MOST_LINES, 201))
    assert [*log.runs] == [f"r{number}" for number in range(100 - MOST_RUNS, 100)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"run": "ab" * 16, "round": 3}, "run abababababab, round 3"),
        ({"survivors": ["ash", "elm"], "heads": {HASH: ""}}, "survivors ash elm, heads 1"),
        ({"survivors": [f"bank-{n}" for n in range(50)]}, "survivors 50"),
        ({"epsilon": None, "told": ""}, ""),
        ({"error": "x" * 999}, "error " + "x" * 233 + "…"),
    ],
)
def test_an_event_is_said_in_short(fields: dict[str, object], expected: str) -> None:
    assert said(fields) == expected
