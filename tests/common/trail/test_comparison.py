from pathlib import Path

import pytest

from common.trail.comparison import differences
from common.trail.events import (
    Approved,
    Asked,
    Contributed,
    Event,
    ModelWritten,
    Refused,
    RefusedAgain,
    ReleaseFinal,
    ReleaseOffered,
    ReleaseReceived,
    RoundOver,
    SignedOff,
    VerdictTaken,
    WasRefused,
    WasRefusedAgain,
)
from common.trail.examination import Examined, read
from common.trail.file import FileTrail, files_of
from common.trail.refusals import TrailError
from tests.common.trail.logs import HASH, RUN, Logs, digest, honest_run, trail_at


def log(trail: FileTrail) -> Examined:
    found = read(files_of(trail.folder))
    found.require_whole()
    return found


def told(logs: Logs, name: str = "ash", run: str = "") -> list[str]:
    return list(differences(log(logs.server), log(logs.members[name]), run))


def retold(folder: Path, trail: FileTrail, change: object) -> FileTrail:
    """Return the log of an owner who tells another story from the beginning."""
    assert callable(change)
    author = log(trail).author
    assert author is not None
    other = trail_at(folder, author.name, author.role)
    for line in log(trail).lines[1:]:
        if (event := change(line.event)) is not None:
            other.append(event)
    return other


@pytest.mark.parametrize("rotate", [False, True])
def test_an_honest_run_is_told_alike(tmp_path: Path, rotate: bool) -> None:
    logs = honest_run(tmp_path, rotate=rotate)
    for name in logs.members:
        assert told(logs, name) == []
        assert told(logs, name, RUN) == []


def test_a_log_cut_since_its_head_was_noted_is_found_by_the_other_side(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)
    path = logs.server.folder / "log.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-4]))
    found = told(logs)
    assert any("federation's log lacks its own line" in one for one in found), found
    assert any("contributed, and the server did not ask it to" in one for one in found)
    logs = honest_run(tmp_path / "again")
    path = logs.members["ash"].folder / "log.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    found = told(logs)
    assert any("with its vector of round 2: it was cut or begun anew" in one for one in found)
    assert told(logs, "birch") == []


def test_a_survivor_that_never_contributed_is_named(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)

    def silent(event: Event) -> Event | None:
        return None if isinstance(event, Contributed) and event.round == 1 else event

    liar = Logs(logs.server, {"ash": retold(tmp_path / "liar", logs.members["ash"], silent)})
    found = told(liar)
    assert any(
        "round 1, epoch 2: the server counts ash among the survivors" in one for one in found
    )
    assert not any("round 0" in one and "survivors" in one for one in found)


@pytest.mark.parametrize("what", ["descriptor", "model", "mask", "plan"])
def test_what_was_sent_and_received_must_be_one(tmp_path: Path, what: str) -> None:
    logs = honest_run(tmp_path)

    def other(event: Event) -> Event:
        if isinstance(event, Contributed) and event.round == 2:
            return event.model_copy(update={what: digest("other", 2)})
        return event

    liar = Logs(logs.server, {"ash": retold(tmp_path / "liar", logs.members["ash"], other)})
    assert any(f"round 2, epoch 3: the server sent {what}" in one for one in told(liar))


def test_a_server_that_kept_an_attempt_to_itself_is_named(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)

    def hiding(event: Event) -> Event | None:
        return None if isinstance(event, Asked) and event.round == 1 else event

    liar = Logs(retold(tmp_path / "liar", logs.server, hiding), logs.members)
    found = told(liar)
    assert any("ash contributed, and the server did not ask it to" in one for one in found)
    # The members noted heads of the true log, under the same key: proof, not a contradiction.
    assert any("federation's log lacks its own line" in one for one in found)


def test_another_model_than_the_round_before_made_is_named(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)

    def swapped(event: Event) -> Event:
        if isinstance(event, RoundOver) and event.round == 0:
            return event.model_copy(update={"model": digest("other", 1)})
        return event

    liar = Logs(retold(tmp_path / "liar", logs.server, swapped), logs.members)
    assert any("another model or mask than round 0 ended with" in one for one in told(liar))


def test_survivors_that_differ_are_named(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)

    def fewer(event: Event) -> Event:
        if isinstance(event, RoundOver) and event.round == 0:
            return event.model_copy(update={"survivors": ("ash",)})
        return event

    liar = Logs(retold(tmp_path / "liar", logs.server, fewer), logs.members)
    assert any("opened a sum over ash, birch, the server says ash" in one for one in told(liar))


