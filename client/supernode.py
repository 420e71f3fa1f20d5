"""Flower's SuperNode, asking as often as there is something to ask for.

A SuperNode without a message asks again after three seconds, and for a reply of its ClientApp
after half a second; no setting changes either. A round takes two trips, which would wait out
both every time, so the pauses of that one loop are made ours (`common.waiting.Pause`).
"""

import time
from collections.abc import Callable
from types import SimpleNamespace

from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode

from common.waiting import Pause

IDLE_SECONDS = 3.0
"""What Flower's loop sleeps when no message has come; all its other sleeps are shorter."""


def paced(sleep: Callable[[float], None]) -> Callable[[float], None]:
    """Return a sleep whose length follows how long no message has come."""
    idle, busy = Pause(0.1, IDLE_SECONDS), Pause(0.02, 0.5)

    def pause(seconds: float) -> None:
        if seconds < IDLE_SECONDS:
            idle.over()
            sleep(busy.next())
        else:
            busy.over()
            sleep(idle.next())

    return pause


def main() -> None:
    """Run ``flower-supernode`` on this process' arguments."""
    vars(start_client_internal)["time"] = SimpleNamespace(sleep=paced(time.sleep))
    flower_supernode()


if __name__ == "__main__":
    main()
