import inspect
import re

from flwr.supernode import start_client_internal

from client.supernode import BUSY_SECONDS, IDLE_SECONDS, paced


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
