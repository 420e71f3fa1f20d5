"""Flower's SuperNode, asking as often as there is something to ask for.

A SuperNode without a message asks again after three seconds, and for a reply of its ClientApp
after half a second; no setting changes either. A round takes two trips, which would wait out
both every time, so the pauses of that one loop are made ours (`common.waiting.Pause`).
"""

import time
from collections.abc import Callable
from types import SimpleNamespace

from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode

from common.waiting import Pause, look_again_after

IDLE_SECONDS = 3.0
"""What Flower's loop sleeps when no message has come; all its other sleeps are shorter."""

BUSY_SECONDS = 0.05
"""Between looks, within this process, for the reply to a message that has come."""


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


def main() -> None:
    """Run ``flower-supernode`` on this process' arguments."""
    look_again_after(pull_objects, BUSY_SECONDS)
    vars(start_client_internal)["time"] = SimpleNamespace(sleep=paced(time.sleep))
    flower_supernode()


if __name__ == "__main__":
    main()
