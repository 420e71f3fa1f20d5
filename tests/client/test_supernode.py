import inspect
import logging
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from flwr.app import ConfigRecord, Message, Metadata, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID, Status, SubStatus
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.date import now
from flwr.supercore.error import ApiErrorCode
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.logger import LOGGER_NAME
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.nodestate import NodeState, NodeStateFactory

from client.consent import AUTHORITY, NODE_KEY
from client.supernode import (
    AWAY_SECONDS,
    BUSY_SECONDS,
    HANDOVER_SECONDS,
    IDLE_SECONDS,
    NOT_ACTIVATED,
    UNFINISHED,
    WHY,
    explained,
    lasting_heartbeat,
    lasting_retries,
    paced,
    tidy,
    whole,
)
from client.up import children
from common.handover import AskedOnce
from common.processes import write_secret

REQUEST = httpx.Request("POST", "https://fed.example/v1/fleet/pull-messages")


def test_pauses_grow_while_no_message_comes_and_shrink_with_one() -> None:
    slept: list[float] = []
    sleep = paced(slept.append)
    for _ in range(30):
        sleep(IDLE_SECONDS)
    assert slept[0] == 0.1
    assert slept[-1] == IDLE_SECONDS
    sleep(0.5)
    assert slept[-1] == BUSY_SECONDS
    sleep(IDLE_SECONDS)
    assert slept[-1] == 0.1


def test_flowers_loop_sleeps_as_this_expects() -> None:
    source = inspect.getsource(start_client_internal)
    assert re.findall(r"\btime\.(\w+)\((.*?)\)", source) == [
        ("sleep", f"{IDLE_SECONDS:g}"),
        ("sleep", "0.5"),
        ("sleep", "0.5"),
    ]


class Node:
    """A SuperNode's state, and what its loop does with the one message that is there."""

    def __init__(self) -> None:
        factory = ObjectStoreFactory()
        self.store = factory.store()
        self.state: NodeState = NodeStateFactory(factory).state()
        self.state.set_node_id(1)
        self.state.store_run(Run.create_empty(1))

    def pull(self, loop: Callable[..., int | None], *, over: bool) -> Any:
        def pull_object(_: int, name: str) -> bytes:
            if over:
                raise RunNotRunningException
            return get_all_nested_objects(message)[name].deflate()

        message = Message(RecordDict(), 1, "query")
        message.metadata.__dict__["_message_id"] = message.object_id
        tree: ObjectTree = get_object_tree(message)
        return loop(
            state=self.state,
            object_store=self.store,
            node_config={},
            receive=lambda: (message, tree),
            get_run=None,
            get_fab=None,
            pull_object=pull_object,
            confirm_message_received=lambda *_: None,
            trusted_entities=None,
        )

    def unfinished(self) -> int:
        return len(self.state.get_tasks(statuses=UNFINISHED))


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    for part in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, part, 1)
    return Node()


LOOP = vars(start_client_internal)["_pull_and_store_message"]


def test_flower_leaves_a_task_of_a_run_that_ended(node: Node) -> None:
    assert node.pull(LOOP, over=True) is None
    assert node.unfinished() == 1, "Flower has mended it: `tidy` can go"


def test_no_task_is_left_of_a_run_that_ended(node: Node) -> None:
    assert node.pull(tidy(LOOP), over=True) is None
    assert node.unfinished() == 0
    assert not node.state.get_messages_legacy()


def test_flower_keeps_every_task_for_good(node: Node) -> None:
    for _ in range(3):
        finish(node, LOOP)
    assert len(node.state.get_tasks()) == 3, "Flower has mended it: `forget_finished` can go"


def test_tasks_that_are_over_are_forgotten_with_the_next_message(node: Node) -> None:
    for _ in range(3):
        finish(node, tidy(LOOP))
        assert len(node.state.get_tasks()) == 1


def finish(node: Node, loop: Callable[..., int | None]) -> None:
    """Have a message come and its task be done."""
    assert node.pull(loop, over=False) == 1
    (task,) = node.state.get_tasks(statuses=UNFINISHED)
    assert node.state.claim_task(task.task_id)
    assert node.state.activate_task(task.task_id)
    assert node.state.finish_task(task.task_id, SubStatus.COMPLETED, "")
    node.state.delete_messages()


def test_the_task_of_a_message_that_came_stays(node: Node) -> None:
    assert node.pull(tidy(LOOP), over=False) == 1
    (task,) = node.state.get_tasks(statuses=UNFINISHED)
    assert node.state.claim_task(task.task_id)
    assert node.state.activate_task(task.task_id)
    # Its reply was sent, and its context is on its way when the next message is given up.
    assert node.pull(tidy(LOOP), over=True) is None
    (still,) = node.state.get_tasks(statuses=UNFINISHED)
    assert (still.task_id, still.status.status) == (task.task_id, Status.RUNNING)
    assert node.state.finish_task(task.task_id, SubStatus.COMPLETED, "")


PUSH = vars(start_client_internal)["_push_messages"]


