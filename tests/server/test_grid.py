import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, Metadata, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ConfirmMessageReceivedResponse,
    PullObjectRequest,
    PullObjectResponse,
)
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.run import Run, RunNotRunningException
from flwr.superlink.grid import HttpGrid

from common.waiting import OBJECT_SECONDS, look_again_after
from server.grid import PatientGrid


class Link:
    """What SuperLink has of replies: some announced, of those some uploaded."""

    def __init__(self) -> None:
        self.announced: dict[str, Message] = {}
        self.replies: dict[str, Message] = {}
        self.objects: dict[str, bytes | None] = {}
        self.confirmed: list[str] = []
        self.stuck = threading.Event()

    def announce(self, asked: str, *, whole: bool) -> None:
        """Have a reply to ``asked`` come."""
        content = RecordDict({"body": ConfigRecord({"to": asked})})
        metadata = Metadata(1, "", 7, SUPERLINK_NODE_ID, asked, "", 0.0, 60.0, "query")
        reply = make_message(metadata, content=content)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        self.announced[asked] = self.replies[asked] = reply
        self.objects |= dict.fromkeys(get_all_nested_objects(reply))
        if whole:
            self.upload(asked)

    def upload(self, asked: str) -> None:
        """Have the rest of an announced reply come."""
        parts: dict[str, InflatableObject] = get_all_nested_objects(self.replies[asked])
        self.objects |= {name: part.deflate() for name, part in parts.items()}

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:  # noqa: N802
        found = [self.announced[one] for one in request.message_ids if one in self.announced]
        answer = PullAppMessagesResponse(
            messages_list=[message_to_proto(remove_content_from_message(one)) for one in found],
            message_object_trees=[get_object_tree(one) for one in found],
        )
        # Each is handed out once.
        self.announced = {k: one for k, one in self.announced.items() if one not in found}
        return answer

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:  # noqa: N802
        content = self.objects[request.object_id]
        if content is None:
            self.stuck.set()
        return PullObjectResponse(
            object_found=True, object_available=content is not None, object_content=content or b""
        )

    def ConfirmMessageReceived(  # noqa: N802
        self, request: ConfirmMessageReceivedRequest
    ) -> ConfirmMessageReceivedResponse:
        self.confirmed.append(request.message_object_id)
        return ConfirmMessageReceivedResponse()

    def close(self) -> None:
        pass


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def grid(link: Link, monkeypatch: pytest.MonkeyPatch) -> Iterator[PatientGrid]:
    monkeypatch.setattr(pull_objects, "__kwdefaults__", dict(pull_objects.__kwdefaults__ or {}))
    look_again_after(pull_objects, 0.01)
    made: Any = PatientGrid("127.0.0.1:1", None, token="token")
    made.set_run(Run.create_empty(1))
    made._client = link
    yield made
    made.close()


def until(grid: PatientGrid, *asked: str) -> list[Message]:
    """Ask until something comes."""
    while not (found := grid.pull_messages(asked)):
        pass
    return found


def answers(found: list[Message]) -> set[str]:
    return {one.metadata.reply_to_message_id for one in found}


def test_who_stops_in_the_middle_of_an_upload_keeps_no_other_waiting(
    grid: PatientGrid, link: Link
) -> None:
    for one in ("a", "b", "c"):
        link.announce(one, whole=one != "b")
    got: set[str] = set()
    while got != {"a", "c"}:
        got |= answers(until(grid, *({"a", "b", "c"} - got)))
    assert link.stuck.wait(10)
    assert grid.pull_messages(["b"]) == []
    assert len(link.confirmed) == 2


def test_what_was_announced_is_had_once_it_is_whole(grid: PatientGrid, link: Link) -> None:
    link.announce("late", whole=False)
    assert grid.pull_messages(["late"]) == []
    assert link.stuck.wait(10)
    link.upload("late")
    (found,) = until(grid, "late")
    assert found.content["body"]["to"] == "late"
    assert link.confirmed == [link.replies["late"].object_id]
    assert grid.pull_messages(["late"]) == [], "handed out twice"


def test_what_nobody_asks_for_any_more_is_let_go(grid: PatientGrid, link: Link) -> None:
    link.announce("given up", whole=False)
    assert grid.pull_messages(["given up"]) == []
    assert link.stuck.wait(10)
    (fetched,) = grid._fetched.values()
    assert grid.pull_messages(["next"]) == []
    (ended,) = fetched.result(timeout=30)
    assert ended.error.code == ErrorCode.MESSAGE_UNAVAILABLE
    link.announce("next", whole=True)
    assert answers(until(grid, "next")) == {"next"}


@pytest.mark.parametrize("body", [b"", b"ConfigRecord", b"\xff" * 40])
def test_a_reply_that_cannot_be_read_is_an_absence(
    grid: PatientGrid, link: Link, body: bytes
) -> None:
    for one in ("good", "bad"):
        link.announce(one, whole=True)
    name = link.replies["bad"].object_id
    head, _, _ = (link.objects[name] or b"").partition(b"\x00")
    link.objects[name] = head + b"\x00" + body
    got: list[Message] = []
    while len(got) < 2:
        got += until(grid, *({"good", "bad"} - answers(got)))
    assert {one.metadata.reply_to_message_id: one.has_error() for one in got} == {
        "good": False,
        "bad": True,
    }


def test_a_reply_by_its_sender_to_another_request_is_an_absence(
    grid: PatientGrid, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.announce("asked", whole=True)
    link.announce("other", whole=True)
    # What SuperLink keeps is a reply to "asked"; what was uploaded says it is one to "other".
    forged = message_to_proto(remove_content_from_message(link.replies["asked"]))
    forged.metadata.message_id = link.replies["other"].object_id
    answer = PullAppMessagesResponse(
        messages_list=[forged], message_object_trees=[get_object_tree(link.replies["other"])]
    )
    monkeypatch.setattr(link, "PullMessages", lambda _: answer)
    (found,) = until(grid, "asked")
    assert found.has_error()
    assert found.metadata.reply_to_message_id == "asked"


def test_nothing_lingers_after_the_end(grid: PatientGrid, link: Link) -> None:
    link.announce("a", whole=False)
    assert grid.pull_messages(["a"]) == []
    assert link.stuck.wait(10)
    (fetched,) = grid._fetched.values()
    grid.close()
    (ended,) = fetched.result(timeout=10 * OBJECT_SECONDS)
    assert ended.has_error()


def test_what_superlink_says_of_an_upload_reaches_who_asked(
    grid: PatientGrid, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: PullObjectRequest) -> PullObjectResponse:
        raise RunNotRunningException

    link.announce("a", whole=True)
    monkeypatch.setattr(link, "PullObject", refused)
    with pytest.raises(RunNotRunningException):
        until(grid, "a")


def test_flowers_own_waits(grid: PatientGrid, link: Link) -> None:
    """Once this fails, `PatientGrid` can go."""
    link.announce("a", whole=True)
    link.announce("b", whole=False)
    got: list[Message] = []
    thread = threading.Thread(target=lambda: got.extend(HttpGrid.pull_messages(grid, ["a", "b"])))
    thread.start()
    assert link.stuck.wait(10)
    thread.join(0.3)
    assert thread.is_alive()
    assert not got
    link.upload("b")
    thread.join(30)
    assert answers(got) == {"a", "b"}
