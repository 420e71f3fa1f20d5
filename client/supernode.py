"""Flower's SuperNode, asking as often as there is something to ask for, and for nothing else.

A SuperNode without a message asks again after three seconds, and for a reply of its ClientApp
after half a second; no setting changes either. A round takes two trips, which would wait out
both every time, so the pauses of that one loop are made ours (`common.waiting.Pause`).

When a run ends while a message of it is on its way, Flower leaves the message's task behind. The
executor would take it and wait for hours for what never comes, while the messages of the next run
expire; so such tasks are finished here.
"""

import time
from collections.abc import Callable
from types import SimpleNamespace

from flwr.common.constant import Status, SubStatus
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.object_store import ObjectStore
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode
from flwr.supernode.nodestate import NodeState

from common.waiting import Pause, look_again_after

IDLE_SECONDS = 3.0
"""What Flower's loop sleeps when no message has come; all its other sleeps are shorter."""

BUSY_SECONDS = 0.05
"""Between looks, within this process, for the reply to a message that has come."""

UNFINISHED = (Status.PENDING, Status.STARTING, Status.RUNNING)


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


def tidy(pull: Callable[..., int | None]) -> Callable[..., int | None]:
    """Return Flower's ``pull`` of one message such that it leaves no task where it ends in none."""

    def pulled(*, state: NodeState, object_store: ObjectStore, **given: object) -> int | None:
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


def main() -> None:
    """Run ``flower-supernode`` on this process' arguments."""
    look_again_after(pull_objects, BUSY_SECONDS)
    flower = vars(start_client_internal)
    flower["_pull_and_store_message"] = tidy(flower["_pull_and_store_message"])
    flower["time"] = SimpleNamespace(sleep=paced(time.sleep))
    flower_supernode()


if __name__ == "__main__":
    main()