def test_refusals_approvals_and_runs_must_be_known_to_the_other_side(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)
    logs.server.append(WasRefused(institution="ash", what="update", told="privacy budget"))
    approved = {
        "number": 1,
        "charter": HASH,
        "plan": HASH,
        "roster": HASH,
        "authority": HASH,
        "address": "bank:1",
        "expires": 2,
        "by": "approval",
    }
    logs.members["ash"].append(Approved.model_validate(approved))
    strange = {"run": "other", "plan": HASH, "round": 0, "epoch": 1, "again": False, "head": ""}
    strange |= dict.fromkeys(("descriptor", "model", "mask"), HASH)
    logs.members["ash"].append(Contributed.model_validate(strange))
    found = told(logs)
    assert any(
        "heard ash refuse 'update' for 'privacy budget' 1 times more" in one for one in found
    )
    assert any(f"approved charter {HASH[:16]}, which the server's log" in one for one in found)
    assert any("ash contributed to run 'other'" in one for one in found)
    assert told(logs, run=RUN) == []
    assert told(logs, "birch") == []


def test_folded_refusals_count_as_often_as_they_say(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)
    heard = WasRefused(institution="ash", what="update", told="privacy budget")
    logs.server.append(*[heard] * 3)
    logs.members["ash"].append(
        Refused(what="update", told="privacy budget", because="own words"),
        RefusedAgain(what="update", told="privacy budget", times=2),
    )
    assert told(logs) == []
    logs.server.append(WasRefusedAgain(**heard.model_dump(), times=4))
    assert any("4 times more" in one for one in told(logs))
    assert told(logs, "birch") == []
    # A reason that only a later release knows is folded with its like at the server.
    strange = WasRefused(institution="birch", what="update", told="a later reason")
    other = WasRefusedAgain(institution="birch", what="update", told="other", times=1)
    logs.server.append(strange, other)
    assert any("for 'other' 2 times more" in one for one in told(logs, "birch"))
    own = Refused(what="update", told="a later reason", because="own words")
    logs.members["birch"].append(own, own)
    assert told(logs, "birch") == []


def test_logs_in_the_wrong_places_are_refused(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)
    ash = log(logs.members["ash"])
    with pytest.raises(TrailError, match="the server's log first"):
        list(differences(ash, ash))
    with pytest.raises(TrailError, match="run 'other' is not in the server's log; known: run"):
        told(logs, run="other")


RELEASE = {"run": RUN, "release": digest("release", 1)}
MODEL = {"model": digest("model", 3), "mask": digest("mask", 3)}
OFFERED = ReleaseOffered.model_validate(RELEASE | MODEL | {"plan": HASH, "signers": (HASH,)})
RECEIVED = ReleaseReceived.model_validate(RELEASE | MODEL | {"plan": HASH})


def released(logs: Logs, offered: ReleaseOffered = OFFERED) -> None:
    """Add the honest release of the run's model, unless it is offered as another."""
    final = ReleaseFinal.model_validate(RELEASE | {"signed": ("ash",)})
    logs.server.append(ModelWritten.model_validate(MODEL | {"run": RUN, "round": 3}), offered)
    for member in logs.members.values():
        member.append(RECEIVED)
    logs.members["ash"].append(SignedOff.model_validate(RELEASE), final)
    said = VerdictTaken.model_validate(RELEASE | {"institution": "ash", "word": "sign-off"})
    logs.server.append(said, final)


def test_an_honest_release_is_told_alike(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)
    released(logs)
    for name in logs.members:
        assert told(logs, name) == told(logs, name, RUN) == []


@pytest.mark.parametrize("what", ["plan", "model", "mask"])
def test_a_release_that_came_as_another_is_named(tmp_path: Path, what: str) -> None:
    logs = honest_run(tmp_path)
    released(logs)
    other = {what: digest("other", 1)}
    swapped = retold(
        tmp_path / "birch2",
        logs.members["birch"],
        lambda one: one.model_copy(update=other) if isinstance(one, ReleaseReceived) else one,
    )
    found = told(Logs(logs.server, {"birch": swapped}), "birch", RUN)
    assert any(f"the server offered {what}" in one for one in found), found


def test_a_release_that_was_not_offered_is_named(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)
    logs.members["birch"].append(RECEIVED, RECEIVED.model_copy(update={"run": "unknown"}))
    found = told(logs, "birch")
    assert len([one for one in found if "the server did not offer it" in one]) == 2
    assert told(logs, "ash") == []


def test_a_release_of_another_model_than_was_written_is_named(tmp_path: Path) -> None:
    logs = honest_run(tmp_path)
    logs.server.append(OFFERED)
    assert any("another model or mask than it wrote" in one for one in told(logs))
    for what in MODEL:
        again = honest_run(tmp_path / what)
        released(again, OFFERED.model_copy(update={what: digest("other", 1)}))
        assert any("another model or mask than it wrote" in one for one in told(again, run=RUN))


@pytest.mark.parametrize("where", ["server", "birch"])
def test_a_sign_off_that_was_never_given_makes_no_release_final(tmp_path: Path, where: str) -> None:
    logs = honest_run(tmp_path)
    released(logs)
    trail = logs.server if where == "server" else logs.members[where]
    trail.append(ReleaseFinal.model_validate(RELEASE | {"signed": ("ash", "birch")}))
    assert any("birch, whose log has none" in one for one in told(logs, "birch"))
    assert told(logs, "ash") == []
