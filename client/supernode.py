"""Flower's SuperNode, asking as often as there is something to ask for, and through any cut.

A SuperNode without a message asks again after three seconds, and for a reply of its ClientApp
after half a second; no setting changes either. A round takes two trips, which would wait out
both every time, so the pauses of that one loop are made ours (`common.waiting.Pause`).

When a run ends while a message of it is on its way, Flower leaves the message's task behind. The
executor would take it and wait for hours for what never comes, while the messages of the next run
expire; so such tasks are finished here. Finished ones it keeps as long as it lives; here they go.

It announces a reply before the executor has handed over what is in it. Of one that died in between
SuperLink would wait three minutes for the rest, and so would this loop, which nothing else leaves.

It takes each failure that names SSL for a wrong certificate and leaves: a handshake that was cut
off or swallowed, too. SuperLink then refuses its successor until its last heartbeat has expired,
so here only a wrong certificate ends it. A heartbeat that SuperLink could not answer ended its
heartbeats for good, while it went on asking for messages that no one sends to a dead node.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
from flwr.app import Message
from flwr.common.constant import Status, SubStatus
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.object_store import ObjectStore
from flwr.supercore.retry import RetryInvoker, exponential, make_simple_http_retry_invoker
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli import flower_supernode
from flwr.supernode.nodestate import InMemoryNodeState

from common.waiting import Pause, look_again_after

log = logging.getLogger("fedprune.client")

IDLE_SECONDS = 3.0
"""What Flower's loop sleeps when no message has come; all its other sleeps are shorter."""

BUSY_SECONDS = 0.05
"""Between looks, within this process, for the reply to a message that has come."""

AWAY_SECONDS = 5
"""The longest pause between attempts to reach a server that is away; Flower's is 20."""

WRONG_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
"""In what OpenSSL says of a server that is another, which no attempt will change."""

HANDOVER_SECONDS = 20.0
"""For what a reply holds to come from the executor beside it, once the reply itself is there."""

UNFINISHED = (Status.PENDING, Status.STARTING, Status.RUNNING)

NOT_ACTIVATED = "[code: 2004]"
WHY = (
    "The server refuses this institution's node: its key is no member's (not admitted yet, revoked"
    " or replaced), or another node is connected by it. Ask an operator for the latest bundle."
)
"""SuperLink tells its own log which of them it is."""


def paced(sleep: Callable[[float], None]) -> Callable[[float], None]:
    """Return a sleep whose length follows how long no message has come."""
    idle = Pause(0.1, IDLE_SECONDS)

    def pause(seconds: float) -> None:
        if seconds < IDLE_SECONDS:
            idle.over()
            sleep(min(seconds, BUSY_SECONDS))
        else:
            sleep(idle.next())

    return pause


def forget_finished(state: InMemoryNodeState) -> None:
    """Drop the tasks that are over: Flower keeps them for good, and looks through them all."""
    with state.lock_task_store:
        tasks = state.task_store.items()
        for number in [one for one, task in tasks if task.status.status == Status.FINISHED]:
            del state.task_store[number]


def tidy(pull: Callable[..., int | None]) -> Callable[..., int | None]:
    """Return Flower's ``pull`` of one message such that it leaves no task where it ends in none."""

    def pulled(
        *, state: InMemoryNodeState, object_store: ObjectStore, **given: object
    ) -> int | None:
        forget_finished(state)
        before = {task.task_id for task in state.get_tasks(statuses=UNFINISHED)}
        run = pull(state=state, object_store=object_store, **given)
        left = {task.task_id: task.run_id for task in state.get_tasks(statuses=UNFINISHED)}
        # That of the message before may not have ended yet: its reply came, its context comes.
        left = {task: number for task, number in left.items() if task not in before}
        if run is not None or not left:
            return run
        for task in left:
            state.finish_task(task, SubStatus.FAILED, "its message was given up")
        for message in state.get_messages_legacy(run_ids=list(left.values()), is_reply=False):
            object_store.delete(message.metadata.message_id)
            state.delete_messages(message_ids=[message.metadata.message_id])
        return None

    return pulled


def whole(push: Callable[..., None], sleep: Callable[[float], None]) -> Callable[..., None]:
    """Return Flower's ``push`` of replies such that it announces none before all of it is here."""

    def pushed(
        *,
        state: InMemoryNodeState,
        object_store: ObjectStore,
        send: Callable[[Message, ObjectTree, float], tuple[set[str], str]],
        **given: object,
    ) -> None:
        def send_whole(message: Message, tree: ObjectTree, took: float) -> tuple[set[str], str]:
            parts = [part.object_id for part in iterate_object_tree(tree)]
            left = HANDOVER_SECONDS
            while not all(map(object_store.get, parts)):
                if left <= 0:
                    raise TimeoutError("the executor ended before its reply was whole")
                sleep(BUSY_SECONDS)
                left -= BUSY_SECONDS
            return send(message, tree, took)

        push(state=state, object_store=object_store, send=send_whole, **given)

    return pushed


def lasting_retries() -> RetryInvoker:
    """Return Flower's retries, without an end while the network is what fails."""
    invoker = make_simple_http_retry_invoker()
    hopeless = invoker.should_giveup

    def give_up(error: Exception) -> bool:
        if isinstance(error, httpx.TransportError):
            return WRONG_CERTIFICATE in str(error)
        return hopeless is not None and hopeless(error)

    invoker.should_giveup = give_up
    invoker.wait_gen_factory = partial(exponential, max_delay=AWAY_SECONDS)
    return invoker


def lasting_heartbeat(beat: Callable[[], bool]) -> HeartbeatSender:
    """Return Flower's heartbeats, which go on after one that SuperLink could not answer."""

    def lasting() -> bool:
        try:
            return beat()
        except (httpx.HTTPStatusError, RuntimeError) as error:
            log.warning("a heartbeat was not taken, and is sent again: %s", error)
            return False

    return HeartbeatSender(lasting)


def explained(record: logging.LogRecord) -> bool:
    """Say what Flower's refusal of a node means, which names none of its reasons."""
    if NOT_ACTIVATED in (said := record.getMessage()):
        record.msg, record.args = f"{said}\n{WHY}", ()
    return True


def read_from_files(arguments: Sequence[str]) -> list[str]:
    """Return arguments with what the files hold that ``@FILE`` names: it may have changed."""
    return [Path(one[1:]).read_text() if one.startswith("@") else one for one in arguments]


def main() -> None:
    """Run ``flower-supernode`` on this process' arguments."""
    sys.argv[1:] = read_from_files(sys.argv[1:])
    logging.getLogger("flwr").addFilter(explained)
    look_again_after(pull_objects, BUSY_SECONDS)
    flower = vars(start_client_internal)
    flower["_pull_and_store_message"] = tidy(flower["_pull_and_store_message"])
    flower["_push_messages"] = whole(flower["_push_messages"], time.sleep)
    flower["time"] = SimpleNamespace(sleep=paced(time.sleep))
    vars(fleet_http_connection)["make_simple_http_retry_invoker"] = lasting_retries
    vars(fleet_http_connection)["HeartbeatSender"] = lasting_heartbeat
    flower_supernode()


if __name__ == "__main__":
    main()