class Reply:
    """A reply whose executor has announced it to its SuperNode, and handed over nothing of it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        content = RecordDict({"body": ConfigRecord({"some": 1})})
        metadata = Metadata(1, "", 1, SUPERLINK_NODE_ID, "asked", "", 0.0, 60.0, "query")
        self.message = make_message(metadata, content=content)
        self.message.metadata.__dict__["_message_id"] = self.message.object_id
        node.store.preregister(1, get_object_tree(self.message))
        node.state.store_message(remove_content_from_message(self.message))
        self.sent: list[str] = []

    def hand_over(self, *_: object) -> None:
        for name, part in get_all_nested_objects(self.message).items():
            self.node.store.put(name, part.deflate())

    def push(self, push: Callable[..., None]) -> None:
        def send(message: Message, tree: ObjectTree, _: float) -> tuple[set[str], str]:
            self.sent.append(message.metadata.message_id)
            return {part.object_id for part in iterate_object_tree(tree)}, "session"

        def push_object(_: int, __: str, name: str, ___: bytes) -> None:
            self.sent.append(name)

        state = Mock(wraps=self.node.state, get_message_processing_duration=lambda **_: 1.0)
        push(state=state, object_store=self.node.store, send=send, push_object=push_object)


def test_flower_announces_a_reply_that_is_not_there(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = Reply(node)
    slept = Mock(side_effect=reply.hand_over)
    monkeypatch.setattr(start_client_internal, "time", SimpleNamespace(sleep=slept))
    reply.push(PUSH)
    assert reply.sent[0] == reply.message.object_id
    assert slept.call_count == 1, "Flower has mended it: `whole` can go"


def test_a_reply_is_announced_once_all_of_it_is_there(node: Node) -> None:
    reply = Reply(node)

    def sleep(_: float) -> None:
        assert not reply.sent
        reply.hand_over()

    reply.push(whole(PUSH, sleep))
    announced, *parts = reply.sent
    assert announced == reply.message.object_id
    assert set(parts) == set(get_all_nested_objects(reply.message))
    assert not node.state.get_messages_legacy()


def test_the_reply_of_an_executor_that_died_is_never_announced(node: Node) -> None:
    reply = Reply(node)
    slept: list[float] = []
    reply.push(whole(PUSH, slept.append))
    assert not reply.sent
    assert sum(slept) == pytest.approx(HANDOVER_SECONDS, abs=BUSY_SECONDS)
    assert not node.state.get_messages_legacy()
    assert node.store.get(reply.message.object_id) is None, "what came of it is kept"


def test_flowers_connection_takes_both_from_its_module() -> None:
    source = inspect.getsource(fleet_http_connection)
    assert source.count("make_simple_http_retry_invoker()") == 1
    assert source.count("HeartbeatSender(") == 1


def answered(code: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError("", request=REQUEST, response=httpx.Response(code))


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred"),
        httpx.ConnectTimeout("_ssl.c:989: The handshake operation timed out"),
        httpx.ReadTimeout("The read operation timed out"),
        httpx.ReadError("[Errno 104] Connection reset by peer"),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        answered(502),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_network_that_fails_is_tried_again(error: httpx.HTTPError) -> None:
    asked = Mock(side_effect=[error, error, "done"])
    retries = lasting_retries()
    waited: list[float] = []
    retries.wait_function = waited.append
    assert retries.invoke(asked) == "done"
    assert len(waited) == 2


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired"),
        answered(404),
        answered(500),
    ],
    ids=str,
)
def test_what_no_attempt_will_change_is_not_tried_again(error: httpx.HTTPError) -> None:
    asked = Mock(side_effect=[error, "done"])
    with pytest.raises(type(error)):
        lasting_retries().invoke(asked)


def test_a_server_that_is_back_is_found_soon() -> None:
    assert max(islice(lasting_retries().wait_gen_factory(), 20)) == AWAY_SECONDS


@pytest.mark.parametrize("error", [answered(500), RuntimeError("not recognised")], ids=repr)
def test_heartbeats_outlast_one_that_was_not_taken(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = threading.Event()
    errors = [error]

    def beat() -> bool:
        if errors:
            raise errors.pop()
        taken.set()
        return True

    monkeypatch.setattr("flwr.supercore.retry.retry_invoker.random.uniform", lambda *_: 0.0)
    sender = lasting_heartbeat(beat)
    sender.start()
    try:
        assert taken.wait(20)
    finally:
        sender.stop()


def test_flower_waits_for_ever_for_an_executor_that_took_a_task_and_died(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.pull(LOOP, over=False)
    (task,) = node.state.get_tasks(statuses=UNFINISHED)
    assert node.state.claim_task(task.task_id)
    assert node.state.activate_task(task.task_id)
    monkeypatch.setattr(in_memory_corestate, "now", lambda: now() + timedelta(hours=1))
    assert node.unfinished() == 0, "Flower knows that it died"
    assert not node.state.get_messages_legacy(is_reply=True), "Flower has mended it"


def test_an_executor_that_ends_takes_its_supernode_along(tmp_path: Path) -> None:
    write_secret(tmp_path / NODE_KEY, b"key")
    (tmp_path / AUTHORITY).write_bytes(b"certificate")
    (tmp_path / "server").write_text("a:1")
    made = children(tmp_path, tmp_path / "server", 1, AskedOnce())
    kept = {child.name: child for child in made}
    assert kept["executor"].takes == ("supernode",)
    assert not kept["supernode"].takes, "an executor keeps its table while a SuperNode is away"


@pytest.mark.parametrize(
    ("said", "why"),
    [("Exit Code: 305\n%s Failed to activate.", True), ("Exit Code: 305\nno route, not %s", False)],
)
def test_a_refused_node_is_told_what_that_means(said: str, why: bool) -> None:
    code = int(ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED)
    told = f"[code: {code}]" if why else "[code: 1]"
    record = logging.LogRecord(LOGGER_NAME, logging.ERROR, "", 0, said, (told,), None)
    assert explained(record)
    assert LOGGER_NAME == "flwr"
    assert told == NOT_ACTIVATED or not why
    assert record.getMessage() == said % told + (f"\n{WHY}" if why else "")
