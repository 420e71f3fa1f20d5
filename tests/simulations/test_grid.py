"""The in-process grid shares nothing by accident and carries what it counts."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto

from simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid

Handler = Callable[[Message, Context], Message]
KEPT: list[Message | Context] = []


def grid_of(handler: Handler, *nodes: int) -> InProcessGrid:
    app = ClientApp()
    app.query("ask")(handler)
    return InProcessGrid(app, nodes or (2,))


def ask(grid: InProcessGrid, content: RecordDict, node: int = 2) -> Message:
    (reply,) = grid.send_and_receive([Message(content, node, "query.ask")])
    return reply


def echo(message: Message, context: Context) -> Message:
    """Return what came, and keep hold of everything that was seen."""
    KEPT[:] = [message, context]
    return Message(message.content, reply_to=message)


def numbers(record: RecordDict) -> list[float]:
    array = record["x"]
    assert isinstance(array, ArrayRecord)
    return [float(value) for value in array["0"].numpy()]


def with_numbers(*values: float) -> RecordDict:
    return RecordDict({"x": ArrayRecord({"0": Array(np.array(values))})})


def overwrite(record: RecordDict) -> None:
    record["x"] = ArrayRecord({"0": Array(np.array([7.0, 7]))})


def test_a_received_message_is_a_copy() -> None:
    grid, sent = grid_of(echo), with_numbers(1, 2)
    first = ask(grid, sent)
    received, _ = KEPT
    assert isinstance(received, Message)
    assert received.content is not sent
    assert numbers(received.content) == numbers(first.content) == [1, 2]
    overwrite(received.content)
    assert numbers(sent) == numbers(first.content) == [1, 2]
    overwrite(first.content)
    assert numbers(sent) == [1, 2]
    assert numbers(received.content) == [7, 7]


def test_mutating_what_was_sent_changes_nothing_later() -> None:
    sent = with_numbers(1, 2)
    grid = grid_of(echo)
    (identifier,) = grid.push_messages([Message(sent, 2, "query.ask")])
    overwrite(sent)
    (reply,) = grid.pull_messages([identifier])
    assert numbers(reply.content) == [1, 2]


def tally(message: Message, context: Context) -> Message:
    """Count in the context how often this node was asked, and hold on to the context."""
    record = context.state.setdefault("calls", ConfigRecord({"n": 0}))
    assert isinstance(record, ConfigRecord)
    count = record["n"]
    assert isinstance(count, int)
    record["n"] = count + 1
    KEPT[:] = [message, context]
    return Message(RecordDict({"calls": ConfigRecord({"n": count + 1})}), reply_to=message)


def calls(reply: Message) -> object:
    record = reply.content["calls"]
    assert isinstance(record, ConfigRecord)
    return record["n"]


def test_each_node_has_its_own_context_which_is_kept_but_not_shared() -> None:
    grid = grid_of(tally, 2, 3)
    assert [calls(ask(grid, RecordDict(), node)) for node in (2, 2, 3, 2)] == [1, 2, 1, 3]
    context = KEPT[1]
    assert isinstance(context, Context)
    assert (context.node_id, context.run_id) == (2, RUN_ID)
    context.state["calls"] = ConfigRecord({"n": 99})
    assert calls(ask(grid, RecordDict())) == 4


def test_bytes_are_those_of_the_messages() -> None:
    grid = grid_of(echo)
    assert (grid.bytes_down, grid.bytes_up) == (0, 0)
    reply = ask(grid, with_numbers(*range(1_000)))
    assert 8_000 < grid.bytes_down < 8_600
    assert grid.bytes_up == message_to_proto(reply).ByteSize()
    before = grid.bytes_down
    ask(grid, with_numbers(*range(2_000)))
    assert 16_000 < grid.bytes_down - before < 16_600


def test_replies_are_handed_out_once_and_by_identifier() -> None:
    grid = grid_of(echo, 2, 3)
    messages = [Message(with_numbers(node), node, "query.ask") for node in (2, 3)]
    first, second = grid.push_messages(messages)
    assert first != second
    (reply,) = grid.pull_messages([second, "unknown"])
    assert numbers(reply.content) == [3]
    assert reply.metadata.reply_to_message_id == second
    assert reply.metadata.src_node_id == 3
    assert list(grid.pull_messages([second])) == []
    assert [numbers(reply.content) for reply in grid.pull_messages([first, second])] == [[2]]


def test_who_is_absent_sees_nothing_and_answers_as_a_dead_node_does() -> None:
    app = ClientApp()
    app.query("ask")(echo)
    grid = InProcessGrid(app, [2, 3], lambda message: message.metadata.dst_node_id == 3)
    KEPT.clear()
    dead = ask(grid, with_numbers(1), 3)
    assert KEPT == []
    assert dead.has_error()
    assert dead.error.code == ErrorCode.NODE_UNAVAILABLE
    assert dead.metadata.src_node_id == SERVER_NODE
    alive = ask(grid, with_numbers(1), 2)
    assert not alive.has_error()
    assert alive.metadata.src_node_id == 2
    assert len(KEPT) == 2


def test_an_app_that_raises_is_not_hidden() -> None:
    def fail(message: Message, context: Context) -> Message:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(grid_of(fail), RecordDict())


def test_the_rest_of_flowers_interface() -> None:
    grid = grid_of(echo, 2, 5)
    assert list(grid.get_node_ids()) == [2, 5]
    assert grid.run.run_id == RUN_ID
    message = grid.create_message(with_numbers(4), "query.ask", 5, "group", ttl=9.0)
    (reply,) = grid.send_and_receive([message])
    assert (reply.metadata.group_id, message.metadata.ttl) == ("group", 9.0)
    assert numbers(reply.content) == [4]
    with pytest.raises(NotImplementedError, match="one run"):
        grid.set_run(grid.run)
