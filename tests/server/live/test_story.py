from functools import reduce

import pytest

from server.live.story import (
    CURVES,
    MOST_GROUPS,
    MOST_POINTS,
    Group,
    Noted,
    Part,
    Story,
    counted_apart,
    noted,
    summed_up,
    tabled,
)


def row(number: int, auc: str = "", **cells: str) -> dict[str, str]:
    fixed = {"survivors": "3", "sparsity": "0.5", "bytes_up": "100", "bytes_down": "90"}
    return fixed | {"round": str(number), "seconds": "0.2", "auc_validation": auc} | cells


def lines(*events: tuple[str, int]) -> Story:
    facts = [
        Noted(event=event, run="r", round=number, epoch=number + 1, survivors=("ash", "elm"))  # type: ignore[arg-type]
        for event, number in events
    ]
    return reduce(noted, facts, Story())


def test_the_journal_tells_stage_round_and_who_was_in_the_sums() -> None:
    story = lines(("began", 0), ("tried", 0), ("opening", 0), ("kept", 0), ("tried", 1))
    assert (story.run, story.stage, story.round, story.epoch, story.over) == ("r", "tried", 1, 2, 1)
    assert story.parts == {"ash": Part(1, 0), "elm": Part(1, 0)}
    after = noted(story, Noted(event="kept", round=1, survivors=("ash",)))
    assert after.parts == {"ash": Part(2, 1), "elm": Part(1, 0)}
    # Nothing that was folded before is altered.
    assert story.parts["ash"] == Part(1, 0)
    assert noted(after, Noted(event="finished")).stage == "finished"


def test_a_table_gives_points_and_the_latest_of_each() -> None:
    story = tabled(tabled(Story(), row(0, "0.7", auc_validation_sd="0.01")), row(1))
    assert story.points == (
        (0.0, 3.0, 0.5, 0.7, 0.01, 100.0, 90.0, 0.2),
        (1.0, 3.0, 0.5, None, None, 100.0, 90.0, 0.2),
    )
    assert story.latest == dict(zip(CURVES, story.points[1], strict=True))
    assert (story.evaluated["round"], story.evaluated["auc_validation"]) == (0, 0.7)


@pytest.mark.parametrize("cells", [{"round": ""}, {"round": "two"}, {"seconds": "nan"}])
def test_a_damaged_row_is_refused(cells: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"round|could not convert|finite"):
        tabled(Story(), row(0) | cells)


@pytest.mark.parametrize("auc", ["", "0.7"])
def test_long_runs_have_bounded_curves_from_first_to_last(auc: str) -> None:
    rounds = 5 * MOST_POINTS
    story = reduce(tabled, (row(number, auc) for number in range(rounds)), Story())
    assert MOST_POINTS / 4 < len(story.points) <= MOST_POINTS
    assert story.points[0][0] == 0
    assert story.points[-1][0] == pytest.approx(rounds, rel=0.02)
    assert story.latest["round"] == rounds - 1
    assert story.stride > 1


def test_rare_evaluations_outlast_the_thinning() -> None:
    rows = [row(number, "0.7" if number % 1001 == 1000 else "") for number in range(8000)]
    story = reduce(tabled, rows, Story())
    assert [int(p[0] or 0) for p in story.points if p[3]] == [
        number for number in range(8000) if number % 1001 == 1000
    ]


def test_groups_are_the_latest_and_bounded() -> None:
    first = {"round": "2", "part": "validation", "group": "sex=f", "auc": "0.7", "auc_sd": "0.02"}
    story = counted_apart(counted_apart(Story(), first), first | {"round": "4", "auc": ""})
    assert [*story.groups.values()] == [Group(4, "validation", "sex=f", None, 0.02)]
    for number in range(2 * MOST_GROUPS):
        story = counted_apart(story, first | {"group": f"g{number}"})
    assert len(story.groups) == MOST_GROUPS
    with pytest.raises(ValueError, match="invalid literal"):
        counted_apart(story, first | {"round": ""})


def test_a_summary_ends_a_simulation() -> None:
    story = summed_up(Story(), {"auc": 0.7, "auc_dense": "x", "interrupted": False})
    assert (story.stage, story.test) == ("finished", {"auc": 0.7})
    assert summed_up(Story(), {"interrupted": True}).stage == "interrupted"
